#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The program and the shared library: position independent, relocations read-only, no executable stack, guarded and fortified, and
no library is looked for in the folder that one happens to stand in."""
import os
import re
import subprocess
import unittest

BUILD = os.environ["P2PFL_BUILD"]
FILES = [os.environ["P2PFL_BIN"], os.path.join(BUILD, "libp2pfl.so")]


def readelf(file, *args):
    return subprocess.run(["readelf", "-W", *args, file], capture_output=True, text=True, check=True).stdout


def release():
    with open(os.path.join(BUILD, "CMakeCache.txt"), encoding="utf-8") as f:
        return "CMAKE_BUILD_TYPE:STRING=Release" in f.read()


class Hardening(unittest.TestCase):
    def test_position_independent(self):
        for file in FILES:
            self.assertRegex(readelf(file, "-h"), r"Type:\s+DYN")
            self.assertNotIn("TEXTREL", readelf(file, "-d"))
        self.assertRegex(readelf(FILES[0], "-d"), r"FLAGS_1\).*\bPIE\b")

    def test_relocations_read_only_and_bound_at_start(self):
        for file in FILES:
            self.assertIn("GNU_RELRO", readelf(file, "-l"))
            self.assertRegex(readelf(file, "-d"), r"FLAGS_1\).*\bNOW\b")

    def test_stack_not_executable(self):
        for file in FILES:
            flags = re.search(r"GNU_STACK(?:\s+0x\w+){5}\s+(\S+)", readelf(file, "-l"))
            self.assertEqual(flags[1], "RW")

    def test_no_search_path(self):
        for file in FILES:
            paths = re.findall(r"\((?:RPATH|RUNPATH)\).*", readelf(file, "-d"))
            self.assertEqual(paths, [], file)

    def test_stack_guarded_and_calls_fortified(self):
        for file in FILES:
            symbols = readelf(file, "--dyn-syms")
            self.assertIn("__stack_chk_fail", symbols)
            if release():
                self.assertRegex(symbols, r"__(memcpy|vsnprintf|snprintf|memmove)_chk")


if __name__ == "__main__":
    unittest.main(verbosity=2)
