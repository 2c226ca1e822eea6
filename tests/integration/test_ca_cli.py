# SPDX-License-Identifier: Apache-2.0
# once: dev
"""p2pfl ca and p2pfl cert, judged by OpenSSL's command line, and OpenSSL's certificates judged by p2pfl."""
import json
import os
import pty
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import pki_kit  # noqa: E402
from pki_kit import openssl  # noqa: E402

BIN = os.environ.get("P2PFL_BIN") or str(Path(__file__).resolve().parents[2] / "build" / "dev" / "p2pfl")
SECRET = "correct horse battery"


def p2pfl(*args, **kwargs):
    return subprocess.run([BIN, *map(str, args)], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, **kwargs)


class Base(unittest.TestCase):
    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="pfl-ca-"))
        self.addCleanup(shutil.rmtree, self.dir)
        self.pw = self.dir / "pw"
        self.pw.write_text(SECRET + "\nsecond line\n")
        self.pw.chmod(0o600)

    def ok(self, *args, **kwargs):
        done = p2pfl(*args, **kwargs)
        self.assertEqual(done.returncode, 0, f"{args}: {done.stdout}{done.stderr}")
        self.assertNotIn(SECRET, done.stdout + done.stderr)
        return done.stdout

    def refused(self, code, pattern, *args, **kwargs):
        done = p2pfl(*args, **kwargs)
        self.assertEqual(done.returncode, code, f"{args}: {done.stdout}{done.stderr}")
        self.assertRegex(done.stdout + done.stderr, pattern)
        self.assertNotIn(SECRET, done.stdout + done.stderr)

    def init(self, name="ca", *more):
        self.ok("ca", "init", self.dir / name, "--passphrase-file", self.pw, *more)
        return self.dir / name

    def issue(self, ca, name="a", *more, san="IP:127.0.0.1,DNS:localhost"):
        self.ok("ca", "issue", name, "--ca", ca, "--san", san, "--out", self.dir / name, "--passphrase-file", self.pw, *more)
        return self.dir / name


class Dispatcher(Base):
    def test_usage_errors_say_what_is_meant(self):
        self.refused(2, "usage: p2pfl")
        self.refused(2, "'crt' is no command, did you mean 'cert'", "crt")
        self.refused(2, "'xyzzyx' is no command", "xyzzyx")
        self.refused(2, "did you mean 'issue'", "ca", "isue")
        self.refused(2, "did you mean 'verify'", "cert", "verfy")
        self.refused(2, "init or issue", "ca")
        self.refused(2, "show, verify or renew", "cert")

    def test_help_everywhere(self):
        for args in ([], ["ca"], ["ca", "init"], ["ca", "issue"], ["ca", "sign"], ["ca", "list"], ["ca", "show"], ["ca", "revoke"], ["ca", "crl"],
                     ["ca", "audit"], ["ca", "sign-intermediate"], ["ca", "install"], ["ca", "rollover"], ["cert"], ["cert", "show"], ["cert", "verify"]):
            out = self.ok(*args, "--help")
            self.assertIn("usage: p2pfl", out)
            self.assertIn("exit codes", out)
        self.assertRegex(self.ok("--version"), r"^p2pfl \d+\.\d+\.\d+")


