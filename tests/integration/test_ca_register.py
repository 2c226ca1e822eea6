# SPDX-License-Identifier: Apache-2.0
# once: dev
# timeout: 300
"""The register, requests, revocation lists, an intermediate and a new root: judged by OpenSSL's and SQLite's command lines."""
import datetime
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from pki_kit import openssl  # noqa: E402

BIN = os.environ.get("P2PFL_BIN") or str(Path(__file__).resolve().parents[2] / "build" / "dev" / "p2pfl")
SECRET = "correct horse battery"
KEYS = {"rsa": ["-newkey", "rsa:2048"], "p256": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
        "p384": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"], "ed25519": ["-newkey", "ed25519"]}


class Base(unittest.TestCase):
    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="pfl-register-"))
        self.addCleanup(shutil.rmtree, self.dir)
        self.pw = self.dir / "pw"
        self.pw.write_text(SECRET + "\n")
        self.pw.chmod(0o600)

    def run_ca(self, *args):
        args = [str(a) for a in args]
        if args[0] not in ("list", "show", "audit") and "status" not in args:
            args += ["--passphrase-file", str(self.pw)]
        return subprocess.run([BIN, "ca", *args], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)

    def ok(self, *args):
        done = self.run_ca(*args)
        self.assertEqual(done.returncode, 0, f"{args}: {done.stdout}{done.stderr}")
        self.assertNotIn(SECRET, done.stdout + done.stderr)
        return done.stdout

    def refused(self, code, pattern, *args):
        done = self.run_ca(*args)
        self.assertEqual(done.returncode, code, f"{args}: {done.stdout}{done.stderr}")
        self.assertRegex(done.stdout + done.stderr, pattern)

    def init(self, name="ca", *more):
        self.ok("init", self.dir / name, "--federation", "lab", *more)
        return self.dir / name

    def issue(self, ca, name, *more):
        out = self.dir / name
        self.ok("issue", name, "--ca", ca, "--san", "IP:127.0.0.1,DNS:localhost", "--out", out, *more)
        return out

    def rows(self, ca, *more):
        return [json.loads(line) for line in self.ok("list", "--ca", ca, "--json", *more).splitlines()]

    def verifies(self, *args):
        done = subprocess.run(["openssl", "verify", *map(str, args)], capture_output=True, text=True)
        return done.returncode == 0, done.stdout + done.stderr

    def csr(self, name="c", key="p256", subject="/CN=c", ext=(), digest=()):
        path = self.dir / f"{name}.csr"
        args = ["req", "-new", *(key if isinstance(key, list) else KEYS[key]), "-nodes", "-keyout", self.dir / f"{name}.key", "-out",
                path, "-subj", subject, *digest]
        for e in ext:
            args += ["-addext", e]
        openssl(*args)
        return path


