# SPDX-License-Identifier: Apache-2.0
# once: dev
# timeout: 180
"""What a scanner finds that knows nothing of this project: sslscan against the CA's service and against a node."""
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).resolve().parent))
from enrol_kit import CaService  # noqa: E402
from node_kit import Node  # noqa: E402


def scan(address, *options):
    done = subprocess.run(["sslscan", "--no-colour", "--xml=-", "--show-sigs", *options, address], capture_output=True, text=True, timeout=120)
    return ElementTree.fromstring(done.stdout[done.stdout.index("<?xml"):]).find("ssltest")


def protocols(found):
    return {f"{p.get('type')} {p.get('version')}" for p in found.iter("protocol") if p.get("enabled") == "1"}


@unittest.skipUnless(shutil.which("sslscan"), "Debian's package sslscan is not installed")
class Scan(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = Path(tempfile.mkdtemp(prefix="pfl-scan-"))
        cls.addClassCleanup(shutil.rmtree, cls.dir)
        cls.ca = CaService(cls.dir)
        cls.addClassCleanup(cls.ca.close)

    def test_service__tls_1_2_and_1_3_with_nothing_weak(self):
        found = scan(self.ca.url)
        self.assertEqual(protocols(found), {"tls 1.2", "tls 1.3"})  # 1.2 for EST clients
        self.assertEqual(found.find("renegotiation").get("supported"), "0")
        self.assertEqual({h.get("vulnerable") for h in found.iter("heartbleed")}, {"0"})
        ciphers = found.findall("cipher")
        self.assertGreaterEqual(len(ciphers), 5)
        for c in ciphers:
            self.assertGreaterEqual(int(c.get("bits")), 128, c.attrib)
            self.assertIn(c.get("strength"), ("strong", "acceptable"), c.attrib)  # what it calls "acceptable" are those of TLS 1.3
            self.assertRegex(c.get("cipher"), "GCM|CHACHA20", c.attrib)
            self.assertNotRegex(c.get("cipher"), "^(AES|RSA|DHE)", c.attrib)
        groups = found.findall("group")
        self.assertGreaterEqual(len(groups), 3)
        for g in groups:
            self.assertGreaterEqual(int(g.get("bits")), 128, g.attrib)
            self.assertNotIn("ffdhe", g.get("name"))
        for s in found.iter("connection-signature-algorithm"):
            self.assertNotRegex(s.get("name"), "sha1|md5|SHA224|ANY", s.attrib)
        certificate = found.find("certificates/certificate")
        self.assertEqual(certificate.find("signature-algorithm").text, "ecdsa-with-SHA256")
        self.assertEqual(certificate.find("expired").text, "false")
        self.ca.token("alive")  # and it goes on

    def test_node__says_nothing_to_who_does_not_speak_http2_over_tls_1_3(self):
        self.ca.join(self.ca.token("a"), self.dir / "a", "--address", "127.0.0.1:0")
        node = Node(self.dir / "a", state=self.dir / "a")
        self.addCleanup(node.kill)
        found = scan(node.address)
        self.assertEqual(protocols(found), set())
        self.assertIsNone(found.find("certificates/certificate"))  # not even whose node it is
        self.assertTrue(re.search("no ALPN in its TLS hello", node.log()) and re.search("TLS version too old", node.log()), node.log())
        self.assertEqual(node.stop(), 0, node.log())


if __name__ == "__main__":
    unittest.main()
