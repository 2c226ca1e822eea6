#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""Revocation on a running federation: a CRL given to one node reaches all of them through the mesh and ends the revoked one's
connections; bad CRLs are refused with their reasons; the revoked node cannot come back."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).resolve().parent))
from crl_kit import Federation, pem  # noqa: E402
from node_kit import BIN, Node, make_certificates, node_file, run, wait_until  # noqa: E402
from pki_kit import openssl  # noqa: E402


class RevocationTest(unittest.TestCase):
    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="pfl-"))
        self.addCleanup(shutil.rmtree, self.dir)
        self.nodes = []
        self.addCleanup(lambda: [n.kill() for n in self.nodes])

    def start(self, name, extra=None, ca=None, **options):
        """extra: lines of settings.ssl. ca: the address of the CA service."""
        path = node_file(self.dir / name, **options)
        if ca:
            path.write_text(path.read_text() + f"ca:\n  service: {ca}\n")
        for line in extra or []:
            path.write_text(path.read_text().replace("    use_ssl: true\n", f"    use_ssl: true\n    {line}\n"))
        self.nodes.append(Node(self.dir / name))
        return self.nodes[-1]

    def end(self, *nodes):
        for node in nodes or self.nodes:
            self.assertEqual(node.stop(), 0, node.log()[-6000:])

    def line(self, nodes):
        for a, b in zip(nodes, nodes[1:]):
            a.do("connect", b.address)
        for node in nodes:
            wait_until(f"{node.name} knows all", lambda: len(node.status()["peers"]) == len(nodes) - 1, 60)

    def numbers(self, node):
        return [c["number"] for c in node.status()["crls"]]

    def wait_number(self, node, number, seconds=30):
        wait_until(f"{node.name} has CRL {number}", lambda: self.numbers(node) == [str(number)], seconds)


class Line(RevocationTest):
    N, OUT = 8, 4

    def test_one_node_hears_of_it__all_close__the_round_goes_on__no_way_back(self):
        names = [f"n{i}" for i in range(self.N)]
        fed = Federation(self.dir, names)
        first = fed.crl()
        nodes = [self.start(name, delay=3000, timeout=5) for name in names]
        self.line(nodes)
        nodes[0].do("crl", first)
        for node in nodes:
            self.wait_number(node, 1)
        out, others = nodes[self.OUT], [n for n in nodes if n.name != names[self.OUT]]
        nodes[0].do("learn", "--rounds", "2", "--epochs", "1", "--trainset-size", str(self.N))
        out.wait_event("fit")  # it has contributed or is about to
        fed.revoke(out.name)
        second = fed.crl()

        since = time.time()
        nodes[0].do("crl", second)
        told = out.wait_event("revoked", 30)
        closed = [n.wait_event("revoked", 30) for n in (nodes[self.OUT - 1], nodes[self.OUT + 1])]
        for node in others:
            self.wait_number(node, 2)
            wait_until(f"{node.name} knows {out.name} no more", lambda: node.peer(out) is None, 90)
        last = max(e["t"] for n in nodes for e in n.events("connection_closed"))
        print(f"revocation: last live connection of the revoked node closed {last - since:.3f} s after the CRL was given to one "
              f"node of a line of {self.N}", flush=True)
        for event in closed:
            self.assertEqual(event["address"], out.address)
            self.assertRegex(event["reason"], r"revoked on \d{4}-.* \(keyCompromise\) by CRL number 2 of 'CN=lab CA'")

        self.assertIn("revoked on", told["reason"])
        out.wait_log(r"this node is out: its (server|client) certificate: revoked on .*keyCompromise")
        self.assertIn("this node is out", out.wait_event("learning_stopped")["reason"])
        self.assertIn("revoked on", out.status()["revoked"])
        self.assertIn("REVOKED: this node's", out.do("status"))
        self.assertEqual([p for p in out.status()["peers"] if p["direct"]], [])

        for node in others:
            node.wait_event("learning_finished", 120)
        digests = {n.events("learning_finished")[-1]["digest"] for n in others}
        self.assertEqual(len(digests), 1)

        # started anew, without a memory of CRLs: its old key opens nothing
        self.assertEqual(out.stop(), 0, out.log()[-6000:])
        shutil.rmtree(self.dir / out.name / "state")
        again = self.start(out.name)
        refused = again.ask("connect", others[0].address)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("the peer says that our certificate is revoked", refused.stderr)
        again.wait_log(f"{re.escape(others[0].address)} says that this node's certificate is revoked")
        others[0].wait_log(r"refused .*spiffe://p2pfl/coordinator/n4.*certificate refused: revoked on")

        # nor does an old CRL let it in: not now, not in the place of the new one at a start
        done = others[0].ask("crl", first)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("older than the one in use: number 1 of 'CN=lab CA', in use is 2", done.stderr)
        self.assertEqual(others[0].stop(), 0, others[0].log()[-6000:])
        shutil.copy(first, self.dir / "n0" / "crl.pem")
        back = self.start("n0", extra=["crl: crl.pem", "crl_policy: require"])
        self.assertEqual(self.numbers(back), ["2"])
        back.wait_log("the newer one stays in use")
        self.assertNotEqual(again.ask("connect", back.address).returncode, 0)
        wait_until("the file is brought up to date", lambda: b"crl" in (self.dir / "n0" / "crl.pem").read_bytes().lower() and
                   fed.der(self.dir / "n0" / "crl.pem") == fed.der(second))
        self.end(*[n for n in self.nodes if n.proc.poll() is None])


