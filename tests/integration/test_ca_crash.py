# SPDX-License-Identifier: Apache-2.0
# once: dev
# timeout: 900
"""A CA that dies at every step of what it does, two CAs at once, a full disk, a read-only folder: the register and the files agree
after each, and the next act works."""
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from pki_kit import FILES, openssl  # noqa: E402

BUILD = Path(os.environ.get("P2PFL_BUILD") or Path(__file__).resolve().parents[2] / "build" / "dev")
BIN = os.environ.get("P2PFL_BIN") or str(BUILD / "p2pfl")
CRASH = str(BUILD / "ca_crash")
PASSPHRASE = "correct horse"


def run(*args, **kwargs):
    return subprocess.run([str(a) for a in args], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, **kwargs)


class Base(unittest.TestCase):
    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="pfl-crash-"))
        self.addCleanup(shutil.rmtree, self.dir)

    def act(self, *args):
        done = run(CRASH, 0, "before", *args)
        self.assertEqual(done.returncode, 0, f"{args}: {done.stderr}")
        return int(done.stdout)

    def check(self, ca, context):
        """Register and files of one CA folder; everything below its parent that is a node's certificate."""
        db = sqlite3.connect(f"file:{ca}/ca.db", uri=True)  # not read-only: it may have to recover
        self.assertEqual(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)], context)
        rows = dict(db.execute("SELECT serial, status FROM certificates"))
        count = db.execute("SELECT count(*), count(DISTINCT serial) FROM certificates").fetchone()
        db.close()
        self.assertEqual(count[0], count[1], context)
        self.assertNotIn("reserved", rows.values(), context)
        done = run(BIN, "ca", "audit", "--ca", ca, "--verify")
        self.assertEqual(done.returncode, 0, f"{context}: {done.stderr}")
        for crt in ca.parent.rglob("*.crt"):
            if "ca" in crt.name or "intermediate" in crt.name or not crt.read_bytes():
                continue
            serial = openssl("x509", "-in", crt, "-noout", "-serial").decode().strip().split("=")[1]
            self.assertIn(serial, rows, f"{context}: {crt} is not in the register")
        return rows

    def whole_or_absent(self, folder, context):
        if folder.exists():
            self.assertEqual(sorted(p.name for p in folder.iterdir()), sorted(FILES), context)


