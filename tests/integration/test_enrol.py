# SPDX-License-Identifier: Apache-2.0
# once: dev
# timeout: 300
"""Enrolment through `p2pfl ca serve`: who is refused and why, then who gets in; a foreign gRPC client; openssl as the judge."""
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from enrol_kit import P2PFL, CaService, run, wait_for  # noqa: E402
from pki_kit import openssl  # noqa: E402

import grpc  # noqa: E402

SRC = Path(os.environ["P2PFL_SRC"])
TMP = Path(tempfile.mkdtemp(prefix="pfl-enrol-"))
GENERATED = TMP / "py"
GENERATED.mkdir()
subprocess.run(["/usr/bin/protoc", f"-I{SRC}/proto", "-I/usr/include", f"--python_out={GENERATED}", "ca.proto"], check=True)
sys.path.insert(0, str(GENERATED))
import ca_pb2  # noqa: E402

CA = None


def setUpModule():
    global CA
    CA = CaService(TMP / "service")


def tearDownModule():
    CA.stop()
    shutil.rmtree(TMP)


def csr(name, subject="/CN=a", extensions=(), key="ec"):
    """A request made by openssl: (key file, DER)."""
    key_file, out = TMP / f"{name}.key", TMP / f"{name}.csr"
    args = ["req", "-new", "-nodes", "-keyout", key_file, "-subj", subject, "-outform", "DER", "-out", out]
    args += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if key == "ec" else ["-newkey", key]
    for extension in extensions:
        args += ["-addext", extension]
    openssl(*args)
    return key_file, out.read_bytes()


def call(ca, method, request, response, pair=None):
    """A call of Debian's grpcio: the answer, or a grpc.RpcError."""
    root = (ca.ca / "ca.crt").read_bytes()
    credentials = grpc.ssl_channel_credentials(root, *((p.read_bytes() for p in pair) if pair else ()))
    with grpc.secure_channel(ca.url, credentials) as channel:
        stub = channel.unary_unary(f"/p2pfl.ca.v1.CertificateAuthority/{method}", type(request).SerializeToString, response.FromString)
        return stub(request, timeout=30)


def enrol(ca, token, server, client):
    return call(ca, "Enrol", ca_pb2.EnrolRequest(token=token, server_csr=server, client_csr=client), ca_pb2.Credentials)