class Service(RevocationTest):
    N, OUT = 8, 4

    def serve(self):
        """The address of `p2pfl ca serve` on this federation's CA."""
        with open(self.dir / "serve.log", "wb") as log:
            proc = subprocess.Popen([BIN, "ca", "serve", "--ca", self.dir / "ca", "--listen", "127.0.0.1:0", "--passphrase-file",
                                     self.dir / "passphrase"], stdout=subprocess.PIPE, stderr=log, text=True)
        self.addCleanup(proc.stdout.close)
        self.addCleanup(proc.wait)
        self.addCleanup(proc.terminate)
        found = re.search(r" on (\S+:\d+)", proc.stdout.readline())
        self.assertTrue(found, (self.dir / "serve.log").read_text())
        return found[1]

    def test_ca_revoke__one_node_asks_the_service__all_close__the_round_goes_on(self):
        names = [f"n{i}" for i in range(self.N)]
        make_certificates(self.dir, names)
        service = self.serve()
        nodes = []
        for name in names:
            nodes.append(self.start(name, delay=3000, timeout=5, ca=service if name == "n0" else None))
        self.line(nodes)
        wait_until("the CRL is everywhere", lambda: all(self.numbers(n) for n in nodes), 60)
        first = int(self.numbers(nodes[0])[0])  # numbers grow, by how much is the CA's matter
        out, others = nodes[self.OUT], [n for n in nodes if n.name != names[self.OUT]]
        nodes[0].do("learn", "--rounds", "2", "--epochs", "1", "--trainset-size", str(self.N))
        out.wait_event("fit")

        since = time.time()
        done = run("ca", "revoke", out.name, "--ca", self.dir / "ca", "--reason", "keyCompromise", "--passphrase-file",
                   self.dir / "passphrase")
        returned = time.time()
        self.assertEqual(done.returncode, 0, done.stderr)
        out.wait_event("revoked", 30)
        for node in others:
            wait_until(f"{node.name} has a newer CRL", lambda: int(self.numbers(node)[0]) > first, 30)
            wait_until(f"{node.name} knows {out.name} no more", lambda: node.peer(out) is None, 90)
        last = max(e["t"] for n in nodes for e in n.events("connection_closed"))
        print(f"revocation: last live connection closed {last - since:.3f} s after `ca revoke` was started ({returned - since:.3f} s for "
              f"the command itself), in a line of {self.N} of which one asks the CA", flush=True)
        out.wait_log(r"this node is out: its (server|client) certificate: revoked on .*keyCompromise")
        for node in others:
            node.wait_event("learning_finished", 120)
        self.assertEqual(len({n.events("learning_finished")[-1]["digest"] for n in others}), 1)
        self.end()


