# SPDX-License-Identifier: Apache-2.0
"""What `cmake --install` puts in place, and a C program outside the tree that embeds two nodes with it."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import node_kit  # noqa: E402
from node_kit import BUILD, SRC  # noqa: E402

SANITIZE = {"": [], "address": ["-fsanitize=address,undefined"], "thread": ["-fsanitize=thread"]}[node_kit.cache("PFL_SANITIZE")]
COMPILER = node_kit.cache("CMAKE_C_COMPILER") or "gcc"


def sh(*argv, env=None, timeout=120, cwd=None):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=timeout, cwd=cwd, env={**os.environ, **(env or {})})
    assert done.returncode == 0, f"{argv}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = Path(tempfile.mkdtemp(prefix="pfl-install-"))
        cls.addClassCleanup(shutil.rmtree, cls.dir)
        if not (BUILD / "libp2pfl.so").exists():
            sh("cmake", "--build", BUILD, "--target", "p2pfl", "libp2pfl_static", "libp2pfl_shared", timeout=170)
        cls.prefix = cls.dir / "usr"
        sh("cmake", "--install", BUILD, "--prefix", cls.prefix)
        (pc,) = cls.prefix.rglob("p2pfl.pc")
        cls.libdir = pc.parent.parent
        cls.pkg = {"PKG_CONFIG_PATH": str(pc.parent)}

    def compile(self, source, out, *more):
        flags = sh("pkg-config", "--cflags", "--libs", "p2pfl", env=self.pkg).split()
        sh(COMPILER, "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", source, *SANITIZE, "-o", out, *flags, "-lm", *more, cwd=self.dir)

    def test_files__binary_libraries_header_pkgconfig_and_manuals(self):
        self.assertEqual(sh(self.prefix / "bin" / "p2pfl", "--version").split()[-1],
                         sh("pkg-config", "--modversion", "p2pfl", env=self.pkg).strip())
        self.assertTrue((self.libdir / "libp2pfl.a").is_file())
        self.assertTrue((self.libdir / "libp2pfl.so").is_symlink())
        self.assertTrue((self.libdir / "libp2pfl.so.0").exists())
        self.assertEqual((self.prefix / "include/p2pfl/p2pfl.h").read_bytes(), (SRC / "include/p2pfl/p2pfl.h").read_bytes())
        self.assertEqual({p.name for p in (self.prefix / "share/p2pfl/python/p2pfl_learner").iterdir()},
                         {p.name for p in (SRC / "python/p2pfl_learner").glob("*.py")})
        pages = {p.name for p in (self.prefix / "share/man/man1").glob("*")}
        self.assertIn("p2pfl.1", pages)
        self.assertEqual(pages, {p.name for p in (SRC / "man").glob("*.1")})

    def test_destdir__the_pkgconfig_file_finds_its_way(self):
        stage = self.dir / "stage"
        sh("cmake", "--install", BUILD, "--prefix", "/opt/p2pfl", env={"DESTDIR": str(stage)})
        (pc,) = stage.rglob("p2pfl.pc")
        flags = sh("pkg-config", "--cflags", "p2pfl", env={"PKG_CONFIG_PATH": str(pc.parent)})
        include = Path(re.search(r"-I(\S+)", flags)[1])
        self.assertTrue((include / "p2pfl/p2pfl.h").is_file(), flags)
        self.assertIn(stage.resolve(), include.resolve().parents)

    def test_symbols__nothing_but_the_public_ones_is_exported(self):
        lines = sh("nm", "-D", "--defined-only", self.libdir / "libp2pfl.so").splitlines()
        exported = {line.split()[-1].split("@")[0] for line in lines}
        declared = set(re.findall(r"\b(p2pfl_[a-z_]+)\(", (SRC / "include/p2pfl/p2pfl.h").read_text()))
        self.assertEqual({s for s in exported if not s.startswith("p2pfl_")}, set())
        self.assertEqual(exported, declared)

    def test_header__strict_c_and_cxx(self):
        use = "#include <p2pfl/p2pfl.h>\nint main(void) { return p2pfl_version() == 0; }\n"
        (self.dir / "use.c").write_text(use)
        (self.dir / "use.cc").write_text(use)
        include = f"-I{self.prefix}/include"
        sh(COMPILER, "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wstrict-prototypes", "-Werror", "-fsyntax-only", include, self.dir / "use.c")
        sh("g++", "-std=c++11", "-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", include, self.dir / "use.cc")

    def test_embed__two_nodes_in_one_program__equal_models(self):
        shutil.copy(SRC / "examples/embed.c", self.dir / "embed.c")
        self.compile("embed.c", "embed")
        certs = self.dir / "certs"
        certs.mkdir()
        env = {"LD_LIBRARY_PATH": str(self.libdir)}
        bad = subprocess.run([self.dir / "embed", certs], capture_output=True, text=True, timeout=60, env={**os.environ, **env})
        self.assertEqual(bad.returncode, 1, bad.stderr)
        self.assertRegex(bad.stderr, r"alice/(ca|server)\.(crt|key)")  # a missing certificate is named: no fall-back
        node_kit.make_certificates(certs, ("alice", "bob"), binary=self.prefix / "bin" / "p2pfl")
        text = sh(self.dir / "embed", certs, env=env)
        self.assertRegex(text, r"^peers: 1 and 1; after 3 rounds: .* the two models are equal$")
        print(text.strip())


if __name__ == "__main__":
    unittest.main(verbosity=2)