class Refusals(unittest.TestCase):
    def check_no_folder(self, folder):
        self.assertFalse(folder.exists())
        self.assertEqual([p for p in folder.parent.iterdir() if p.name.startswith(".p2pfl-join")], [])

    def refuse_join(self, token, reason, *options, **kwargs):
        folder = TMP / "refused" / "node"
        done = CA.join(token, folder, *options, check=False, **kwargs)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertRegex(done.stderr, reason)
        self.assertNotIn(token.split(".", 1)[1], done.stderr)
        self.check_no_folder(folder)

    def refuse_csr(self, name, code, reason, **kwargs):
        good = csr("good")[1]
        token = CA.token()
        with self.assertRaises(grpc.RpcError) as raised:
            enrol(CA, token, csr(name, **kwargs)[1], good)
        self.assertEqual(raised.exception.code(), code, raised.exception.details())
        self.assertRegex(raised.exception.details(), reason)
        enrol(CA, token, csr("fine")[1], csr("fine2")[1])  # a refusal does not use the token up

    def test_used_token(self):
        token = CA.token("used")
        CA.join(token, TMP / "used")
        self.refuse_join(token, r"token \d+ was used on .* for other keys")

    def test_expired_token(self):
        token = CA.token("late", "IP:127.0.0.1", "--ttl", "1s")
        wait_for(lambda: "expired" in run("ca", "token", "list", "--ca", CA.ca).stdout, "the token to expire")
        self.refuse_join(token, r"token \d+ expired on .*: ask the operator")

    def test_revoked_token(self):
        token = CA.token("gone")
        run("ca", "token", "revoke", token.split(".")[0], "--ca", CA.ca)
        self.refuse_join(token, r"token \d+ was revoked on")

    def test_wrong_hash__nothing_is_sent(self):
        """The CA is the right one to TLS, but not the one pinned: no application byte may come."""
        other = "sha256:" + "ab" * 32
        self.refuse_join(CA.token("pinned"), r"none of the \d+ certificates it sent has the CA's pinned key", ca_hash=other)
        certs = TMP / "fake"
        certs.mkdir()
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "k.pem", "-out", "c.pem",
                "-subj", "/CN=fake", "-addext", "subjectAltName=IP:127.0.0.1", cwd=certs)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certs / "c.pem", certs / "k.pem")
        context.set_alpn_protocols(["h2"])
        listener = socket.create_server(("127.0.0.1", 0))
        seen = []

        def serve():
            while True:
                try:
                    raw = listener.accept()[0]
                except OSError:
                    return
                try:
                    with context.wrap_socket(raw, server_side=True) as tls:
                        seen.append(tls.recv(65536))
                except OSError:
                    seen.append(b"")

        thread = threading.Thread(target=serve)
        thread.start()
        self.refuse_join("1." + "x" * 43, "pinned key", url=f"127.0.0.1:{listener.getsockname()[1]}")
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(30)
        self.assertGreater(len(seen), 0)
        self.assertEqual(set(seen), {b""})

    def test_member_in_the_place_of_the_service(self):
        """A node of the federation listens there: its certificate is good, but it has not the role."""
        CA.join(CA.token("impostor"), TMP / "impostor", "--address", "127.0.0.1:0")
        node = subprocess.Popen([P2PFL, "node", "start", "-c", TMP / "impostor" / "node.yaml"], stderr=subprocess.PIPE, text=True)
        try:
            for line in node.stderr:
                found = re.search(r"listens on (127\.0\.0\.1:\d+)", line)
                if found:
                    break
            self.refuse_join("1." + "x" * 43, "pinned key|not a CA service|role 'ca'", url=found.group(1))
        finally:
            node.terminate()
            node.communicate()

    def test_csr_with_more_names(self):
        self.refuse_csr("more", grpc.StatusCode.PERMISSION_DENIED, "asks for more.*DNS:evil.example.*DNS:worse.example",
                        extensions=["subjectAltName=DNS:evil.example,DNS:worse.example,IP:127.0.0.1"])

    def test_csr_with_another_name(self):
        self.refuse_csr("name", grpc.StatusCode.PERMISSION_DENIED, "the common name 'other'", subject="/CN=other")

    def test_csr_with_another_role(self):
        self.refuse_csr("role", grpc.StatusCode.PERMISSION_DENIED, "spiffe://hospitals/coordinator/a",
                        extensions=["subjectAltName=URI:spiffe://hospitals/coordinator/a"])

    def test_csr_for_a_ca(self):
        self.refuse_csr("ca", grpc.StatusCode.PERMISSION_DENIED, "CA:TRUE", extensions=["basicConstraints=critical,CA:TRUE"])

    def test_csr_with_a_weak_key(self):
        self.refuse_csr("weak", grpc.StatusCode.PERMISSION_DENIED, "1024", key="rsa:1024")

    def test_garbage(self):
        for server, client in ((b"x", b"y"), (b"\x30\x82\xff\xff", b"")):
            with self.assertRaises(grpc.RpcError) as raised:
                enrol(CA, CA.token("garbage"), server, client)
            self.assertEqual(raised.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)

    def test_renewal_without_a_certificate(self):
        with self.assertRaises(grpc.RpcError) as raised:
            call(CA, "Renew", ca_pb2.RenewRequest(server_csr=csr("r1")[1], client_csr=csr("r2")[1]), ca_pb2.Credentials)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.UNAUTHENTICATED)

    def renew_with(self, pair, subject):
        return call(CA, "Renew", ca_pb2.RenewRequest(server_csr=csr("n1", subject)[1], client_csr=csr("n2", subject)[1]),
                    ca_pb2.Credentials, pair)

    def test_renewal_by_a_revoked_certificate(self):
        CA.join(CA.token("revoked"), TMP / "revoked")
        certs = TMP / "revoked" / "certs"
        self.renew_with((certs / "client.key", certs / "client.crt"), "/CN=revoked")
        run("ca", "revoke", "revoked", "--ca", CA.ca, "--reason", "keyCompromise", "--passphrase-file", CA.pass_file)
        with self.assertRaises(grpc.RpcError) as raised:
            self.renew_with((certs / "client.key", certs / "client.crt"), "/CN=revoked")
        self.assertEqual(raised.exception.code(), grpc.StatusCode.PERMISSION_DENIED)
        self.assertIn("is revoked (keyCompromise)", raised.exception.details())

    def test_renewal_by_a_foreign_certificate(self):
        other = CaService(TMP / "other", federation="others")
        other.join(other.token("alien"), TMP / "alien")
        other.stop()
        certs = TMP / "alien" / "certs"
        with self.assertRaises(grpc.RpcError) as raised:
            self.renew_with((certs / "client.key", certs / "client.crt"), "/CN=alien")
        self.assertEqual(raised.exception.code(), grpc.StatusCode.UNAVAILABLE)  # TLS refused it
        wait_for(lambda: re.search("refused .*spiffe://others/node/alien.*", CA.errors()), "the refusal in the log")

    @unittest.skipUnless(shutil.which("faketime"), "Debian's package faketime is not installed")
    def test_a_clock_an_hour_off__named_as_such(self):
        """Behind, the CA is not valid yet and gets nothing; ahead, all is in time still, and it is said."""
        env = os.environ | {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}
        for off, name in (("-1h", "late"), ("+1h", "early")):
            argv = ["faketime", "-f", off, P2PFL, "join", CA.url, "--token", CA.token(name), "--ca-hash", CA.hash, "--dir", TMP / name]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=120, env=env)
            if off == "-1h":
                self.assertEqual(done.returncode, 1, done.stdout)
                self.assertRegex(done.stderr, r"not valid before .* UTC; this machine's clock says .* UTC: is it right\?")
                self.assertFalse((TMP / name).exists())
            else:
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertRegex(done.stderr, r"warning: this machine's clock is (59|60) min ahead of the CA's: set it right")

    def test_half_a_request(self):
        """Connections that say nothing or half of it do not keep others out."""
        quiet = [socket.create_connection(("127.0.0.1", CA.port)) for _ in range(5)]
        quiet[0].sendall(b"\x16\x03\x01")
        CA.join(CA.token("patient"), TMP / "patient")
        for s in quiet:
            s.close()