class Hostile(RevocationTest):
    def send(self, folder, node, der, cmd="crl"):
        """A member calls send with these bytes as a CRL, by a foreign gRPC client; the ResponseMessage's error, or the status."""
        source = b"127.0.0.1:9"
        varint = lambda n: bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)
        field = lambda number, data: varint(number << 3 | 2) + varint(len(data)) + data
        message = field(1, source) + b"\x10" + b"\xff" * 9 + b"\x01" + field(3, cmd.encode()) + field(6, field(1, der))
        read = lambda name: (folder / name).read_bytes()
        creds = grpc.ssl_channel_credentials(read("ca.crt"), read("client.key"), read("client.crt"))
        options = [("grpc.max_send_message_length", -1)]
        with grpc.secure_channel(node.address, creds, options) as channel:
            call = channel.unary_unary("/node.NodeServices/send", lambda b: b, lambda b: b)
            try:
                answer = call(message, timeout=20)
            except grpc.RpcError as e:
                return f"{e.code().name}: {e.details()}"
        return answer.decode(errors="replace")

    def test_bad_crls_of_a_member__each_with_its_reason__no_node_stops(self):
        fed = Federation(self.dir, ["a", "b", "mallory"])
        other = Federation(self.dir / "other", [], ca_name="lab CA")
        a, b = self.start("a"), self.start("b")
        self.line([a, b])
        old, good = fed.crl(), fed.crl()
        a.do("crl", good)
        self.wait_number(b, 2)
        mallory = self.dir / "mallory"
        der = fed.der(good)
        broken = bytearray(fed.der(fed.crl(number=7)))
        broken[-1] ^= 1
        rows = [
            ("signature broken", bytes(broken), "its signature does not verify"),
            ("another CA of the name", other.der(other.crl(number=9)), "its signature does not verify"),
            ("older", fed.der(old), "older than the one in use"),
            ("from the future", fed.der(fed.crl(number=8, start=3600)), "is from the future"),
            ("garbage", os.urandom(5000), "no CRL"),
            ("empty", b"", "no CRL"),
            ("PEM of a certificate", (mallory / "client.crt").read_bytes(), "no CRL"),
            ("cut", der[:-10], "cannot be read"),
            ("bytes behind", der + b"x", "stand behind the CRL"),
            ("100 MB", bytes(100 << 20), "RESOURCE_EXHAUSTED"),
        ]
        for row, data, reason in rows:
            with self.subTest(row):
                self.assertIn(reason, self.send(mallory, a, data))
        self.assertEqual(self.send(mallory, a, der), "")  # the same again: no word
        refused = a.events("crl_refused")
        self.assertGreaterEqual(len(refused), 8)
        self.assertEqual({e["from"] for e in refused}, {"127.0.0.1:9", str(old)} & {e["from"] for e in refused})
        self.assertEqual(b.events("crl_refused"), [])  # nothing of it was passed on
        self.assertEqual(self.numbers(a), ["2"])
        for _ in range(40):  # a flood of them: told a few times, counted always
            self.send(mallory, a, os.urandom(200))
        self.assertLess(len(a.events("crl_refused")), 25)
        self.assertGreaterEqual(a.status()["crl_counters"]["refused"], 40)
        newer = fed.crl(number=10)
        self.assertEqual(self.send(mallory, a, fed.der(newer)), "")  # anybody may carry a good one
        self.wait_number(b, 10)
        self.end()

    def test_a_crl_of_a_megabyte__goes_through_the_mesh(self):
        fed = Federation(self.dir, ["a", "b", "c"])
        nodes = [self.start(name) for name in "abc"]
        self.line(nodes)
        with open(fed.ca.dir / "index.txt", "a") as index:
            for i in range(30000):
                index.write(f"R\t300101000000Z\t261101000000Z,superseded\t7F{i:030X}\tunknown\t/CN=gone\n")
        big = fed.crl()
        self.assertGreater(len(fed.der(big)), 1 << 20)
        nodes[0].do("crl", big)
        for node in nodes:
            self.wait_number(node, 1, 60)
            self.assertEqual(node.status()["crls"][0]["revoked"], 30000)
        self.end()

    def test_a_revoked_grpc_client__its_live_connection_is_closed(self):
        fed = Federation(self.dir, ["a", "caller", "other"])
        a = self.start("a")
        channels = {}
        for name in ("caller", "other"):
            read = lambda file: (self.dir / name / file).read_bytes()
            creds = grpc.ssl_channel_credentials(read("ca.crt"), read("client.key"), read("client.crt"))
            channels[name] = grpc.secure_channel(a.address, creds)
            self.addCleanup(channels[name].close)
            grpc.channel_ready_future(channels[name]).result(20)
        states = []
        channels["caller"].subscribe(states.append)
        fed.revoke("caller", purposes=("client",))
        a.do("crl", fed.crl())
        event = a.wait_event("connection_closed")
        self.assertIn("spiffe://p2pfl/coordinator/caller", event["peer"])
        self.assertIn("revoked on", event["reason"])
        wait_until("the client notices", lambda: any(s != grpc.ChannelConnectivity.READY for s in states[1:]), 20)
        check = lambda name: channels[name].unary_unary("/grpc.health.v1.Health/Check", lambda b: b, lambda b: b)(b"", timeout=10)
        with self.assertRaises(grpc.RpcError) as refused:
            check("caller")
        self.assertEqual(refused.exception.code(), grpc.StatusCode.UNAVAILABLE)
        self.assertEqual(check("other"), b"\x08\x01")
        self.end()


