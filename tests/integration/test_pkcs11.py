# SPDX-License-Identifier: Apache-2.0
# once: dev
# timeout: 300
"""Keys in hardware, with tokens of SoftHSM2: what is refused and how it is said, a CA whose key is in a token, nodes whose keys are.
OpenSC's pkcs11-tool and OpenSSL's own PKCS#11 engine are the foreign views."""
import os
import pty
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import pki_kit
from node_kit import BIN, Node, node_file, run, wait_until
from test_ca_cli import wait_for_no_echo
from token_kit import MODULE, Tokens

SAN = "IP:127.0.0.1,IP:::1,DNS:localhost"


class TokenTest(unittest.TestCase):
    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="pfl-"))
        self.addCleanup(shutil.rmtree, self.dir)
        self.tokens = Tokens(self.dir / "hsm")
        self.addCleanup(os.environ.pop, "SOFTHSM2_CONF")
        self.tokens.make("hsm")
        self.nodes = []
        self.addCleanup(lambda: [n.kill() for n in self.nodes])

    def p2pfl(self, *argv, code=0):
        """Runs it; the PIN is in nothing that it says."""
        done = run(*argv)
        self.assertEqual(done.returncode, code, f"{argv}: {done.stdout}{done.stderr}")
        self.assertNotIn(self.tokens.pin, done.stdout + done.stderr)
        return done.stdout if code == 0 else done.stderr

    def objects(self, kind):
        """{label: text} of what pkcs11-tool lists."""
        found = {}
        for text in re.split(r"(?m)^(?=\S)", self.tokens.tool("hsm", "--list-objects", "--type", kind)):
            label = re.search(r"label:\s+(\S+)", text)
            if label:
                found[label[1]] = text
        return found


class Refusals(TokenTest):
    def refused(self, key, says, *more, code=1):
        said = self.p2pfl("ca", "init", self.dir / "ca", "--key", key, *more, code=code)
        self.assertRegex(said, says)
        self.assertFalse((self.dir / "ca" / "ca.key").exists())
        self.assertEqual(self.objects("privkey"), {})
        return said

    def test_pin_in_the_uri__refused_with_the_reason(self):
        for key in (f"pkcs11:token=hsm;object=k?pin-value={self.tokens.pin}", f"p384@pkcs11:token=hsm?pin-value={self.tokens.pin}"):
            self.refused(key, r"pin-value: .*process lists.*pin-source=file:", code=2)

    def test_wrong_pin__refused_after_one_try(self):
        wrong = self.tokens.write_pin("wrong", "55554444")
        said = self.refused(self.tokens.uri("hsm", object="k", pin_file=wrong), r"token=hsm;object=k: .*wrong PIN; it was tried once")
        self.assertNotIn("55554444", said)
        self.refused(self.tokens.uri("hsm", object="k", pin_file=False), r"wrong PIN", "--passphrase-file", wrong)

    def test_pin_file_that_others_read__refused(self):
        open_pin = self.tokens.write_pin("open", self.tokens.pin, 0o644)
        self.refused(self.tokens.uri("hsm", object="k", pin_file=open_pin), r"chmod 600")

    def test_no_pin_and_no_terminal__refused(self):
        self.refused(self.tokens.uri("hsm", object="k", pin_file=False), r"terminal")

    def test_what_is_not_there__named(self):
        self.refused(self.tokens.uri("other", object="k"), r"token=other;object=k: the token is not there \(module .* has 'hsm'\)")
        self.refused("pkcs11:token=hsm;object=k?module-path=/nonexistent/module.so", r"/nonexistent/module\.so",
                     "--pin-file", self.tokens.pin_file)

    def test_kinds_that_tokens_do_not_make__refused(self):
        self.refused("ed25519@" + self.tokens.uri("hsm", object="k"), r"ed25519 cannot be made in a token", code=2)
        self.refused("rsa:1024@" + self.tokens.uri("hsm", object="k"), r"rsa:N", code=2)

    def test_two_places_for_the_pin__refused(self):
        self.refused(self.tokens.uri("hsm", object="k"), r"one too many", "--pin-file", self.tokens.pin_file)
        self.refused("p256", r"for keys in a token only", "--pin-file", self.tokens.pin_file)

    def test_key_of_this_label_is_there__not_overwritten(self):
        self.tokens.tool("hsm", "--keypairgen", "--key-type", "EC:prime256v1", "--label", "k", "--id", "07")
        before = self.objects("pubkey")
        said = self.p2pfl("ca", "init", self.dir / "ca", "--key", "p256@" + self.tokens.uri("hsm", object="k"), code=1)
        self.assertIn("has a key of this label already", said)
        self.assertEqual(self.objects("pubkey"), before)

    def test_node_keys_at_the_ca__refused(self):
        secret = self.tokens.write_pin("secret", "correct horse battery staple")
        self.p2pfl("ca", "init", self.dir / "ca", "--passphrase-file", secret)
        said = self.p2pfl("ca", "issue", "a", "--ca", self.dir / "ca", "--san", SAN, "--out", self.dir / "a", "--passphrase-file", secret,
                          "--key", self.tokens.uri("hsm"), code=1)
        self.assertIn("made where the token is", said)