class Limits(unittest.TestCase):
    def test_flood_of_wrong_tokens(self):
        ca = CaService(TMP / "flooded")
        try:
            server, client = csr("f1")[1], csr("f2")[1]
            codes = []
            for i in range(60):
                with self.assertRaises(grpc.RpcError) as raised:
                    enrol(ca, f"{i + 1}." + "A" * 43, server, client)
                codes.append(raised.exception.code())
            self.assertEqual(codes[0], grpc.StatusCode.UNAUTHENTICATED)
            self.assertEqual(codes[-1], grpc.StatusCode.RESOURCE_EXHAUSTED)
            entries = [line for line in ca.audit().splitlines() if "refuse" in line]
            self.assertGreater(len(entries), 0)
            self.assertLess(len(entries), 45)  # 20 a minute, however many come
            self.assertIn("untouched", run("ca", "audit", "--ca", ca.ca, "--verify").stdout)
        finally:
            ca.stop()

    def test_expired_certificate__only_within_the_window(self):
        for window, accepted in ((None, False), ("1h", True)):
            ca = CaService(TMP / f"window-{window}", "--lifetime", "3s", *(("--renew-window", window) if window else ()))
            try:
                folder = TMP / f"expired-{window}"
                ca.join(ca.token("a"), folder)
                certs = folder / "certs"
                wait_for(lambda: subprocess.run(["openssl", "x509", "-checkend", "0", "-noout", "-in", certs / "client.crt"],
                                                capture_output=True).returncode == 1, "the certificate to expire")
                request = ca_pb2.RenewRequest(server_csr=csr("e1")[1], client_csr=csr("e2")[1])
                pair = (certs / "client.key", certs / "client.crt")
                if accepted:
                    answer = call(ca, "Renew", request, ca_pb2.Credentials, pair)
                    self.assertEqual(answer.federation.node_name, "a")
                    run("ca", "revoke", "a", "--ca", ca.ca, "--passphrase-file", ca.pass_file)
                with self.assertRaises(grpc.RpcError):
                    call(ca, "Renew", request, ca_pb2.Credentials, pair)
            finally:
                ca.stop()