class Policy(RevocationTest):
    def test_require__no_file__does_not_start(self):
        Federation(self.dir, ["a"])
        path = node_file(self.dir / "a")
        path.write_text(path.read_text().replace("    use_ssl: true\n",
                                                 "    use_ssl: true\n    crl: crl.pem\n    crl_policy: require\n"))
        done = run("node", "start", "-c", path)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"crl\.pem.*crl_policy is require")

    def test_require__crl_lapses__links_end_and_come_back_with_a_newer_one(self):
        fed = Federation(self.dir, ["a", "b", "c"])
        first = fed.crl(start=-2, lasts=16)
        for name in "abc":
            shutil.copy(first, self.dir / name / "crl.pem")
        policy = {"a": "require", "b": "prefer", "c": "prefer"}
        a, b, c = (self.start(name, extra=["crl: crl.pem", f"crl_policy: {policy[name]}"]) for name in "abc")
        a.do("connect", b.address)
        b.do("connect", c.address)
        closed = a.wait_event("connection_closed", 60)
        self.assertRegex(closed["reason"], r"CRL number 1 of its issuer 'CN=lab CA' lapsed on .*crl_policy is require")
        stale = b.wait_event("crl_stale", 60)  # under prefer it is said, and links stay
        self.assertEqual(stale["number"], "1")
        self.assertTrue(b.status()["crl_stale"])
        self.assertEqual([p["address"] for p in b.status()["peers"] if p["direct"] and p["address"] == c.address], [c.address])
        wait_until("a has no link", lambda: not any(p["direct"] for p in a.status()["peers"]), 30)
        refused = a.ask("connect", b.address)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("lapsed on", refused.stderr)
        a.do("crl", fed.crl())
        wait_until("a is linked again", lambda: any(p["direct"] for p in a.status()["peers"]), 60)
        self.wait_number(b, 2)
        self.assertFalse(b.status()["crl_stale"])
        self.end()

    def test_off__said_loudly__revoked_is_accepted(self):
        fed = Federation(self.dir, ["a", "b"])
        fed.revoke("b")
        shutil.copy(fed.crl(), self.dir / "a" / "crl.pem")
        a = self.start("a", extra=["crl: crl.pem", "crl_policy: off"])
        b = self.start("b")
        a.wait_log("REVOKED CERTIFICATES ARE ACCEPTED")
        b.do("connect", a.address)
        self.assertEqual(a.status()["crl_policy"], "off")
        self.end()


class ForeignTools(RevocationTest):
    def test_sessions_are_not_resumed(self):
        """No ticket comes, and a second connection is a whole handshake."""
        Federation(self.dir, ["a", "b"])
        a = self.start("a")
        b = self.dir / "b"
        session = self.dir / "session"
        base = ["openssl", "s_client", "-connect", a.address, "-alpn", "h2", "-CAfile", b / "ca.crt", "-cert", b / "client.crt",
                "-key", b / "client.key", "-verify_return_error"]
        out = subprocess.run([*base, "-sess_out", session], input=b"", capture_output=True, timeout=30).stdout.decode(errors="replace")
        self.assertIn("Verify return code: 0", out)
        self.assertNotIn("TLS session ticket", out)
        self.assertNotIn("Post-Handshake New Session Ticket", out)
        self.assertFalse(session.exists() and session.stat().st_size)
        again = subprocess.run([*base, "-reconnect"], input=b"", capture_output=True, timeout=30).stdout.decode(errors="replace")
        self.assertGreaterEqual(again.count("New, TLSv1.3"), 2, again)
        self.assertNotIn("Reused", again)
        self.end()

    def test_cert_verify_and_openssl_agree(self):
        fed = Federation(self.dir, ["a", "b"])
        fed.revoke("b")
        crl = fed.crl()
        stale = fed.crl(start=-7200, lasts=3600)
        for name, path, good, reason in (("a", crl, True, None), ("b", crl, False, "revoked on"),
                                         ("a", stale, False, "lapsed on"), ("b", stale, False, "revoked on")):
            with self.subTest(f"{name} {path.name}"):
                crt = self.dir / name / "server.crt"
                theirs = subprocess.run(["openssl", "verify", "-crl_check", "-CAfile", fed.ca.crt, "-CRLfile", path, crt],
                                        capture_output=True)
                ours = run("cert", "verify", crt, "--ca", fed.ca.crt, "--crl", path)
                self.assertEqual(theirs.returncode == 0, good, theirs.stderr)
                self.assertEqual(ours.returncode == 0, good, ours.stdout + ours.stderr)
                if reason:
                    self.assertIn(reason, ours.stdout + ours.stderr)


if __name__ == "__main__":
    unittest.main()