class CaInToken(TokenTest):
    def check_ca(self, kind, *more):
        ca, object_name = self.dir / f"ca-{kind.replace(':', '-')}", f"root-{kind.replace(':', '-')}"
        self.p2pfl("ca", "init", ca, "--key", f"{kind}@{self.tokens.uri('hsm', object=object_name, pin_file=False)}",
                   "--pin-file", self.tokens.pin_file)
        text = (ca / "ca.key").read_text()
        self.assertTrue(text.startswith(f"pkcs11:token=hsm;object={object_name};id=%"), text)
        self.assertNotIn("PRIVATE KEY", text)
        self.assertNotIn(self.tokens.pin, text)
        self.assertEqual((ca / "ca.key").stat().st_mode & 0o777, 0o600)
        out = self.dir / f"node-{kind.replace(':', '-')}"
        self.p2pfl("ca", "issue", "a", "--ca", ca, "--san", SAN, "--out", out)
        for name, purpose in (("server", "sslserver"), ("client", "sslclient")):
            done = subprocess.run(["openssl", "verify", "-CAfile", ca / "ca.crt", "-CRLfile", ca / "crl.pem", "-crl_check", "-purpose",
                                   purpose, out / f"{name}.crt"], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
        access = self.objects("privkey")[object_name]
        for word in ("sign", "sensitive", "always sensitive", "never extractable", "local"):
            self.assertIn(word, access)
        self.assertNotRegex(access, r"decrypt|unwrap")

    def test_p256(self):
        self.check_ca("p256")

    def test_p384(self):
        self.check_ca("p384")

    def test_rsa(self):
        self.check_ca("rsa:2048")

    def test_pin_by_passphrase_file__every_time(self):
        ca = self.dir / "ca"
        self.p2pfl("ca", "init", ca, "--federation", "clinics", "--key", self.tokens.uri("hsm", pin_file=False), "--passphrase-file",
                   self.tokens.pin_file)
        self.assertNotIn("pin-source", (ca / "ca.key").read_text())
        self.assertIn("clinics-ca", self.objects("privkey"))
        issue = ("ca", "issue", "a", "--ca", ca, "--san", SAN, "--out", self.dir / "a")
        self.assertIn("terminal", self.p2pfl(*issue, code=1))
        self.p2pfl(*issue, "--passphrase-file", self.tokens.pin_file)

    def on_terminal(self, *argv):
        """Runs p2pfl on a terminal that is asked for the PIN once: exit code and what it showed."""
        pid, tty = pty.fork()
        if pid == 0:
            os.execv(BIN, [BIN, *map(str, argv)])
        shown = b""
        while True:
            try:
                piece = os.read(tty, 4096)
            except OSError:  # Linux's way to say that nobody has the other end any more
                break
            if not piece:
                break
            asked_before = b"PIN of the token" in shown
            shown += piece
            if not asked_before and b"PIN of the token" in shown:
                argv_and_environ = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
                self.assertNotIn(self.tokens.pin.encode(), argv_and_environ)
                wait_for_no_echo(tty)
                os.write(tty, self.tokens.pin.encode() + b"\n")
        os.close(tty)
        self.assertNotIn(self.tokens.pin.encode(), shown)
        self.assertEqual(shown.count(b"PIN of the token"), 1, shown)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode(errors="replace")

    def test_pin_from_the_terminal__asked_once(self):
        ca = self.dir / "ca"
        for argv in (("ca", "init", ca, "--key", self.tokens.uri("hsm", object="root", pin_file=False)),
                     ("ca", "issue", "a", "--ca", ca, "--san", SAN, "--out", self.dir / "a")):
            code, shown = self.on_terminal(*argv)
            self.assertEqual(code, 0, shown)
        pki_kit.openssl("verify", "-CAfile", ca / "ca.crt", self.dir / "a" / "server.crt")

    def test_key_made_beforehand__used(self):
        """A key ceremony makes the key with the vendor's tools; the CA takes it over."""
        self.tokens.tool("hsm", "--keypairgen", "--key-type", "EC:secp384r1", "--label", "ceremony", "--id", "0102")
        self.p2pfl("ca", "init", self.dir / "ca", "--key", self.tokens.uri("hsm", object="ceremony"))
        self.assertEqual(list(self.objects("privkey")), ["ceremony"])
        text = subprocess.run(["openssl", "x509", "-in", self.dir / "ca" / "ca.crt", "-noout", "-text"], capture_output=True, text=True)
        self.assertIn("secp384r1", text.stdout)

    def test_token_gone_or_other_key__said(self):
        ca = self.dir / "ca"
        self.p2pfl("ca", "init", ca, "--key", self.tokens.uri("hsm", object="root"))
        issue = ("ca", "issue", "a", "--ca", ca, "--san", SAN, "--out", self.dir / "a")
        self.tokens.tool("hsm", "--delete-object", "--type", "privkey", "--label", "root")
        self.assertIn("no such private key", self.p2pfl(*issue, code=1))
        shutil.move(self.dir / "hsm" / "tokens", self.dir / "hsm" / "away")
        (self.dir / "hsm" / "tokens").mkdir()
        self.assertIn("the token is not there", self.p2pfl(*issue, code=1))
        self.assertFalse((self.dir / "a").exists())


class NodeInToken(TokenTest):
    def setUp(self):
        super().setUp()
        self.kit_ca = pki_kit.Ca(self.dir / "kit-ca", "Token CA")

    def certify(self, folder, purpose, key_args):
        """A certificate for a key, made by OpenSSL's command line; for one in the token through OpenSSL's engine."""
        csr, ext = folder / f"{purpose}.csr", folder / "ext"
        ext.write_text(pki_kit.leaf_ext(purpose))
        pki_kit.openssl("req", "-new", *key_args, "-subj", f"/CN={folder.name}", "-out", csr)
        pki_kit.openssl("ca", "-batch", "-notext", "-config", "ca.cnf", "-keyfile", self.kit_ca.key, "-cert", self.kit_ca.crt, "-in", csr,
                        "-out", folder / f"{purpose}.crt", "-startdate", pki_kit.utc(-1), "-enddate", pki_kit.utc(30), "-md", "sha256",
                        "-extfile", ext, cwd=self.kit_ca.dir)

    def folder(self, name, keys):
        """A node's folder. keys: None for files, or the spec's kind for keys in the token."""
        folder = self.dir / name
        folder.mkdir()
        shutil.copy(self.kit_ca.crt, folder / "ca.crt")
        for purpose in ("server", "client"):
            key_file = folder / f"{purpose}.key"
            if keys:
                self.tokens.tool("hsm", "--keypairgen", "--key-type", keys, "--label", f"{name}-{purpose}", "--id",
                                 f"{name}{purpose}".encode().hex(), "--usage-sign")
                self.certify(folder, purpose, ("-engine", "pkcs11", "-keyform", "engine", "-key",
                                               f"pkcs11:token=hsm;object={name}-{purpose};type=private?pin-source=file:{self.tokens.pin_file}"))
            else:
                pki_kit.make_key(key_file)
                self.certify(folder, purpose, ("-key", key_file))
        node_file(folder)
        return folder

    def name_keys(self, folder, server, client, more=""):
        path = folder / "node.yaml"
        text = path.read_text().replace("server_key: server.key", f'server_key: "{server}"').replace(
            "client_key: client.key", f'client_key: "{client}"{more}')
        path.write_text(text)

    def uris(self, name, **options):
        return [self.tokens.uri("hsm", object=f"{name}-{p}", **options) for p in ("server", "client")]

    def start(self, folder):
        self.nodes.append(Node(folder))
        return self.nodes[-1]

    def does_not_start(self, folder, says):
        done = run("node", "start", "-c", folder / "node.yaml")
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stderr, says)
        self.assertNotIn(self.tokens.pin, done.stderr + done.stdout)
        self.assertFalse((folder / "state" / "control.sock").exists())

    def engine(self):
        """OpenSSL's engine knows the module by its own variable."""
        os.environ["PKCS11_MODULE_PATH"] = MODULE
        self.addCleanup(os.environ.pop, "PKCS11_MODULE_PATH")

    def test_refusals__said_and_no_node_runs(self):
        self.engine()
        a = self.folder("a", "EC:prime256v1")
        yaml = (a / "node.yaml").read_text()
        server, client = self.uris("a")
        wrong = self.tokens.write_pin("wrong", "11223344")
        for server_key, client_key, says in (
                (f"pkcs11:token=hsm;object=a-server?pin-value={self.tokens.pin}", client, r"pin-value"),
                (self.tokens.uri("hsm", object="a-server", pin_file=wrong), client, r"wrong PIN"),
                (self.tokens.uri("hsm", object="a-server", pin_file=False), client, r"wants a PIN .*settings\.ssl\.pin_file"),
                (self.tokens.uri("hsm", object="nothing"), client, r"object=nothing: the token has no such private key"),
                (self.tokens.uri("nobody", object="a-server"), client, r"token=nobody;object=a-server: the token is not there"),
                (client, client, r"does not belong to the certificate")):
            with self.subTest(server_key):
                (a / "node.yaml").write_text(yaml)
                self.name_keys(a, server_key, client_key)
                self.does_not_start(a, says)

    def test_round_with_a_node_that_has_its_keys_in_files(self):
        self.engine()
        for name, kind in (("ec", "EC:prime256v1"), ("rsa", "RSA:2048")):
            with self.subTest(kind):
                in_token, plain = self.folder(name, kind), self.folder(f"{name}-plain", None)
                self.name_keys(in_token, *self.uris(name, pin_file=False), more=f"\n    pin_file: {self.tokens.pin_file}")
                a, b = self.start(in_token), self.start(plain)
                a.do("connect", b.address)
                a.do("learn", "--rounds", "2", "--trainset-size", "2")
                digests = set()
                for node in (a, b):
                    digests.add(node.wait_event("learning_finished")["digest"])
                self.assertEqual(len(digests), 1)
                self.assertNotIn(self.tokens.pin.encode(), Path(f"/proc/{a.proc.pid}/cmdline").read_bytes())
                for node in (a, b):
                    self.assertEqual(node.stop(), 0, node.log()[-4000:])
                    self.assertNotIn(self.tokens.pin, node.log())

    def test_key_files_that_are_uris__start_too(self):
        self.engine()
        a = self.folder("a", "EC:prime256v1")
        for purpose, uri in zip(("server", "client"), self.uris("a")):
            (a / f"{purpose}.key").write_text(uri + "\n")
            (a / f"{purpose}.key").chmod(0o600)
        node = self.start(a)
        self.assertEqual(node.stop(), 0, node.log())