class Register(Base):
    def test_what_is_in_it(self):
        ca = self.init()
        node = self.issue(ca, "a", "--role", "observer")
        rows = self.rows(ca)
        self.assertEqual([(r["name"], r["role"], r["purpose"], r["status"]) for r in rows],
                         [("lab CA", "ca", "root", "valid"), ("a", "observer", "serverAuth", "valid"),
                          ("a", "observer", "clientAuth", "valid")])
        for row, crt in zip(rows[1:], ("server.crt", "client.crt")):
            serial = openssl("x509", "-in", node / crt, "-noout", "-serial").decode().strip()
            self.assertEqual(serial, f"serial={row['serial']}")
            self.assertRegex(row["serial"], r"^[0-9A-F]{32}$")
            spki = openssl("x509", "-in", node / crt, "-noout", "-pubkey")
            der = openssl("pkey", "-pubin", "-outform", "DER", stdin=spki)
            digest = subprocess.run(["sha256sum"], input=der, capture_output=True).stdout.decode().split()[0]
            self.assertEqual(row["key_fingerprint"], digest)
            self.assertEqual(row["sans"], ["IP:127.0.0.1", "DNS:localhost", "URI:spiffe://lab/observer/a"])
            self.assertRegex(row["asked_by"], "^operator ")
            shown = self.ok("show", row["serial"].lower(), "--ca", ca, "--pem")
            self.assertEqual(shown.strip(), (node / crt).read_text().strip())
        self.assertEqual(len(self.ok("show", "a", "--ca", ca, "--json").splitlines()), 2)
        self.refused(1, "no certificate of that name or serial", "show", "nobody", "--ca", ca)
        done = subprocess.run(["sqlite3", ca / "ca.db", "PRAGMA integrity_check; SELECT count(*) FROM certificates;"],
                              capture_output=True, text=True)
        self.assertEqual(done.stdout.split(), ["ok", "3"])
        self.assertEqual((ca / "ca.db").stat().st_mode & 0o777, 0o600)

    def test_filters(self):
        ca = self.init()
        for name in ("a", "b"):
            self.issue(ca, name)
        self.issue(ca, "brief", "--lifetime", "1s")
        self.ok("revoke", "a", "--ca", ca, "--reason", "superseded")
        deadline = datetime.datetime.now() + datetime.timedelta(seconds=60)
        while not self.rows(ca, "--expired") and datetime.datetime.now() < deadline:
            pass
        self.assertEqual({r["name"] for r in self.rows(ca, "--expired")}, {"brief"})
        self.assertEqual({r["name"] for r in self.rows(ca, "--revoked")}, {"a"})
        self.assertEqual({r["name"] for r in self.rows(ca, "--valid")}, {"b", "lab CA"})
        self.assertEqual(len(self.rows(ca, "--all")), 7)
        self.refused(2, "exclude each other", "list", "--ca", ca, "--valid", "--expired")
        self.assertIn("superseded", self.ok("list", "--ca", ca))

    def test_lifetimes(self):
        ca = self.init()
        for text, seconds in (("90s", 90), ("15m", 900), ("24h", 86400), ("7d", 604800)):
            self.issue(ca, f"n{text}", "--lifetime", text)
            row = self.rows(ca)[-1]
            made, until = (datetime.datetime.fromisoformat(row[k].replace("Z", "+00:00")) for k in ("not_before", "not_after"))
            self.assertAlmostEqual((until - made).total_seconds(), seconds + min(300, seconds // 10), delta=2)
        for bad in ("0s", "1", "-1h", "1w", "1.5h", "99999d"):
            self.refused(2, "--lifetime '", "issue", "x", "--ca", ca, "--san", "IP:::1", "--lifetime", bad)
        self.refused(2, "exclude each other", "issue", "x", "--ca", ca, "--san", "IP:::1", "--lifetime", "1h", "--days", "1")

    def test_a_folder_from_before_the_register(self):
        ca = self.init()
        node = self.issue(ca, "a")
        for name in ("ca.db", "bundle.pem", "crl.pem"):
            (ca / name).unlink()
        self.refused(1, "is not there", "list", "--ca", ca)
        self.refused(1, "no certificate of that name", "revoke", "a", "--ca", ca)
        self.assertEqual([r["purpose"] for r in self.rows(ca)], ["root"])
        self.ok("revoke", node / "server.crt", "--ca", ca, "--reason", "keyCompromise")
        good, said = self.verifies("-crl_check", "-CAfile", ca / "ca.crt", "-CRLfile", ca / "crl.pem", node / "server.crt")
        self.assertFalse(good)
        self.assertIn("revoked", said)
        other = self.init("other")
        stranger = self.issue(other, "s")
        self.refused(1, "was not signed by this CA", "revoke", stranger / "server.crt", "--ca", ca)
        self.ok("audit", "--ca", ca, "--verify")

    def test_files_that_are_not_the_ca_s(self):
        ca, other = self.init(), self.init("other")
        shutil.copy(other / "ca.crt", ca / "ca.crt")
        self.refused(1, "not the certificate of this CA's register", "crl", "--ca", ca)
        (ca / "ca.crt").unlink()
        self.ok("crl", "--ca", ca)  # made again from the register
        self.assertTrue((ca / "ca.crt").exists())
        (ca / "ca.db").chmod(0o644)
        self.refused(1, "chmod 600", "list", "--ca", ca)
        (ca / "ca.db").chmod(0o600)
        (ca / "ca.db").write_bytes(b"no database at all, but long enough to be looked at" * 50)
        self.refused(1, "no register, or damaged", "list", "--ca", ca)
        (ca / "ca.db").unlink()
        db = sqlite3.connect(ca / "ca.db")
        db.execute("CREATE TABLE something_else (x)")
        db.commit()
        db.close()
        (ca / "ca.db").chmod(0o600)
        self.refused(1, "not a CA's register", "list", "--ca", ca)


class Revocation(Base):
    def crl(self, ca):
        text = openssl("crl", "-in", ca / "crl.pem", "-noout", "-text", "-nameopt", "RFC2253").decode()
        number = int(openssl("crl", "-in", ca / "crl.pem", "-noout", "-crlnumber").decode().strip().split("=")[1], 16)
        return text, number

    def test_refusals(self):
        ca = self.init()
        self.issue(ca, "a")
        self.refused(1, "did you mean keyCompromise", "revoke", "a", "--ca", ca, "--reason", "keycompromise")
        self.refused(1, "final", "revoke", "a", "--ca", ca, "--reason", "certificateHold")
        self.refused(1, "delta", "revoke", "a", "--ca", ca, "--reason", "removeFromCRL")
        self.refused(1, "no certificate of that name", "revoke", "b", "--ca", ca)
        self.refused(1, "is a root", "revoke", "lab CA", "--ca", ca)
        self.ok("revoke", "a", "--ca", ca)
        self.refused(1, "valid any more; revoked on", "revoke", "a", "--ca", ca)

    def test_openssl_accepts_and_refuses_the_same(self):
        ca = self.init()
        a, b = self.issue(ca, "a"), self.issue(ca, "b")
        check = ["-crl_check", "-CAfile", ca / "ca.crt", "-CRLfile", ca / "crl.pem"]
        self.assertTrue(self.verifies(*check, a / "server.crt", b / "client.crt")[0])
        self.ok("revoke", "a", "--ca", ca, "--reason", "keyCompromise")
        for crt in ("server.crt", "client.crt"):
            good, said = self.verifies(*check, a / crt)
            self.assertFalse(good)
            self.assertIn("certificate revoked", said)
            self.assertTrue(self.verifies(*check, b / crt)[0])

    def test_list_as_openssl_reads_it(self):
        ca = self.init()
        self.issue(ca, "a")
        self.issue(ca, "b")
        self.issue(ca, "c")
        numbers = [self.crl(ca)[1]]
        reasons = {"a": ("keyCompromise", "Key Compromise"), "b": ("unspecified", None)}
        for name, (reason, _) in reasons.items():
            self.ok("revoke", name, "--ca", ca, "--reason", reason)
            numbers.append(self.crl(ca)[1])
        self.ok("crl", "--ca", ca, "--hours", "36", "--out", self.dir / "copy.pem")
        text, number = self.crl(ca)
        numbers.append(number)
        self.assertEqual(sorted(set(numbers)), numbers, "the number grows each time")
        self.assertEqual((self.dir / "copy.pem").read_text(), (ca / "crl.pem").read_text())
        self.assertIn("Version 2", text)
        self.assertIn("Issuer: CN=lab CA", text)
        self.assertIn("Authority Key Identifier", text)
        self.assertEqual(text.count("Key Compromise"), 2)
        self.assertEqual(text.count("Serial Number"), 4)
        self.assertEqual(text.count("Reason Code"), 2)  # "unspecified" is said by leaving it out
        dates = dict(line.split("=") for line in
                     openssl("crl", "-in", ca / "crl.pem", "-noout", "-lastupdate", "-nextupdate").decode().splitlines())
        form = "%b %d %H:%M:%S %Y GMT"
        last, following = (datetime.datetime.strptime(dates[k], form) for k in ("lastUpdate", "nextUpdate"))
        self.assertLess(abs((datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None) - last).total_seconds()), 120)
        self.assertEqual((following - last).total_seconds(), 36 * 3600)
        openssl("crl", "-in", ca / "crl.pem", "-CAfile", ca / "ca.crt", "-noout")
        self.ok("revoke", "c", "--ca", ca)
        dates = openssl("crl", "-in", ca / "crl.pem", "-noout", "-lastupdate", "-nextupdate").decode()
        last, following = (datetime.datetime.strptime(line.split("=")[1], form) for line in dates.splitlines())
        self.assertEqual((following - last).total_seconds(), 36 * 3600)  # the next one has the same lifetime
        self.assertGreater(self.crl(ca)[1], number)

    def test_every_kind_of_key_signs_a_list(self):
        for key in ("p384", "ed25519", "rsa:2048"):
            ca = self.init(key.replace(":", ""), "--key", key)
            node = self.issue(ca, f"n-{key.replace(':', '')}")
            self.ok("revoke", node.name, "--ca", ca)
            self.assertFalse(self.verifies("-crl_check", "-CAfile", ca / "ca.crt", "-CRLfile", ca / "crl.pem", node / "server.crt")[0])
            self.ok("audit", "--ca", ca, "--verify")


class Requests(Base):
    def sign(self, csr, *more, ca=None, purpose="server"):
        purpose = ["--purpose", purpose] if purpose else []
        return ["sign", csr, "--ca", ca or self.ca, "--name", "c", "--san", "DNS:c.example,IP:10.0.0.1", *purpose, "--out",
                self.dir / "out.crt", *more]

    def setUp(self):
        super().setUp()
        self.ca = self.init()

    def check_refused(self, pattern, *more, **csr):
        self.refused(1, pattern, *self.sign(self.csr(**csr), *more))
        self.assertFalse((self.dir / "out.crt").exists())
        self.assertEqual(len(self.rows(self.ca)), 1, "nothing was registered")

    def test_weak_keys_and_signatures(self):
        self.check_refused("RSA key of 1024 bits", key=["-newkey", "rsa:1024"])
        self.check_refused("224", key=["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-224"])
        self.check_refused("SHA-256 or better", key="rsa", digest=["-sha1"])
        self.check_refused("SHA-256 or better", key="rsa", digest=["-md5"])
        self.check_refused("PKCS#1|wanted", key="rsa", digest=["-sigopt", "rsa_padding_mode:pss"])

    def test_asking_for_more(self):
        for pattern, ext in [
            ("to be a CA", "basicConstraints=critical,CA:TRUE"), ("to be a CA", "keyUsage=keyCertSign"),
            ("granted: DNS:evil.example$", "subjectAltName=DNS:c.example,DNS:evil.example"),
            ("IP:10.0.0.2, IP:10.0.0.3", "subjectAltName=IP:10.0.0.2,IP:10.0.0.3"),
            ("URI:spiffe://lab/coordinator/c", "subjectAltName=URI:spiffe://lab/coordinator/c"),
            ("URI:spiffe://other/node/c", "subjectAltName=URI:spiffe://other/node/c"),
            ("email:c@example", "subjectAltName=email:c@example"), ("other:0", "subjectAltName=otherName:1.2.3.4;UTF8:c"),
            ("the purpose clientAuth", "extendedKeyUsage=clientAuth"), ("the purpose codeSigning", "extendedKeyUsage=codeSigning"),
        ]:
            self.check_refused(pattern, ext=[ext])
        self.check_refused("common name 'someone else'", subject="/CN=someone else")
        self.check_refused("more than one common name", subject="/CN=c/CN=d")
        self.check_refused("DNS:a.example, the purpose clientAuth",
                           ext=["subjectAltName=DNS:a.example", "extendedKeyUsage=clientAuth"])  # each excess is named

    def test_broken_requests(self):
        whole = self.csr().read_bytes()
        der = openssl("req", "-in", self.dir / "c.csr", "-outform", "DER")
        forged = bytearray(der)
        forged[-1] ^= 1
        for pattern, content in [
            ("neither in PEM nor in DER", b""), ("neither in PEM nor in DER", b"garbage"), ("neither in PEM nor in DER", der[:-5]),
            ("1 bytes stand behind", der + b"x"), ("limit is", b"x" * 20000), ("more than one", whole + whole),
            ("can be read", whole.replace(b"\nM", b"\n!", 1)), ("not by its own key", bytes(forged)),
        ]:
            path = self.dir / "broken.csr"
            path.write_bytes(content)
            self.refused(1, pattern, *self.sign(path))
        self.refused(1, "No such file", *self.sign(self.dir / "none.csr"))
        self.assertEqual(len(self.rows(self.ca)), 1)

    def test_usage(self):
        csr = self.csr()
        self.refused(2, "--purpose server or client is wanted", *self.sign(csr, purpose=None))
        self.refused(2, "--purpose 'both'", *self.sign(csr, purpose="both"))
        self.refused(2, "--role 'ca'", *self.sign(csr, "--role", "ca"))
        self.refused(2, "--out F is missing", "sign", csr, "--ca", self.ca, "--name", "c", "--san", "IP:::1")
        (self.dir / "out.crt").write_text("mine")
        self.refused(1, "not overwritten", *self.sign(csr))
        self.assertEqual((self.dir / "out.crt").read_text(), "mine")

    def test_every_kind_of_key(self):
        for i, key in enumerate(KEYS):
            csr = self.csr(key=key, ext=["subjectAltName=DNS:C.example", "extendedKeyUsage=serverAuth"])
            out = self.dir / f"{key}.crt"
            self.ok("sign", csr, "--ca", self.ca, "--name", "c", "--san", "DNS:c.example,IP:10.0.0.1", "--lifetime", "1h", "--out", out)
            text = openssl("x509", "-in", out, "-noout", "-text").decode()
            self.assertIn("DNS:c.example, IP Address:10.0.0.1, URI:spiffe://lab/node/c", text)
            self.assertIn("TLS Web Server Authentication", text)
            self.assertIn("Authority Key Identifier", text)
            self.assertIn("Subject Key Identifier", text)
            self.assertIn("CA:FALSE", text)
            self.assertTrue(self.verifies("-CAfile", self.ca / "ca.crt", "-purpose", "sslserver", out)[0])
            self.assertEqual(openssl("x509", "-in", out, "-noout", "-pubkey"), openssl("req", "-in", csr, "-noout", "-pubkey"))
            self.assertEqual(len(self.rows(self.ca)), i + 2)

    def test_server_and_client_from_two_requests(self):
        for purpose in ("server", "client"):
            csr = self.csr(name=purpose)
            self.ok("sign", csr, "--ca", self.ca, "--name", "c", "--san", "DNS:c.example", "--purpose", purpose, "--out",
                    self.dir / f"{purpose}.crt")
        self.assertEqual([r["purpose"] for r in self.rows(self.ca)], ["root", "serverAuth", "clientAuth"])
        done = subprocess.run([BIN, "cert", "verify", "--ca", self.ca / "ca.crt", "--purpose", "client", self.dir / "client.crt"],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)


class Audit(Base):
    def setUp(self):
        super().setUp()
        self.ca = self.init()
        self.issue(self.ca, "a")
        self.ok("revoke", "a", "--ca", self.ca, "--reason", "superseded")
        self.issue(self.ca, "b")

    def tampered(self, pattern, *statements, expect=None):
        """The statements on a copy, as somebody with the file but without the key would run them."""
        copy = self.dir / "copy"
        shutil.copytree(self.ca, copy)
        db = sqlite3.connect(copy / "ca.db")
        db.execute("DROP TRIGGER audit_is_append_only")
        db.execute("DROP TRIGGER audit_keeps_all")
        for statement in statements:
            db.execute(statement)
        db.commit()
        db.close()
        self.refused(1, pattern, "audit", "--ca", copy, "--verify", *(["--head", expect] if expect else []))
        shutil.rmtree(copy)

    def test_untouched(self):
        report = json.loads(self.ok("audit", "--ca", self.ca, "--verify", "--json"))
        entries = [json.loads(line) for line in self.ok("audit", "--ca", self.ca, "--json").splitlines()]
        self.assertEqual([e["seq"] for e in entries], list(range(1, len(entries) + 1)))
        self.assertEqual([e["action"] for e in entries],
                         ["ca-init", "crl", "issue", "issue", "revoke", "revoke", "crl", "issue", "issue"])
        self.assertEqual(report["head"], f"{len(entries)}:{entries[-1]['hash']}")
        self.assertEqual(report["sealed"], len(entries))
        self.assertEqual(report["certificates"], 5)
        self.ok("audit", "--ca", self.ca, "--verify", "--head", report["head"])
        self.refused(1, "a noted head is wanted", "audit", "--ca", self.ca, "--verify", "--head", "12")

    def test_a_trigger_stops_accidents(self):
        db = sqlite3.connect(self.ca / "ca.db")
        for statement in ("DELETE FROM audit WHERE seq = 2", "UPDATE audit SET detail = 'x' WHERE seq = 2"):
            with self.assertRaisesRegex(sqlite3.DatabaseError, "only appended to"):
                db.execute(statement)
        db.close()

    def test_edits_are_named(self):
        for column, value in (("detail", "'x'"), ("actor", "'operator nobody'"), ("action", "'crl'"), ("subject", "'x'"), ("at", "1"),
                              ("hash", "x'00'"), ("hash", "zeroblob(32)")):
            self.tampered(r"entry 5 .*does not follow", f"UPDATE audit SET {column} = {value} WHERE seq = 5")

    def test_deletions_and_reordering_are_named(self):
        self.tampered("entry 4: is missing", "DELETE FROM audit WHERE seq = 4")
        self.tampered("entry 1: is missing", "DELETE FROM audit WHERE seq = 1")
        self.tampered("entry 4 .*changed or moved", "DELETE FROM audit WHERE seq = 4", "UPDATE audit SET seq = seq - 1 WHERE seq > 4")
        self.tampered("entry 3 .*changed or moved", "UPDATE audit SET seq = -1 WHERE seq = 3", "UPDATE audit SET seq = 3 WHERE seq = 4",
                      "UPDATE audit SET seq = 4 WHERE seq = -1")

    def test_a_cut_tail_is_named(self):
        self.tampered("entry 9: is missing: the end", "DELETE FROM audit WHERE seq = 9")
        # the head's row changed with it: the seal knows better
        cut = ["DELETE FROM audit WHERE seq > 7", "UPDATE audit_head SET seq = 7, hash = (SELECT hash FROM audit WHERE seq = 7)"]
        self.tampered("entry 8: is missing", *cut)
        self.tampered("seal on it is not by this CA's key", *cut, "UPDATE audit_head SET sealed = 7")
        # the seal taken away too: the certificates have no entry any more
        away = [*cut, "UPDATE audit_head SET sealed = 0, sealed_by = '', seal = x''"]
        self.tampered("the audit log knows nothing of it", *away)
        # the certificates too: only a head that was noted elsewhere shows it
        head = json.loads(self.ok("audit", "--ca", self.ca, "--verify", "--json"))["head"]
        self.tampered("entry 9: was noted and is missing", *away, "DELETE FROM certificates WHERE name = 'b'", expect=head)
        self.tampered("the one that was noted", "UPDATE audit SET at = at", expect="3:" + "00" * 32)

    def test_the_register_against_the_log(self):
        self.tampered("log that it was revoked", "UPDATE certificates SET status = 'valid', revoked_at = 0 WHERE name = 'a'")
        self.tampered("has no revocation of it", "UPDATE certificates SET status = 'revoked' WHERE name = 'b'")
        self.tampered("is no longer in the register", "DELETE FROM certificates WHERE name = 'a'")
        self.tampered("is not the certificate that the audit log names", "UPDATE certificates SET der = x'3000' WHERE name = 'b'")
        self.tampered("the audit log knows nothing of it",
                      "INSERT INTO certificates (serial, name, role, subject, purpose, sans, key_fingerprint, issuer, asked_by, token_id,"
                      " not_before, not_after, status, der) SELECT 'AB', 'm', role, subject, purpose, sans, key_fingerprint, issuer,"
                      " asked_by, 0, 0, 0, 'valid', der FROM certificates LIMIT 1")


class Intermediate(Base):
    def make(self):
        self.root = self.init("root", "--root-offline")
        self.online = self.dir / "online"
        self.ok("init", self.online, "--intermediate", "--federation", "lab")
        self.ok("sign-intermediate", self.online / "ca.csr", "--ca", self.root, "--out", self.dir / "made.pem")
        self.ok("install", self.dir / "made.pem", "--ca", self.online)

    def check(self, node, *more):
        return self.verifies(*more, "-CAfile", node / "ca.crt", "-CRLfile", self.online / "crl.pem", "-untrusted", node / "server.crt",
                             node / "server.crt")

    def test_refusals(self):
        self.make()
        other = self.init("other")
        self.refused(1, "kept offline", "issue", "a", "--ca", self.root, "--san", "IP:::1", "--out", self.dir / "a")
        self.refused(1, "does not ask to be a CA", "sign-intermediate", self.csr(), "--ca", self.root, "--out", self.dir / "x")
        self.refused(1, "only a root signs", "sign-intermediate", self.online / "ca.csr", "--ca", self.online, "--out", self.dir / "x")
        self.refused(1, "to be a CA", "sign", self.online / "ca.csr", "--ca", other, "--name", "c", "--san", "IP:::1", "--purpose",
                     "server", "--out", self.dir / "x")
        self.refused(1, "holds a root's own key", "install", self.dir / "made.pem", "--ca", other)
        self.refused(1, "not overwritten", "init", self.online, "--intermediate")
        second = self.dir / "second"
        self.ok("init", second, "--intermediate", "--federation", "lab", "--name", "second CA")
        self.refused(1, "waits for its certificate", "issue", "a", "--ca", second, "--san", "IP:::1", "--out", self.dir / "a")
        self.refused(1, "nor for this folder's key", "install", self.dir / "made.pem", "--ca", second)
        self.refused(1, "its root are needed", "install", self.root / "ca.crt", "--ca", second)
        self.refused(1, "private key", "install", self.online / "intermediate.crt", self.csr().with_suffix(".key"), "--ca", second)
        self.refused(1, "not signed by a root|does not lead to a root", "install", other / "bundle.pem", "--ca", self.online)
        self.refused(1, "not signed by a root", "install", other / "crl.pem", "--ca", self.online)
        (self.dir / "empty.pem").write_text("nothing")
        self.refused(1, "neither a certificate nor", "install", self.dir / "empty.pem", "--ca", self.online)

    def test_chain(self):
        self.make()
        node = self.issue(self.online, "a")
        self.assertEqual((node / "ca.crt").read_text(), (self.root / "ca.crt").read_text())
        self.assertEqual((node / "server.crt").read_text().count("BEGIN CERTIFICATE"), 2)
        self.assertTrue(self.check(node, "-crl_check_all")[0], self.check(node, "-crl_check_all"))
        self.assertFalse(self.verifies("-CAfile", node / "ca.crt", node / "server.crt")[0])  # without the intermediate
        text = openssl("x509", "-in", self.online / "intermediate.crt", "-noout", "-text").decode()
        self.assertIn("CA:TRUE, pathlen:0", text)
        self.assertIn("pathlen:1", openssl("x509", "-in", self.root / "ca.crt", "-noout", "-text").decode())
        done = subprocess.run([BIN, "cert", "verify", "--ca", node / "ca.crt", "--host", "127.0.0.1", node / "server.crt"],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.ok("revoke", "a", "--ca", self.online, "--reason", "keyCompromise")
        self.assertFalse(self.check(node, "-crl_check")[0])
        for folder in (self.root, self.online):
            self.ok("audit", "--ca", folder, "--verify")

    def test_root_revokes_the_intermediate(self):
        self.make()
        node = self.issue(self.online, "a")
        shutil.copy(self.root / "crl.pem", self.dir / "old.pem")
        self.ok("revoke", "lab issuing CA", "--ca", self.root, "--reason", "cACompromise")
        self.assertTrue(self.check(node, "-crl_check_all")[0])  # not carried over yet
        self.assertIn("REVOKED", self.ok("install", self.root / "crl.pem", "--ca", self.online))
        self.assertTrue(self.check(node, "-crl_check")[0])
        good, said = self.check(node, "-crl_check_all")
        self.assertFalse(good)
        self.assertIn("revoked", said)
        self.refused(1, "an older one", "install", self.dir / "old.pem", "--ca", self.online)

    def test_new_certificate_for_the_same_key(self):
        self.make()
        self.ok("sign-intermediate", self.online / "ca.csr", "--ca", self.root, "--days", "10", "--out", self.dir / "again.pem")
        self.ok("install", self.dir / "again.pem", "--ca", self.online)
        node = self.issue(self.online, "a")
        self.assertTrue(self.check(node, "-crl_check_all")[0])
        self.assertEqual(len(self.rows(self.online)), 5)


class Rollover(Base):
    def state(self, ca):
        return [(json.loads(line)["state"], json.loads(line)["valid"]) for line in
                self.ok("rollover", "status", "--ca", ca, "--json").splitlines()]

    def test_steps_in_the_wrong_order(self):
        ca = self.init()
        self.refused(2, "did you mean 'prepare'", "rollover", "prepar", "--ca", ca)
        self.refused(1, "prepare comes first", "rollover", "activate", "--ca", ca)
        self.refused(1, "no roll-over is under way", "rollover", "finish", "--ca", ca)
        self.refused(1, "called 'CN=lab CA' as the present one", "rollover", "prepare", "--ca", ca, "--name", "lab CA")
        self.ok("rollover", "prepare", "--ca", ca)
        self.refused(1, "prepared already", "rollover", "prepare", "--ca", ca)
        self.refused(1, "activate comes first", "rollover", "finish", "--ca", ca)
        self.ok("rollover", "activate", "--ca", ca)
        self.refused(1, "finish comes first", "rollover", "prepare", "--ca", ca)
        self.refused(1, "prepare comes first", "rollover", "activate", "--ca", ca)

    def test_from_the_old_root_to_the_new(self):
        ca = self.init()
        old_root = (ca / "ca.crt").read_text()
        old = self.issue(ca, "old")
        self.ok("rollover", "prepare", "--ca", ca, "--key", "p384")
        between = self.issue(ca, "between")
        self.assertEqual((between / "ca.crt").read_text().count("BEGIN"), 2)
        self.assertTrue(self.verifies("-CAfile", old / "ca.crt", between / "server.crt")[0])  # the old root still signs
        self.ok("rollover", "activate", "--ca", ca)
        new = self.issue(ca, "new")
        self.assertNotEqual((ca / "ca.crt").read_text(), old_root)
        self.assertFalse(self.verifies("-CAfile", old / "ca.crt", new / "server.crt")[0])
        for node in (old, between, new):  # with the bundle all are good, each under its root's own list
            self.assertTrue(self.verifies("-crl_check", "-CAfile", ca / "bundle.pem", "-CRLfile", ca / "crl.pem", node / "server.crt")[0])
        self.assertEqual(self.state(ca), [("retiring", 4), ("active", 2)])
        self.ok("revoke", "old", "--ca", ca)  # the old root's list goes on being made
        self.assertFalse(self.verifies("-crl_check", "-CAfile", ca / "bundle.pem", "-CRLfile", ca / "crl.pem", old / "server.crt")[0])
        self.refused(1, r"2 certificates of the old root are still valid \(between\)", "rollover", "finish", "--ca", ca)
        listed = self.run_ca("rollover", "finish", "--ca", ca).stdout
        self.assertEqual([line.split()[1:3] for line in listed.splitlines()], [["between", "serverAuth"], ["between", "clientAuth"]])
        self.assertEqual((ca / "bundle.pem").read_text().count("BEGIN"), 2)
        self.ok("rollover", "finish", "--ca", ca, "--force")
        self.assertEqual((ca / "bundle.pem").read_text(), (ca / "ca.crt").read_text())
        self.assertFalse(self.verifies("-CAfile", ca / "bundle.pem", between / "server.crt")[0])
        self.assertTrue(self.verifies("-crl_check", "-CAfile", ca / "bundle.pem", "-CRLfile", ca / "crl.pem", new / "server.crt")[0])
        self.assertEqual(self.state(ca)[0][0], "retired")
        self.ok("audit", "--ca", ca, "--verify")
        self.ok("rollover", "prepare", "--ca", ca)  # and again, one day
        self.assertIn("CN=lab CA 3", self.ok("rollover", "status", "--ca", ca))

    def test_finish_without_force_when_nothing_is_left(self):
        ca = self.init()
        self.issue(ca, "a")
        self.ok("rollover", "prepare", "--ca", ca)
        self.ok("rollover", "activate", "--ca", ca)
        self.ok("revoke", "a", "--ca", ca, "--reason", "superseded")
        self.ok("rollover", "finish", "--ca", ca)

    def test_under_an_intermediate(self):
        Intermediate.make(self)
        before = self.issue(self.online, "before")
        self.refused(1, "roll its root over where", "rollover", "prepare", "--ca", self.online)
        self.ok("rollover", "prepare", "--ca", self.root)
        self.ok("install", self.root / "bundle.pem", self.root / "crl.pem", "--ca", self.online)
        both = self.issue(self.online, "both")
        self.assertEqual((both / "ca.crt").read_text().count("BEGIN"), 2)
        self.ok("rollover", "activate", "--ca", self.root)
        self.ok("sign-intermediate", self.online / "ca.csr", "--ca", self.root, "--out", self.dir / "again.pem")
        self.ok("install", self.dir / "again.pem", "--ca", self.online)
        after = self.issue(self.online, "after")
        bundle = self.online / "bundle.pem"
        for node in (before, both, after):
            self.assertTrue(self.verifies("-CAfile", bundle, "-untrusted", node / "server.crt", node / "server.crt")[0])
        self.ok("rollover", "finish", "--ca", self.root, "--force")
        self.ok("install", self.root / "bundle.pem", "--ca", self.online)
        self.assertFalse(self.verifies("-CAfile", bundle, "-untrusted", before / "server.crt", before / "server.crt")[0])
        self.assertTrue(self.verifies("-CAfile", bundle, "-untrusted", after / "server.crt", after / "server.crt")[0])
        self.ok("audit", "--ca", self.online, "--verify")


if __name__ == "__main__":
    unittest.main(verbosity=1)
