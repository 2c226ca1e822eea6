#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The binary is position independent, its relocations are read-only, its stack is not executable and guarded."""
import os
import subprocess
import unittest

BIN = os.environ["P2PFL_BIN"]


def readelf(*args):
    return subprocess.run(["readelf", "-W", *args, BIN], capture_output=True, text=True, check=True).stdout


class Hardening(unittest.TestCase):
    def test_position_independent(self):
        self.assertRegex(readelf("-h"), r"Type:\s+DYN")

    def test_relocations_read_only_and_bound_at_start(self):
        self.assertIn("GNU_RELRO", readelf("-l"))
        self.assertRegex(readelf("-d"), r"BIND_NOW|FLAGS_1.*NOW")

    def test_stack_not_executable(self):
        line = [l for l in readelf("-l").splitlines() if "GNU_STACK" in l][0]
        self.assertNotIn("E", line.split()[-2])

    def test_stack_guarded_and_calls_fortified(self):
        symbols = readelf("--dyn-syms")
        self.assertIn("__stack_chk_fail", symbols)
        cache = open(os.path.join(os.environ["P2PFL_BUILD"], "CMakeCache.txt"), encoding="utf-8").read()
        if "CMAKE_BUILD_TYPE:STRING=Release" in cache:
            self.assertRegex(symbols, r"__(memcpy|vsnprintf|snprintf|memmove)_chk")


if __name__ == "__main__":
    unittest.main(verbosity=2)