class Enrolment(TokenTest):
    """A CA whose key is in one token, nodes that make theirs in another."""

    def setUp(self):
        super().setUp()
        self.tokens.make("nodes")
        self.ca = self.dir / "ca"
        self.p2pfl("ca", "init", self.ca, "--federation", "clinics", "--key", self.tokens.uri("hsm", object="root"))
        (self.dir / "settings.yaml").write_text("settings:\n  heartbeat: {period: 0.5, timeout: 3}\n"
                                                "learner: {dataset: dummy, model: dummy, dummy_values: 20000, dummy_delay_ms: 20}\n")

    def serve(self):
        log = open(self.dir / "serve.log", "w+")
        self.addCleanup(log.close)
        service = subprocess.Popen([BIN, "ca", "serve", "--ca", self.ca, "--listen", "127.0.0.1:0", "--settings", self.dir / "settings.yaml"],
                                   stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.addCleanup(service.wait)
        self.addCleanup(service.kill)
        wait_until("the service listens", lambda: "--ca-hash" in (self.dir / "serve.log").read_text())
        self.assertNotIn(self.tokens.pin.encode(), Path(f"/proc/{service.pid}/cmdline").read_bytes())
        return service

    def join(self, name, *more, code=0):
        line = self.p2pfl("ca", "token", "--ca", self.ca, "--name", name, "--san", SAN, "--role", "coordinator").split()
        self.assertEqual(line[:2], ["p2pfl", "join"])
        return self.p2pfl(*line[1:], "--dir", self.dir / name, "--address", "127.0.0.1:0", *more, code=code)

    def labels(self, token, kind):
        return sorted(re.findall(r"label:\s+(\S+)", self.tokens.tool(token, "--list-objects", "--type", kind)))

    def test_join__keys_made_in_the_token__a_round(self):
        service = self.serve()
        self.join("a", "--key", self.tokens.uri("nodes", object="a", pin_file=False), "--pin-file", self.tokens.pin_file)
        self.join("b", "--key", "rsa:2048@" + self.tokens.uri("nodes", object="b"))
        self.join("c")
        self.assertEqual(self.labels("nodes", "privkey"), ["a-client", "a-server", "b-client", "b-server"])
        for name in "ab":
            for purpose in ("server", "client"):
                key = self.dir / name / "certs" / f"{purpose}.key"
                self.assertRegex(key.read_text(), rf"\Apkcs11:token=nodes;object={name}-{purpose};id=%\S+pin-source=file:\S+\n\Z")
                self.assertEqual(key.stat().st_mode & 0o777, 0o600)
        for access in re.findall(r"Access:\s+(.*)", self.tokens.tool("nodes", "--list-objects", "--type", "privkey")):
            self.assertIn("never extractable", access)
        nodes = []
        for name in "abc":
            nodes.append(Node(self.dir / name, state=self.dir / name))
            self.nodes.append(nodes[-1])
        for node in nodes[1:]:
            node.do("connect", nodes[0].address)
        for node in nodes:
            wait_until("all know each other", lambda: len(node.status()["peers"]) == 2)
        nodes[0].do("learn", "--rounds", "2", "--trainset-size", "3")
        self.assertEqual(len({n.wait_event("learning_finished")["digest"] for n in nodes}), 1)
        for node in nodes:
            self.assertEqual(node.stop(), 0, node.log()[-4000:])
            self.assertNotIn(self.tokens.pin, node.log())
        service.terminate()
        self.assertEqual(service.wait(30), 0, (self.dir / "serve.log").read_text())
        self.assertNotIn(self.tokens.pin, (self.dir / "serve.log").read_text())

    def test_join_that_fails__takes_its_keys_out_again(self):
        self.serve()
        line = self.p2pfl("ca", "token", "--ca", self.ca, "--name", "a", "--san", SAN).split()
        wrong = "sha256:" + "0" * 64
        said = self.p2pfl(*line[1:-1], wrong, "--dir", self.dir / "a", "--timeout", "5s", "--key", self.tokens.uri("nodes"), code=1)
        self.assertNotIn(line[4], said)
        self.assertEqual(self.labels("nodes", "privkey") + self.labels("nodes", "pubkey"), [])
        self.assertFalse((self.dir / "a").exists())

    def test_join_without_names__second_node_of_a_token_is_refused_its_neighbours_keys(self):
        self.serve()
        self.join("a", "--key", self.tokens.uri("nodes"))
        self.assertEqual(self.labels("nodes", "privkey"), ["node-client", "node-server"])
        said = self.join("b", "--key", self.tokens.uri("nodes"), code=1)
        self.assertIn("name another with object=", said)
        self.assertEqual(self.labels("nodes", "privkey"), ["node-client", "node-server"])
        self.assertFalse((self.dir / "b").exists())

    def test_csr_and_sign__the_way_without_a_service(self):
        node = self.dir / "a"
        self.p2pfl("csr", "--name", "a", "--san", SAN, "--federation", "clinics", "--dir", node, "--address", "127.0.0.1:0", "--key",
                   "p384@" + self.tokens.uri("nodes"))
        self.assertEqual(self.labels("nodes", "privkey"), ["a-client", "a-server"])
        for purpose in ("server", "client"):
            pki_kit.openssl("req", "-verify", "-noout", "-in", node / "certs" / f"{purpose}.csr")
            self.p2pfl("ca", "sign", node / "certs" / f"{purpose}.csr", "--ca", self.ca, "--name", "a", "--san", SAN, "--purpose", purpose,
                       "--out", node / "certs" / f"{purpose}.crt")
        shutil.copy(self.ca / "ca.crt", node / "certs" / "ca.crt")
        self.nodes.append(Node(node, state=node))
        self.assertEqual(self.nodes[-1].stop(), 0, self.nodes[-1].log())

    def test_new_root__stays_in_a_token(self):
        said = self.p2pfl("ca", "rollover", "prepare", "--ca", self.ca, code=1)
        self.assertIn("the present root's key is in a token", said)
        self.p2pfl("ca", "rollover", "prepare", "--ca", self.ca, "--key", "p384@" + self.tokens.uri("hsm", object="root-2"))
        self.p2pfl("ca", "rollover", "activate", "--ca", self.ca)
        self.p2pfl("ca", "issue", "a", "--ca", self.ca, "--san", SAN, "--out", self.dir / "a")
        pki_kit.openssl("verify", "-CAfile", self.ca / "ca.crt", self.dir / "a" / "server.crt")
        self.assertEqual(self.labels("hsm", "privkey"), ["root", "root-2"])
        for path in self.ca.glob("*.key"):
            self.assertTrue(path.read_text().startswith("pkcs11:"), path)


if __name__ == "__main__":
    unittest.main()
