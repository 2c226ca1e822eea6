# SPDX-License-Identifier: Apache-2.0
# once: dev
# timeout: 240
"""EST (RFC 7030) with clients that are not ours: curl over HTTP/2 and HTTP/1.1, strongSwan's pki, and raw bytes."""
import base64
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from enrol_kit import CaService, run  # noqa: E402
from pki_kit import openssl  # noqa: E402

TMP = Path(tempfile.mkdtemp(prefix="pfl-est-"))
CA = None
PKCS10 = "Content-Type: application/pkcs10"


def setUpModule():
    global CA
    CA = CaService(TMP / "service")


def tearDownModule():
    CA.stop()
    shutil.rmtree(TMP)


def curl(path, *options, version="--http2", ca=None):
    """(status, headers, body)."""
    ca = ca or CA
    body = TMP / "body"
    body.unlink(missing_ok=True)
    done = subprocess.run(["curl", "-sS", version, "--cacert", ca.ca / "ca.crt", "-D", "-", "-o", body, *map(str, options),
                           f"https://{ca.url}/.well-known/est/{path}"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    head = done.stdout.replace("\r", "").rstrip("\n").split("\n\n")[-1]
    return int(head.split()[1]), head.lower(), body.read_bytes() if body.exists() else b""


def make_csr(name, *options):
    key, csr = TMP / f"{name}.key", TMP / f"{name}.csr"
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-subj", f"/CN={name}",
            "-outform", "DER", "-out", csr, *options)
    (TMP / f"{name}.b64").write_bytes(base64.encodebytes(csr.read_bytes()))
    return key, TMP / f"{name}.b64"


def enrol(name, token, csr, version="--http2", user=None, ca=None):
    return curl("simpleenroll", "-u", f"{user or name}:{token}", "-H", PKCS10, "--data-binary", f"@{csr}", version=version, ca=ca)


def certificate(body):
    return openssl("pkcs7", "-inform", "DER", "-print_certs", stdin=base64.b64decode(body, validate=True))


class Refusals(unittest.TestCase):
    def check(self, answer, status, reason):
        self.assertEqual(answer[0], status, answer)
        self.assertRegex(answer[2].decode(), reason)

    def test_tokens(self):
        csr = make_csr("refused")[1]
        for version in ("--http2", "--http1.1"):
            self.check(curl("simpleenroll", "-H", PKCS10, "--data-binary", f"@{csr}", version=version), 401, "token as password")
            self.check(enrol("refused", "9999." + "x" * 43, csr, version), 401, "knows no such token")
        self.check(enrol("refused", CA.token("refused"), csr, user="other"), 403, "for another name than 'other'")
        used = CA.token("refused")
        self.assertEqual(enrol("refused", used, csr)[0], 200)
        self.check(enrol("refused", used, make_csr("refused2", "-subj", "/CN=refused")[1]), 403, "was used on .* for other keys")

    def test_requests(self):
        token = CA.token("asks")
        more = make_csr("asks", "-addext", "subjectAltName=DNS:evil.example")[1]
        self.check(enrol("asks", token, more), 403, "DNS:evil.example")
        self.check(curl("simpleenroll", "-u", f"asks:{token}", "-H", "Content-Type: text/plain", "--data-binary", "x"), 415, "pkcs10")
        self.check(curl("simpleenroll", "-u", f"asks:{token}", "-H", PKCS10, "--data-binary", "%%%"), 400, "not base64")
        (TMP / "large").write_bytes(b"A" * 70000)
        for version in ("--http2", "--http1.1"):
            self.assertEqual(curl("simpleenroll", "-u", f"asks:{token}", "-H", PKCS10, "--data-binary", f"@{TMP / 'large'}",
                                  version=version)[0], 413)
        self.check(curl("nothing"), 404, "simpleenroll")
        self.check(curl("simpleenroll"), 405, "POST")
        self.check(curl("simplereenroll", "-H", PKCS10, "--data-binary", f"@{more}"), 401, "client certificate")

    def raw(self, data):
        """What comes back for these bytes over TLS without ALPN."""
        context = ssl.create_default_context(cafile=CA.ca / "ca.crt")
        with context.wrap_socket(socket.create_connection(("127.0.0.1", CA.port), timeout=30), server_hostname="127.0.0.1") as tls:
            tls.sendall(data)
            answer = b""
            try:
                while chunk := tls.recv(65536):
                    answer += chunk
            except OSError:
                pass
        return answer

    def test_http1__strict(self):
        for data, status in ((b"rubbish\r\n\r\n", 400), (b"GET / HTTP/2.0\r\n\r\n", 505), (b"GET / HTTP/1.1\r\n folded: x\r\n\r\n", 400),
                             (b"POST /x HTTP/1.1\r\n\r\n", 411),
                             (b"POST /x HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400),
                             (b"POST /x HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
                             (b"POST /x HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
                             (b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
                             (b"GET /x HTTP/1.1\r\nX: " + b"y" * 9000, 431),
                             (b"GET /other HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n\r\n", 404)):
            answer = self.raw(data)
            self.assertTrue(answer.startswith(b"HTTP/1.1 %d " % status), (data[:60], answer[:200]))
            self.assertEqual(answer.count(b"HTTP/1.1"), 1)


class Accepted(unittest.TestCase):
    def test_curl__cacerts_enrol_and_renew(self):
        for version in ("--http2", "--http1.1"):
            status, head, body = curl("cacerts", version=version)
            self.assertEqual(status, 200)
            self.assertIn("content-type: application/pkcs7-mime", head)
            self.assertIn("content-transfer-encoding: base64", head)
            self.assertIn(b"CN = hospitals CA", certificate(body))
            name = "curl" + version.strip("-").replace(".", "")
            key, csr = make_csr(name)
            status, head, body = enrol(name, CA.token(name, "IP:127.0.0.1,DNS:a.example"), csr, version)
            self.assertEqual(status, 200, body)
            self.assertIn("smime-type=certs-only", head)
            crt = TMP / f"{name}.crt"
            crt.write_bytes(certificate(body))
            text = openssl("x509", "-noout", "-text", "-in", crt).decode()
            self.assertIn("TLS Web Server Authentication, TLS Web Client Authentication", text)
            self.assertIn(f"IP Address:127.0.0.1, DNS:a.example, URI:spiffe://hospitals/node/{name}", text)
            openssl("verify", "-x509_strict", "-CAfile", CA.ca / "ca.crt", crt)
            status, head, body = curl("simplereenroll", "--cert", crt, "--key", key, "-H", PKCS10, "--data-binary", f"@{csr}",
                                      version=version)
            self.assertEqual(status, 200, body)
            again = openssl("x509", "-noout", "-text", stdin=certificate(body)).decode()
            self.assertIn(f"URI:spiffe://hospitals/node/{name}", again)
            run("ca", "revoke", name, "--ca", CA.ca, "--passphrase-file", CA.pass_file)
            status, head, body = curl("simplereenroll", "--cert", crt, "--key", key, "-H", PKCS10, "--data-binary", f"@{csr}",
                                      version=version)
            self.assertEqual(status, 403)
            self.assertIn(b"is revoked", body)

    def test_approval__202_and_retry_after(self):
        ca = CaService(TMP / "approving", "--approve")
        try:
            csr, token = make_csr("later")[1], ca.token("later")
            status, head, body = enrol("later", token, csr, ca=ca)
            self.assertEqual(status, 202, body)
            self.assertRegex(head, r"retry-after: \d+")
            run("ca", "approve", "1", "--ca", ca.ca, "--yes")
            status, head, body = enrol("later", token, csr, ca=ca)
            self.assertEqual(status, 200, body)
            self.assertIn(b"CN = later", certificate(body))
        finally:
            ca.stop()

    @unittest.skipUnless(shutil.which("pki"), "strongswan-pki is not installed")
    def test_strongswan(self):
        """pki speaks HTTP/1.1 without ALPN over TLS 1.2 of its own."""
        def pki(*args):
            done = subprocess.run(["pki", *map(str, args)], capture_output=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr.decode())
            return done.stdout

        root, url = CA.ca / "ca.crt", f"https://{CA.url}"
        pki("--estca", "--url", url, "--cacert", root, "--caout", TMP / "estca")
        self.assertIn(b"CN = hospitals CA", openssl("x509", "-inform", "DER", "-in", TMP / "estca.der", "-noout", "-subject"))
        key, csr = TMP / "swan.key", TMP / "swan.csr"
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
        openssl("req", "-new", "-key", key, "-subj", "/CN=swan", "-outform", "DER", "-out", csr)
        crt = TMP / "swan.crt"
        crt.write_bytes(pki("--est", "--in", csr, "--url", url, "--cacert", root, "--userpass", f"swan:{CA.token('swan')}", "--outform",
                            "pem"))
        openssl("verify", "-CAfile", root, crt)
        renewed = pki("--est", "--in", csr, "--url", url, "--cacert", root, "--cert", crt, "--key", key, "--outform", "pem")
        text = openssl("x509", "-noout", "-text", stdin=renewed).decode()
        self.assertIn("URI:spiffe://hospitals/node/swan", text)
        self.assertNotEqual(re.search(r"Serial Number:\s*(\S+)", text).group(1),
                            re.search(r"Serial Number:\s*(\S+)", openssl("x509", "-noout", "-text", "-in", crt).decode()).group(1))


if __name__ == "__main__":
    unittest.main()