class EveryStep(Base):
    """kill -9 before each change to a file, and with half of a write done."""

    def each_step(self, base, *act, modes=("before", "half")):
        """Yields (folder of a fresh copy, what is being done) after each kill."""
        shutil.copytree(base, self.dir / "count")
        steps = self.act(*[str(a).replace("@", str(self.dir / "count")) for a in act])
        shutil.rmtree(self.dir / "count")
        self.assertGreater(steps, 10)
        killed = 0
        for mode in modes:
            for step in range(1, steps + 1):
                work = self.dir / "work"
                shutil.copytree(base, work)
                done = run(CRASH, step, mode, *[str(a).replace("@", str(work)) for a in act])
                self.assertIn(done.returncode, (0, -signal.SIGKILL), f"step {step} {mode}: {done.stderr}")
                killed += done.returncode != 0
                yield work, f"{act[0]} killed at step {step} of {steps}, {mode}"
                shutil.rmtree(work)
        self.assertGreater(killed, steps // 2)
        print(f"{act[0]}: {killed} kills at {steps} steps", file=sys.stderr)

    def base(self):
        base = self.dir / "base"
        self.act("init", base / "ca")
        self.act("issue", base / "ca", base / "first")
        return base

    def test_issue(self):
        for work, context in self.each_step(self.base(), "issue", "@/ca", "@/node"):
            rows = self.check(work / "ca", context)
            self.whole_or_absent(work / "node", context)
            self.assertIn(len(rows), (3, 5), context)
            self.act("issue", work / "ca", work / "next")
            self.assertEqual(len(self.check(work / "ca", context)), len(rows) + 2, context)
            openssl("verify", "-crl_check", "-CAfile", work / "ca/ca.crt", "-CRLfile", work / "ca/crl.pem", work / "next/server.crt")

    def requests(self, folder):
        folder.mkdir(parents=True)
        for side in ("server", "client"):
            openssl("req", "-new", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", folder / f"{side}.key",
                    "-out", folder / f"{side}.csr", "-subj", "/CN=new")
        self.public_key = openssl("pkey", "-in", folder / "client.key", "-pubout")

    def check_given(self, work, context):
        openssl("verify", "-crl_check", "-CAfile", work / "ca/ca.crt", "-CRLfile", work / "ca/crl.pem", work / "new/server.crt",
                work / "new/client.crt")
        self.assertEqual(openssl("x509", "-in", work / "new/client.crt", "-noout", "-pubkey"), self.public_key, context)

    def test_enrol(self):
        """The service's act for a new machine: the token is unused, or its certificates are there for who asks again."""
        base = self.base()
        self.requests(base / "new")
        made = run(BIN, "ca", "token", "--ca", base / "ca", "--name", "new", "--san", "IP:127.0.0.1", "--url", "ca.example:7443", "--json")
        self.assertEqual(made.returncode, 0, made.stderr)
        (base / "new/token").write_text(json.loads(made.stdout)["token"])
        for work, context in self.each_step(base, "enrol", "@/ca", "@/new", modes=("before",)):
            rows = self.check(work / "ca", context)
            self.assertIn(len(rows), (3, 5), context)
            self.act("enrol", work / "ca", work / "new")  # the machine asks again
            self.assertEqual(len(self.check(work / "ca", context)), 5, context)
            self.check_given(work, context)

    def test_renew(self):
        base = self.base()
        self.requests(base / "new")
        for side in ("server", "client"):  # the requests are for "new"; the present certificate says so too
            done = run(BIN, "ca", "sign", base / f"new/{side}.csr", "--ca", base / "ca", "--name", "new", "--san", "IP:127.0.0.1",
                       "--purpose", side, "--out", base / f"new/{side}-old.pem")
            self.assertEqual(done.returncode, 0, done.stderr)
        shutil.copy(base / "new/client-old.pem", base / "new/present.crt")
        for work, context in self.each_step(base, "renew", "@/ca", "@/new", modes=("before",)):
            rows = self.check(work / "ca", context)
            self.assertIn(len(rows), (5, 7), context)
            self.act("renew", work / "ca", work / "new")  # the old certificate goes on being good for that
            self.assertEqual(len(self.check(work / "ca", context)), len(rows) + 2, context)
            self.check_given(work, context)

    def test_init(self):
        (self.dir / "base").mkdir()
        for work, context in self.each_step(self.dir / "base", "init", "@/ca", modes=("before",)):
            if not (work / "ca").exists():
                self.act("init", work / "ca")  # nothing is in the way of the next attempt
            self.check(work / "ca", context)
            self.act("issue", work / "ca", work / "next")

    def test_init_in_a_folder_that_is_there(self):
        (self.dir / "base/ca").mkdir(parents=True)
        for work, context in self.each_step(self.dir / "base", "init", "@/ca", modes=("before",)):
            if (work / "ca/ca.crt").exists() and (work / "ca/ca.key").exists():
                self.act("issue", work / "ca", work / "next")  # what was missing is made when it is opened
                self.check(work / "ca", context)

    def test_revoke(self):
        for work, context in self.each_step(self.base(), "revoke", "@/ca", "node"):
            rows = self.check(work / "ca", context)
            revoked = [serial for serial, status in rows.items() if status == "revoked"]
            self.assertIn(len(revoked), (0, 2), context)  # both or none
            self.act("issue", work / "ca", work / "next")
            text = openssl("crl", "-in", work / "ca/crl.pem", "-noout", "-text").decode()
            for serial in revoked:
                self.assertIn(serial, text, f"{context}: revoked in the register, not on the list after the next open")

    def test_rollover(self):
        base = self.base()
        for step, roots in (("prepare", (1, 2)), ("activate", (2, 2)), ("finish", (2, 1))):
            for work, context in self.each_step(base, step, "@/ca", modes=("before",)):
                self.check(work / "ca", context)
                self.act("issue", work / "ca", work / "next")
                self.check(work / "ca", context)
                n = (work / "ca/bundle.pem").read_text().count("BEGIN")
                self.assertIn(n, roots, context)
                openssl("verify", "-CAfile", work / "next/ca.crt", work / "next/server.crt")
            self.act(step, base / "ca")

    def test_install(self):
        base = self.dir / "base"
        pw = self.dir / "pw"
        pw.write_text(PASSPHRASE)
        pw.chmod(0o600)
        for args in (["init", self.dir / "root", "--root-offline"], ["init", base / "ca", "--intermediate"],
                     ["sign-intermediate", base / "ca/ca.csr", "--ca", self.dir / "root", "--out", self.dir / "made.pem"]):
            done = run(BIN, "ca", *args, "--passphrase-file", pw)
            self.assertEqual(done.returncode, 0, done.stderr)
        openssl("pkey", "-in", base / "ca/ca.key", "-passin", f"file:{pw}", "-out", base / "ca/plain")
        (base / "ca/plain").rename(base / "ca/ca.key")  # the helper has no passphrase
        (base / "ca/ca.key").chmod(0o600)
        for work, context in self.each_step(base, "install", "@/ca", self.dir / "made.pem", modes=("before",)):
            self.act("install", work / "ca", self.dir / "made.pem")  # again is fine
            self.check(work / "ca", context)
            self.act("issue", work / "ca", work / "next")
            openssl("verify", "-crl_check_all", "-CAfile", work / "next/ca.crt", "-CRLfile", work / "ca/crl.pem", "-untrusted",
                    work / "next/server.crt", work / "next/server.crt")


class Live(Base):
    def setUp(self):
        super().setUp()
        self.ca = self.dir / "ca"
        self.act("init", self.ca)

    def issue(self, name, out=None, **kwargs):
        return run(BIN, "ca", "issue", name, "--ca", self.ca, "--san", "IP:127.0.0.1", "--out", out or self.dir / name, **kwargs)

    def test_kill_at_any_moment(self):
        started = time.monotonic()
        self.assertEqual(self.issue("first").returncode, 0)
        takes = time.monotonic() - started
        rng = random.Random(4711)
        killed = 0
        for i in range(25):
            child = subprocess.Popen([BIN, "ca", "issue", f"n{i}", "--ca", str(self.ca), "--san", "IP:127.0.0.1", "--out",
                                      str(self.dir / f"n{i}")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                child.wait(timeout=takes * rng.uniform(0.1, 1.1))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
                killed += 1
            self.check(self.ca, f"round {i}")
            self.whole_or_absent(self.dir / f"n{i}", f"round {i}")
        print(f"killed {killed} of 25", file=sys.stderr)
        self.assertEqual(self.issue("last").returncode, 0)

    def test_two_at_once(self):
        n = 50
        loop = f'for i in $(seq {n}); do "$0" ca issue $1$i --ca "$2" --san IP:127.0.0.1 --out "$3/$1$i" >/dev/null || exit 1; done'
        children = [subprocess.Popen(["/bin/sh", "-c", loop, BIN, who, str(self.ca), str(self.dir)], stderr=subprocess.PIPE)
                    for who in ("a", "b")]
        for child in children:
            _, said = child.communicate(timeout=600)
            self.assertEqual(child.returncode, 0, said)
        rows = self.check(self.ca, "two at once")
        self.assertEqual(len(rows), 4 * n + 1)
        serials = {openssl("x509", "-in", crt, "-noout", "-serial").decode().strip().split("=")[1]
                   for name in ("server.crt", "client.crt") for crt in self.dir.glob(f"[ab]*/{name}")}
        self.assertEqual(len(serials), 4 * n)
        self.assertLessEqual(serials, set(rows))
        self.assertRegex(min(serials), r"^[0-9A-F]{32}$")

    def test_full_disk(self):
        """Every limit of a file's size from nothing up: a clear error and nothing half-written, or it works."""
        refused = 0
        for kib in (0, 1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 256, 1024):
            def limit(size=kib * 1024):
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            name = f"n{kib}"
            done = self.issue(name, preexec_fn=limit)
            if done.returncode != 0:
                refused += 1
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertRegex(done.stderr, r"full|File too large|cannot", done.stderr)
                self.assertFalse((self.dir / name).exists())
            self.check(self.ca, f"{kib} KiB")
            self.assertEqual(list(self.dir.glob("*.new-*")), [])
        self.assertGreater(refused, 0)
        self.assertEqual(self.issue("last").returncode, 0)

    def test_out_folder_that_cannot_be_made(self):
        (self.dir / "file").write_text("")
        done = self.issue("a", out=self.dir / "file" / "a")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(len(self.check(self.ca, "no folder")), 1)  # found out before anything was registered

    def test_read_only_folder(self):
        if os.geteuid() == 0:  # root may write anywhere: the process drops to nobody, who owns the folder
            shutil.chown(self.dir, "nobody")
            for path in [self.ca, *self.ca.iterdir()]:
                shutil.chown(path, "nobody")
            user = {"user": "nobody"}
        else:
            user = {}
        self.ca.chmod(0o500)
        (self.ca / "ca.db").chmod(0o400)
        self.addCleanup(self.ca.chmod, 0o700)
        done = self.issue("a", out=self.dir / "a", cwd="/", **user)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, "read-only|cannot be opened|cannot write")
        self.assertFalse((self.dir / "a").exists())
        (self.ca / "ca.db").chmod(0o600)
        self.ca.chmod(0o700)
        self.assertEqual(self.issue("a", out=self.dir / "a", cwd="/", **user).returncode, 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