class Init(Base):
    def test_refusals(self):
        ca = self.dir / "ca"
        readable = self.dir / "readable"
        readable.write_text(SECRET)
        readable.chmod(0o644)
        self.refused(2, "the folder DIR is missing", "ca", "init", "--passphrase-file", self.pw)
        self.refused(2, "unknown option '--passphrase'|'--passphrase' is", "ca", "init", ca, f"--passphrase={SECRET}")
        self.refused(2, "--passphrase-fd 'x'", "ca", "init", ca, "--passphrase-fd", "x")
        self.refused(2, "exclude each other", "ca", "init", ca, "--passphrase-fd", "0", "--passphrase-file", self.pw)
        self.refused(2, "--days '0'", "ca", "init", ca, "--days", "0", "--passphrase-file", self.pw)
        self.refused(2, "rsa:N", "ca", "init", ca, "--key", "rsa:1024", "--passphrase-file", self.pw)
        self.refused(2, "--federation 'A'", "ca", "init", ca, "--federation", "A", "--passphrase-file", self.pw)
        self.refused(2, "'--days' needs a value", "ca", "init", ca, "--days")
        self.refused(1, "chmod", "ca", "init", ca, "--passphrase-file", readable)
        self.refused(1, "No such file", "ca", "init", ca, "--passphrase-file", self.dir / "none")
        self.refused(1, "passphrase", "ca", "init", ca, "--passphrase-fd", "0")  # /dev/null: empty
        self.refused(1, "descriptor 77", "ca", "init", ca, "--passphrase-fd", "77")
        self.refused(1, "no terminal.*--passphrase-file", "ca", "init", ca, start_new_session=True)
        self.assertFalse(ca.exists())

    def test_short_passphrase_is_refused(self):
        self.pw.write_text("short\n")
        self.refused(1, "at least 8", "ca", "init", self.dir / "ca", "--passphrase-file", self.pw)
        self.assertFalse((self.dir / "ca").exists())

    def test_existing_ca_stays_as_it_is(self):
        ca = self.init()
        before = (ca / "ca.key").read_bytes(), (ca / "ca.crt").read_bytes()
        self.refused(1, "not overwritten", "ca", "init", ca, "--passphrase-file", self.pw)
        self.assertEqual(before, ((ca / "ca.key").read_bytes(), (ca / "ca.crt").read_bytes()))

    def test_root_as_openssl_sees_it(self):
        ca = self.init("ca", "--name", "My Lab", "--federation", "lab", "--days", "100")
        text = openssl("x509", "-in", ca / "ca.crt", "-noout", "-text").decode()
        for wanted in (r"Subject: CN = My Lab", r"Basic Constraints: critical\s+CA:TRUE\n", r"Key Usage: critical\s+Certificate Sign, CRL Sign\n",
                       r"Subject Key Identifier", r"Authority Key Identifier", r"ecdsa-with-SHA256", r"prime256v1", r"URI:spiffe://lab\n"):
            self.assertRegex(text, wanted)
        self.assertEqual(stat.S_IMODE((ca / "ca.key").stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(ca.stat().st_mode), 0o700)
        openssl("verify", "-x509_strict", "-CAfile", ca / "ca.crt", ca / "ca.crt")

    def test_key_is_encrypted_with_aes_256(self):
        ca = self.init()
        text = openssl("asn1parse", "-in", ca / "ca.key").decode()
        self.assertIn("aes-256-cbc", text)
        self.assertIn("BEGIN ENCRYPTED PRIVATE KEY", (ca / "ca.key").read_text())
        openssl("pkey", "-in", ca / "ca.key", "-noout", "-passin", f"pass:{SECRET}")
        with self.assertRaises(AssertionError):
            openssl("pkey", "-in", ca / "ca.key", "-noout", "-passin", "pass:wrong")

    def test_every_kind_of_key(self):
        for kind, wanted in (("p384", "secp384r1"), ("ed25519", "ED25519"), ("rsa:3072", "3072 bit")):
            ca = self.init(kind.replace(":", ""), "--key", kind)
            self.assertIn(wanted, openssl("x509", "-in", ca / "ca.crt", "-noout", "-text").decode())
            node = self.issue(ca, "n" + kind.replace(":", ""), "--key", kind)
            openssl("verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", ca / "ca.crt", node / "server.crt")


class Passphrase(Base):
    def test_from_a_descriptor(self):
        r, w = os.pipe()
        os.write(w, SECRET.encode() + b"\n")
        os.close(w)
        self.ok("ca", "init", self.dir / "ca", "--passphrase-fd", r, pass_fds=[r])
        os.close(r)
        openssl("pkey", "-in", self.dir / "ca" / "ca.key", "-noout", "-passin", f"pass:{SECRET}")

    def on_terminal(self, args, answers):
        """Runs p2pfl on a terminal of its own; its exit code and all that the terminal showed. Answers follow the prompts."""
        pid, tty = pty.fork()
        if pid == 0:
            os.execv(BIN, [BIN, *map(str, args)])
        shown, answered = b"", 0
        while True:
            try:
                piece = os.read(tty, 4096)
            except OSError:
                break
            if not piece:
                break
            shown += piece
            if answered < len(answers) and len(re.findall(rb"[Pp]assphrase[^\n]*: ", shown)) > answered:
                argv = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
                self.assertNotIn(SECRET.encode(), argv)
                wait_for_no_echo(tty)
                os.write(tty, answers[answered].encode() + b"\n")
                answered += 1
        os.close(tty)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        self.assertEqual(answered, len(answers), shown)
        return code, shown.decode(errors="replace")

    def test_prompt_hides_and_asks_twice(self):
        code, shown = self.on_terminal(["ca", "init", self.dir / "ca"], [SECRET, SECRET])
        self.assertEqual(code, 0, shown)
        self.assertNotIn(SECRET, shown)
        openssl("pkey", "-in", self.dir / "ca" / "ca.key", "-noout", "-passin", f"pass:{SECRET}")
        code, shown = self.on_terminal(["ca", "issue", "a", "--ca", self.dir / "ca", "--san", "IP:::1", "--out", self.dir / "a"], [SECRET])
        self.assertEqual(code, 0, shown)
        self.assertNotIn(SECRET, shown)

    def test_prompt_with_two_answers_makes_nothing(self):
        code, shown = self.on_terminal(["ca", "init", self.dir / "ca"], [SECRET, SECRET + "x"])
        self.assertEqual(code, 1, shown)
        self.assertIn("differ", shown)
        self.assertFalse((self.dir / "ca").exists())


def wait_for_no_echo(tty):
    import termios
    deadline = time.monotonic() + 10
    while termios.tcgetattr(tty)[3] & termios.ECHO:
        assert time.monotonic() < deadline, "the terminal still echoes"
        time.sleep(0.01)


class Issue(Base):
    def test_refusals_leave_nothing(self):
        ca = self.init()
        out = self.dir / "a"
        base = ["ca", "issue", "a", "--ca", ca, "--out", out, "--passphrase-file", self.pw]
        self.refused(2, "--ca DIR is missing", "ca", "issue", "a", "--san", "IP:::1")
        self.refused(2, "--san is missing", *base)
        self.refused(2, "IP:… or DNS:…", *base, "--san", "127.0.0.1")
        self.refused(2, "not an IP address", *base, "--san", "IP:1.2.3")
        self.refused(2, "--role 'root'", *base, "--san", "IP:::1", "--role", "root")
        self.refused(2, "name 'A'", "ca", "issue", "A", "--ca", ca, "--san", "IP:::1")
        self.refused(2, "one NAME", *base, "b", "--san", "IP:::1")
        wrong = self.dir / "wrong"
        wrong.write_text("another passphrase\n")
        wrong.chmod(0o600)
        self.refused(1, "wrong passphrase", "ca", "issue", "a", "--ca", ca, "--san", "IP:::1", "--out", out, "--passphrase-file", wrong)
        self.refused(1, "No such file", "ca", "issue", "a", "--ca", self.dir / "no", "--san", "IP:::1", "--out", out)
        (ca / "ca.key").chmod(0o640)
        self.refused(1, "chmod", *base, "--san", "IP:::1")
        self.assertFalse(out.exists())

    def test_existing_files_stay(self):
        ca = self.init()
        node = self.issue(ca)
        before = {p.name: p.read_bytes() for p in node.iterdir()}
        self.refused(1, "exists already", "ca", "issue", "a", "--ca", ca, "--san", "IP:::1", "--out", node, "--passphrase-file", self.pw)
        self.assertEqual(before, {p.name: p.read_bytes() for p in node.iterdir()})

    def test_five_files_as_openssl_sees_them(self):
        ca = self.init()
        node = self.issue(ca, "n1", "--role", "coordinator", san="IP:127.0.0.1,IP:::1,DNS:Host.Example")
        self.assertEqual(sorted(p.name for p in node.iterdir()), sorted(pki_kit.FILES))
        for purpose, eku in (("server", "TLS Web Server Authentication"), ("client", "TLS Web Client Authentication")):
            crt, key = node / f"{purpose}.crt", node / f"{purpose}.key"
            openssl("verify", "-x509_strict", "-purpose", f"ssl{purpose}", "-verify_ip", "::1", "-CAfile", node / "ca.crt", crt)
            text = openssl("x509", "-in", crt, "-noout", "-text").decode()
            for wanted in (rf"Extended Key Usage: \n\s+{eku}\n", r"Key Usage: critical\s+Digital Signature\n", r"Basic Constraints: critical\s+CA:FALSE",
                           r"Subject Key Identifier", r"Authority Key Identifier",
                           r"DNS:host\.example, IP Address:127\.0\.0\.1|IP Address:127\.0\.0\.1", r"URI:spiffe://p2pfl/coordinator/n1\n"):
                self.assertRegex(text, wanted)
            self.assertEqual(stat.S_IMODE(key.stat().st_mode), 0o600)
            self.assertEqual(openssl("pkey", "-in", key, "-pubout"), openssl("x509", "-in", crt, "-noout", "-pubkey"))
            start = openssl("x509", "-in", crt, "-noout", "-startdate").decode().split("=")[1].strip()
            age = time.time() - time.mktime(time.strptime(start, "%b %d %H:%M:%S %Y %Z")) + time.timezone
            self.assertTrue(0 <= age <= 330, age)  # back-dated 5 minutes, but not before the CA's own start
            openssl("x509", "-in", crt, "-noout", "-checkend", str(499 * 86400))
            with self.assertRaises(AssertionError):
                openssl("x509", "-in", crt, "-noout", "-checkend", str(501 * 86400))
        self.assertNotEqual((node / "server.key").read_text(), (node / "client.key").read_text())

    def test_never_longer_than_the_ca(self):
        ca = self.init("ca", "--days", "10")
        node = self.issue(ca)
        end = [openssl("x509", "-in", p, "-noout", "-enddate") for p in (ca / "ca.crt", node / "server.crt", node / "client.crt")]
        self.assertEqual(len(set(end)), 1)

    def test_encrypted_node_keys(self):
        ca = self.init()
        node = self.issue(ca, "a", "--key-passphrase-file", str(self.pw))
        openssl("pkey", "-in", node / "server.key", "-noout", "-passin", f"pass:{SECRET}")
        self.assertIn("ENCRYPTED", (node / "client.key").read_text())

    def test_from_a_ca_that_openssl_made(self):
        proc = pki_kit.p2pfl_procedure(self.dir / "proc", nodes=(), passphrase=SECRET)
        node = self.issue(proc)
        openssl("verify", "-CAfile", proc / "ca.crt", node / "server.crt")
        self.ok("cert", "verify", "--ca", proc / "ca.crt", "--host", "localhost", "--purpose", "server", node / "server.crt")

    def test_json(self):
        out = self.ok("ca", "init", self.dir / "ca", "--passphrase-file", self.pw, "--json")
        self.assertTrue(json.loads(out)["certificates"][0]["ca"])
        out = self.ok("ca", "issue", "a", "--ca", self.dir / "ca", "--san", "IP:::1", "--san", "DNS:x", "--out", self.dir / "a",
                      "--passphrase-file", self.pw, "--json")
        made = [json.loads(line)["certificates"][0] for line in out.splitlines()]
        self.assertEqual([c["extended_key_usage"] for c in made], [["serverAuth"], ["clientAuth"]])
        self.assertEqual(made[0]["sans"], ["DNS:x", "IP:::1", "URI:spiffe://p2pfl/node/a"])


class Cert(Base):
    def test_usage(self):
        self.refused(2, "FILE is missing", "cert", "show")
        self.refused(2, "--ca FILE is missing", "cert", "verify", "x")
        self.refused(2, "--purpose 'mail'", "cert", "verify", "--ca", "x", "--purpose", "mail", "y")
        self.refused(1, "none: .*No such file|No such file", "cert", "show", self.dir / "none")
        self.refused(1, "no certificate in PEM", "cert", "show", self.pw)
        self.refused(1, "no certificate in PEM", "cert", "verify", "--ca", self.pw, self.pw)

    def test_show_in_words_and_json(self):
        node = self.issue(self.init())
        text = self.ok("cert", "show", node / "server.crt")
        for wanted in ("CN=a", "spiffe://p2pfl/node/a", "node of federation p2pfl", "DNS:localhost, IP:127.0.0.1", "purpose +server\n",
                       "ECDSA P-256", "ecdsa-with-SHA256", r"(499|500) days left"):
            self.assertRegex(text, wanted)
        fingerprint = openssl("x509", "-in", node / "server.crt", "-noout", "-fingerprint", "-sha256").decode()
        self.assertIn(fingerprint.split("=")[1].strip().replace(":", "").lower(), text)
        cert = json.loads(self.ok("cert", "show", "--json", node / "server.crt"))["certificates"][0]
        self.assertEqual(cert["name"], "a")
        serial = openssl("x509", "-in", node / "server.crt", "-noout", "-serial").decode().split("=")[1].strip()
        self.assertEqual(cert["serial"], serial)

    def test_show_what_is_left_of_a_short_life(self):
        ca = self.init()
        for name, lifetime, left in (("b", "24h", r" (23|24) hours left"), ("c", "100s", r" \d+ seconds left|expired \d+ (seconds|minutes) ago")):
            node = self.issue(ca, name, "--lifetime", lifetime)
            self.assertRegex(self.ok("cert", "show", node / "server.crt"), left)

    def test_show_every_certificate_of_a_file(self):
        node = self.issue(self.init())
        both = self.dir / "both.crt"
        both.write_text((node / "server.crt").read_text() + (node / "ca.crt").read_text())
        text = self.ok("cert", "show", both)
        self.assertIn("certificate 2 of 2", text)
        self.assertIn("CA: signs certificates", text)

    def test_hostile_subject_reaches_no_terminal(self):
        key = self.dir / "k"
        pki_kit.make_key(key)
        openssl("req", "-x509", "-new", "-key", key, "-subj", "/CN=a\x1b[2Jb", "-out", self.dir / "c.crt")
        done = p2pfl("cert", "show", self.dir / "c.crt")
        self.assertEqual(done.returncode, 1)
        self.assertIn("control character", done.stderr)
        self.assertNotIn("\x1b", done.stdout + done.stderr)

    def test_yes(self):
        node = self.issue(self.init())
        args = ["cert", "verify", "--ca", node / "ca.crt", "--host", "127.0.0.1", "--purpose", "server"]
        self.assertRegex(self.ok(*args, node / "server.crt"), r"^yes: .*spiffe://p2pfl/node/a")
        self.assertTrue(json.loads(self.ok(*args, "--json", node / "server.crt"))["ok"])


class RefusalMatrix(Base):
    """Every certificate of the kit, in both roles: what p2pfl says, and that OpenSSL would not say more."""

    def test_matrix(self):
        kit = pki_kit.Kit(self.dir / "kit")
        for name in kit.CASES:
            case = kit.case(name)
            if name == "no-cert":
                continue
            for purpose, reason in (("server", case.server_reason), ("client", case.client_reason)):
                with self.subTest(case=name, purpose=purpose):
                    host = ["--host", "127.0.0.1"] if purpose == "server" else []
                    args = ["cert", "verify", "--ca", case.ca_crt, "--purpose", purpose, *host, case.dir / f"{purpose}.crt"]
                    if reason is None:
                        self.assertTrue(self.ok(*args).startswith("yes: "))
                        continue
                    self.refused(1, r"^no: .*(" + reason + ")", *args)
                    said = json.loads(p2pfl(*args, "--json").stdout)
                    self.assertFalse(said["ok"])
                    self.assertRegex(said["reason"], reason)

    def test_a_leaf_is_no_root(self):
        kit = pki_kit.Kit(self.dir / "kit")
        good = kit.case("good")
        self.refused(1, "is not a CA certificate", "cert", "verify", "--ca", good.server_crt, good.server_crt)

    def test_several_roots(self):
        kit = pki_kit.Kit(self.dir / "kit")
        roots = self.dir / "roots.crt"
        roots.write_text(kit.other.crt.read_text() + kit.ca_crt.read_text())
        for name in ("good", "other-ca"):
            self.ok("cert", "verify", "--ca", roots, kit.case(name).server_crt)
        self.refused(1, "same name", "cert", "verify", "--ca", roots, kit.case("other-ca-same-name").server_crt)


class Procedure(Base):
    """P2PFL's documented procedure with openssl, unchanged."""

    def check(self, folder):
        for node in ("node1", "node2"):
            for purpose in ("server", "client"):
                for host in ("127.0.0.1", "::1"):
                    self.ok("cert", "verify", "--ca", folder / "ca.crt", "--host", host, "--purpose", purpose, folder / node / f"{purpose}.crt")
            self.refused(1, "covers IP:127.0.0.1, IP:::1, not '10.0.0.1'", "cert", "verify", "--ca", folder / "ca.crt", "--host", "10.0.0.1",
                         folder / node / "server.crt")
        kit = pki_kit.Kit(self.dir / "kit")
        self.refused(1, "not signed by the federation's CA", "cert", "verify", "--ca", kit.ca_crt, folder / "node1" / "server.crt")
        broken = self.dir / "broken.crt"
        broken.write_text((folder / "node1" / "server.crt").read_text())
        pki_kit.break_signature(broken)
        self.refused(1, "signature does not verify", "cert", "verify", "--ca", folder / "ca.crt", broken)

    def test_own_names(self):
        self.check(pki_kit.p2pfl_procedure(self.dir / "proc", same_subject=False))

    def test_one_name_for_all(self):
        self.check(pki_kit.p2pfl_procedure(self.dir / "proc", same_subject=True))

    def test_one_name_for_all_without_key_identifiers(self):
        # the certificates of OpenSSL 1.1, which `openssl verify` itself takes for self-signed
        self.check(pki_kit.p2pfl_procedure(self.dir / "proc", same_subject=True, key_ids=False))


if __name__ == "__main__":
    unittest.main()