class Accepted(unittest.TestCase):
    def test_join__a_folder_that_starts(self):
        token = CA.token("hospital-a", "IP:127.0.0.1,DNS:a.example")
        folder = TMP / "hospital-a"
        done = CA.join(token, folder, "--address", "127.0.0.1:0", "--json")
        self.assertEqual(json.loads(done.stdout)["name"], "hospital-a")
        certs = folder / "certs"
        modes = {p.name: p.stat().st_mode & 0o777 for p in certs.iterdir()}
        self.assertEqual(modes, {"ca.crt": 0o644, "server.crt": 0o644, "client.crt": 0o644, "crl.pem": 0o644, "server.key": 0o600,
                                 "client.key": 0o600})
        for name, purpose in (("server", "sslserver"), ("client", "sslclient")):
            openssl("verify", "-x509_strict", "-purpose", purpose, "-CAfile", certs / "ca.crt", "-crl_check", "-CRLfile",
                    certs / "crl.pem", certs / f"{name}.crt")
        text = openssl("x509", "-noout", "-text", "-in", certs / "server.crt").decode()
        self.assertIn("IP Address:127.0.0.1, DNS:a.example, URI:spiffe://hospitals/node/hospital-a", text)
        node = subprocess.Popen([P2PFL, "node", "start", "-c", folder / "node.yaml"], stderr=subprocess.PIPE, text=True)
        try:
            self.assertTrue(any("listens on" in line for line in node.stderr))
        finally:
            node.terminate()
            node.communicate()
        again = CA.join(CA.token("hospital-a"), folder, check=False)
        self.assertEqual(again.returncode, 1)
        self.assertIn("exists already and is not overwritten", again.stderr)

    def test_token__not_on_the_command_line(self):
        file = TMP / "token"
        file.write_text(CA.token("quiet") + "\n")
        file.chmod(0o600)
        run("join", CA.url, "--token-file", file, "--ca-hash", CA.hash, "--dir", TMP / "quiet")
        token = CA.token("stdin")
        run("join", CA.url, "--token", "-", "--ca-hash", CA.hash, "--dir", TMP / "stdin", input=token + "\n")

    def test_grpcio__enrols_twice_with_the_same_keys_and_renews(self):
        token, (key, client), (_, server) = CA.token("foreign"), csr("g1", "/CN=foreign"), csr("g2", "/CN=foreign")
        first = enrol(CA, token, server, client)
        again = enrol(CA, token, server, client)  # the answer got lost
        self.assertEqual(first.server_chain, again.server_chain)
        self.assertEqual(first.client_chain, again.client_chain)
        self.assertEqual(len([c for c in CA.register() if c["name"] == "foreign"]), 2)
        crt = TMP / "foreign.crt"
        crt.write_bytes(openssl("x509", "-inform", "DER", stdin=first.client_chain[0]))
        renewed = call(CA, "Renew", ca_pb2.RenewRequest(server_csr=server, client_csr=client), ca_pb2.Credentials, (key, crt))
        self.assertNotEqual(renewed.client_chain, first.client_chain)
        self.assertEqual(list(renewed.federation.sans), ["IP:127.0.0.1"])
        bundle = call(CA, "GetBundle", ca_pb2.BundleRequest(), ca_pb2.Bundle)
        self.assertEqual((len(bundle.roots), len(bundle.crls)), (1, 1))
        openssl("crl", "-inform", "DER", "-noout", "-text", stdin=bundle.crls[0])

    def test_settings__of_the_federation(self):
        settings = TMP / "settings.yaml"
        settings.write_text("settings:\n  gossip:\n    ttl: 7\n  ssl:\n    crl_policy: require\n")
        ca = CaService(TMP / "with-settings", "--settings", str(settings), "--connect", "127.0.0.1:9999")
        try:
            ca.join(ca.token(), TMP / "with-settings" / "a")
            text = (TMP / "with-settings" / "a" / "node.yaml").read_text()
            for wanted in ("ttl: 7", 'crl_policy: "require"', "127.0.0.1:9999", f'service: "{ca.url}"'):
                self.assertIn(wanted, text)
        finally:
            ca.stop()
        settings.write_text("settings:\n  ssl:\n    use_ssl: false\n")
        done = run("ca", "serve", "--ca", ca.ca, "--listen", "127.0.0.1:0", "--settings", settings, "--passphrase-file", ca.pass_file,
                   check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("use_ssl: false has no place", done.stderr)

    def test_csr__the_offline_way(self):
        folder = TMP / "offline"
        run("csr", "--name", "offline", "--san", "IP:127.0.0.1", "--federation", "hospitals", "--dir", folder, "--address",
            "127.0.0.1:0")
        certs = folder / "certs"
        for side in ("server", "client"):
            openssl("req", "-verify", "-noout", "-in", certs / f"{side}.csr")
            run("ca", "sign", certs / f"{side}.csr", "--ca", CA.ca, "--name", "offline", "--san", "IP:127.0.0.1",
                "--purpose", side, "--out", certs / f"{side}.crt", "--passphrase-file", CA.pass_file)
        shutil.copy(CA.ca / "ca.crt", certs / "ca.crt")
        node = subprocess.Popen([P2PFL, "node", "start", "-c", folder / "node.yaml"], stderr=subprocess.PIPE, text=True)
        try:
            self.assertTrue(any("listens on" in line for line in node.stderr))
        finally:
            node.terminate()
            node.communicate()


class Approval(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.ca = CaService(TMP / "approving", "--approve")

    @classmethod
    def tearDownClass(cls):
        cls.ca.stop()

    def start(self, name):
        token = self.ca.token(name)
        process = subprocess.Popen([P2PFL, "join", self.ca.url, "--token", token, "--ca-hash", self.ca.hash, "--dir", TMP / name,
                                    "--timeout", "60s"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

        def pending():
            all_ = json.loads(run("ca", "requests", "--ca", self.ca.ca, "--json").stdout)
            return next((r for r in all_ if r["name"] == name), None)

        return process, wait_for(pending, "the request")

    def test_approve(self):
        process, request = self.start("waiting")
        wrong = run("ca", "approve", request["number"], "--ca", self.ca.ca, "--fingerprint", "sha256:" + "0" * 64, check=False)
        self.assertIn("not approved", wrong.stderr)
        done = run("ca", "approve", request["number"], "--ca", self.ca.ca, "--fingerprint", request["server_key"])
        self.assertIn("approved", done.stdout)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, err)
        self.assertIn(request["server_key"], err)  # to be compared
        self.assertTrue((TMP / "waiting" / "node.yaml").exists())

    def test_deny(self):
        process, request = self.start("unwanted")
        run("ca", "deny", request["number"], "--ca", self.ca.ca)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1)
        self.assertRegex(err, r"request \d+ was denied by")
        self.assertFalse((TMP / "unwanted").exists())

    def test_more_than_granted__refused_at_once(self):
        with self.assertRaises(grpc.RpcError) as raised:
            enrol(self.ca, self.ca.token("a"), csr("early", extensions=["subjectAltName=DNS:evil.example"])[1], csr("early2")[1])
        self.assertEqual(raised.exception.code(), grpc.StatusCode.PERMISSION_DENIED)


if __name__ == "__main__":
    unittest.main()
