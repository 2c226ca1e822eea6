# SPDX-License-Identifier: Apache-2.0
# timeout: 600
"""Certificates change while nodes train: no call fails, no round is disturbed. By files that somebody else replaces, and by the CA
service. PFL_RENEWAL_SECONDS makes the rotations longer than the default."""
import os
import shutil
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).resolve().parent))
import enrol_kit  # noqa: E402
import node_kit  # noqa: E402
from node_kit import Node, NodeTest, node_file, run, wait_until  # noqa: E402

SECONDS = float(os.environ.get("PFL_RENEWAL_SECONDS", "12"))
SLOW = 3 if node_kit.cache("PFL_SANITIZE") else 1


class Caller(threading.Thread):
    """A foreign client that calls one node without a pause, over one grpcio channel that lives all the time."""

    def __init__(self, certs, address):
        super().__init__(daemon=True)
        read = lambda name: (certs / name).read_bytes()  # noqa: E731
        self.channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(read("ca.crt"), read("client.key"), read("client.crt")))
        self.check = self.channel.unary_unary("/grpc.health.v1.Health/Check")
        self.calls, self.failed, self.ending = 0, [], threading.Event()
        self.start()

    def run(self):
        while not self.ending.is_set():
            try:
                self.check(b"", timeout=10)
                self.calls += 1
            except grpc.RpcError as e:
                self.failed.append(f"{e.code()}: {e.details()}")
            self.ending.wait(0.002)

    def stop(self):
        self.ending.set()
        self.join(30)
        self.channel.close()


class RenewalTest(NodeTest):
    def issue(self, name, out, ca="ca", extra=()):
        done = run("ca", "issue", name, "--role", "coordinator", "--ca", self.dir / ca, "--san", "IP:127.0.0.1,IP:::1,DNS:localhost", "--out", out,
                   "--passphrase-file", self.dir / "passphrase", *extra)
        self.assertEqual(done.returncode, 0, done.stderr)

    def replace(self, name, **options):
        """New files, written over the old ones one after the other, as a script would."""
        fresh = self.dir / f"fresh-{name}"
        shutil.rmtree(fresh, ignore_errors=True)
        self.issue(name, fresh, **options)
        for file in ("server.key", "client.key", "server.crt", "client.crt"):
            shutil.copyfile(fresh / file, self.dir / name / file)

    def certificate(self, node):
        return node.status()["certificate"]

    def wait_replaced(self, node, count, seconds=60):
        wait_until(f"{node.name} uses the new files", lambda: self.certificate(node)["replaced"] >= count, seconds)

    def federation(self, names):
        """Nodes in a line, linked."""
        for name in names:
            if not (self.dir / name).exists():
                self.issue(name, self.dir / name)
        nodes = [self.start(name, delay=30, period=0.5, timeout=8) for name in names]
        for a, b in zip(nodes, nodes[1:]):
            a.do("connect", b.address)
        for node in nodes:
            wait_until("all know each other", lambda n=node: len(n.status()["peers"]) == len(names) - 1)
        return nodes

    def rotate(self, nodes, renew_one, caller):
        """Renews each node every 2 s while the first one keeps a learning going. Returns rounds done and renewals."""
        nodes[0].do("learn", "--rounds", "100000", "--epochs", "1", "--trainset-size", str(len(nodes)), timeout=60)
        end, renewals = time.monotonic() + SECONDS, 0
        while time.monotonic() < end:
            began = time.monotonic()
            for node in nodes:
                renew_one(node)
                renewals += 1
            time.sleep(max(0.0, began + 2 - time.monotonic()))
        rounds = nodes[0].status()["rounds_done"]
        wait_until("rounds go on behind the last change", lambda: nodes[0].status()["rounds_done"] > rounds + 1)
        nodes[0].do("stop")
        caller.stop()
        return nodes[0].status()["rounds_done"], renewals

    def undisturbed(self, nodes, caller, rounds, renewals):
        lost = [e for n in nodes for e in n.events("neighbour_lost") + n.events("known_lost") + n.events("excluded")]
        print(f"\n{renewals} renewals in {SECONDS:.0f} s, {rounds} rounds, {caller.calls} foreign calls, {len(caller.failed)} failed, "
              f"{len(lost)} neighbours lost or excluded")
        self.assertEqual(caller.failed, [])
        self.assertEqual(lost, [])
        self.assertGreater(rounds, 3)
        self.assertGreater(caller.calls, 100)
        whole = len(nodes)
        for node in nodes:
            for e in node.events("aggregated"):
                self.assertEqual(len(e["contributors"]), whole, e)


class Files(RenewalTest):
    def test_rotation_under_load(self):
        nodes = self.federation(["node1", "node2", "node3", "node4"])
        self.issue("outsider", self.dir / "outsider")
        caller = Caller(self.dir / "outsider", nodes[1].address)
        counts = dict.fromkeys([n.name for n in nodes], 0)

        def renew_one(node):
            self.replace(node.name)
            counts[node.name] += 1

        rounds, renewals = self.rotate(nodes, renew_one, caller)
        self.undisturbed(nodes, caller, rounds, renewals)
        for node in nodes:
            self.assertGreaterEqual(self.certificate(node)["replaced"], counts[node.name] - 1)
        self.end()

    def test_files_that_do_not_fit_leave_the_old_ones_in_use(self):
        node = self.start("node1")
        other = self.start("node2")
        node.do("connect", other.address)
        before = self.certificate(node)
        folder = self.dir / "node1"
        good = {f.name: f.read_bytes() for f in folder.iterdir() if f.suffix in (".crt", ".key")}

        def refused(why, change):
            said = len(node.events("certificate_refused"))
            change()
            wait_until(why, lambda: len(node.events("certificate_refused")) > said, 60)
            self.assertRegex(node.events("certificate_refused")[-1]["reason"], why)
            self.assertEqual(self.certificate(node)["replaced"], 0)
            wait_until("the link stands", lambda: node.peer(other) and node.peer(other)["direct"])

        fresh = self.dir / "fresh"
        self.issue("node1", fresh)
        refused("server.key.*(does not belong|not the key|no key of|another)|does not", lambda: shutil.copyfile(fresh / "server.key", folder / "server.key"))
        refused("server.crt", lambda: (folder / "server.crt").write_bytes(good["server.crt"][:200]))
        refused("server.crt", lambda: (folder / "server.crt").unlink())
        (folder / "server.crt").write_bytes(good["server.crt"])
        (folder / "server.key").write_bytes(good["server.key"])
        refused("client.key.*(0644|others|chmod)", lambda: (folder / "client.key").chmod(0o644))
        (folder / "client.key").chmod(0o600)
        done = run("ca", "init", self.dir / "ca2", "--passphrase-file", self.dir / "passphrase")
        self.assertEqual(done.returncode, 0, done.stderr)
        foreign = self.dir / "foreign"
        self.issue("node1", foreign, ca="ca2")

        def put_foreign():
            for file in ("server.key", "server.crt", "client.key", "client.crt"):
                shutil.copyfile(foreign / file, folder / file)

        refused("not signed by|federation's CA", put_foreign)
        for file in ("server.key", "server.crt", "client.key", "client.crt"):
            shutil.copyfile(fresh / file, folder / file)
        self.wait_replaced(node, 1)
        after = self.certificate(node)
        self.assertEqual(after["identity"], before["identity"])
        self.assertNotIn("files_refused", after)
        self.end()

    def test_a_mounted_secret_whose_link_is_turned(self):
        """cert-manager and Kubernetes: the files are links into ..data, which is a link that is turned in one step."""
        folder = self.dir / "node1"
        first, second = folder / "..2026_1", folder / "..2026_2"
        first.mkdir()
        for file in ("ca.crt", "server.crt", "server.key", "client.crt", "client.key"):
            os.rename(folder / file, first / file)
            os.symlink(f"..data/{file}", folder / file)
        os.symlink(first.name, folder / "..data")
        node = self.start("node1")
        self.issue("node1", second)
        os.symlink(second.name, folder / "..tmp")
        os.rename(folder / "..tmp", folder / "..data")
        self.wait_replaced(node, 1)
        self.end()

    def test_no_watching_no_service_and_renew_is_asked_for(self):
        node = self.start("node1")
        done = node.ask("renew")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no CA service is configured", done.stderr)
        self.end()


class Service(RenewalTest):
    """With `p2pfl ca serve`."""

    def setUp(self):
        super().setUp()
        self.services = []

    def serve(self, *options):
        ca = enrol_kit.CaService(self.dir / "service", *options, federation="p2pfl")
        self.addCleanup(ca.close)
        return ca

    def join(self, ca, name, ca_block=""):
        folder = self.dir / name
        shutil.rmtree(folder, ignore_errors=True)
        ca.join(ca.token(name, "IP:127.0.0.1", "--role", "coordinator"), folder, "--address", "127.0.0.1:0")
        text = node_file(folder, period=0.5, timeout=8, delay=30).read_text()
        text = text.replace("ca_crt: ", "ca_crt: certs/").replace("server_crt: ", "server_crt: certs/").replace("server_key: ", "server_key: certs/")
        text = text.replace("client_crt: ", "client_crt: certs/").replace("client_key: ", "client_key: certs/")
        (folder / "node.yaml").write_text(text + f"ca:\n  service: {ca.url}\n{ca_block}")
        self.nodes.append(Node(folder))
        return self.nodes[-1]

    def test_rotation_under_load(self):
        ca = self.serve()
        nodes = [self.join(ca, f"n{i}") for i in range(4)]
        for a, b in zip(nodes, nodes[1:]):
            a.do("connect", b.address)
        for node in nodes:
            wait_until("all know each other", lambda n=node: len(n.status()["peers"]) == 3)
        caller = Caller(self.dir / "n3" / "certs", nodes[1].address)
        rounds, renewals = self.rotate(nodes, lambda node: node.do("renew"), caller)
        self.undisturbed(nodes, caller, rounds, renewals)
        self.assertEqual(sum(self.certificate(n)["renewed"] for n in nodes), renewals)
        self.end()
        ca.stop()

    def test_in_time_by_itself_with_short_lives(self):
        life = 9 * SLOW
        ca = self.serve("--lifetime", f"{life}s")
        a, b = self.join(ca, "n1"), self.join(ca, "n2")
        a.do("connect", b.address)
        for node in (a, b):
            wait_until("three renewals", lambda n=node: self.certificate(n)["renewed"] >= 3, 20 * life)
        self.assertEqual(a.events("neighbour_lost") + b.events("neighbour_lost"), [])
        self.assertGreater(self.certificate(a)["left_s"], 0)
        self.end()
        ca.stop()

    def test_the_service_is_away_for_a_while(self):
        life = 20 * SLOW
        ca = self.serve("--lifetime", f"{life}s")
        node = self.join(ca, "n1")
        ca.stop()
        event = node.wait_event("renewal_failed", 60 * SLOW)
        self.assertIn("attempt", event)
        node.wait_log("could not be renewed")
        self.assertTrue(self.certificate(node)["last_failure"])
        self.end()

    def test_who_does_not_renew_is_let_go_when_the_certificate_ends(self):
        life = 12 * SLOW
        ca = self.serve("--lifetime", f"{life}s")
        a = self.join(ca, "n1")
        b = self.join(ca, "n2", "  renew: false\n")
        a.do("connect", b.address)
        wait_until("a has closed b's connection", lambda: [e for e in a.events("refused") if "expired" in e["reason"]], 10 * life)
        wait_until("b says so itself", lambda: "EXPIRED" in b.log(), 60)
        b.wait_log("expires at .*renewal is off")
        self.assertIn("certificate: EXPIRED at", run("node", "status", "--state", b.state).stdout)
        self.end()
        ca.stop()

    def test_expired_while_asleep(self):
        """Renewed within the CA's window; where there is none, the log says what is left to do."""
        life = 5 * SLOW
        for window in (["--renew-window", "1h"], []):
            with self.subTest(window=window):
                shutil.rmtree(self.dir / "service", ignore_errors=True)
                ca = self.serve("--lifetime", f"{life}s", *window)
                node = self.join(ca, "n1")
                self.end()
                wait_until("the certificate has expired", lambda: run("cert", "verify", "--ca", node.folder / "certs" / "ca.crt",
                                                                      node.folder / "certs" / "server.crt").returncode == 1, 60 * SLOW)
                node = Node(node.folder)
                self.nodes.append(node)
                if window:
                    wait_until("renewed", lambda: self.certificate(node)["renewed"] >= 1 and self.certificate(node)["left_s"] > 0, 60)
                else:
                    wait_until("the log says what to do", lambda: "p2pfl join again" in node.log(), 60)
                    self.assertIn("expired", node.wait_event("renewal_failed")["reason"])
                    self.assertEqual(self.certificate(node)["renewed"], 0)
                self.end()
                ca.stop()

    def test_cert_renew_with_a_running_node_and_without(self):
        ca = self.serve()
        node = self.join(ca, "n1", "  renew: false\n")
        yaml, certs = node.folder / "node.yaml", node.folder / "certs"
        first = (certs / "server.crt").read_bytes()
        done = run("cert", "renew", yaml)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("ca.renew is false", done.stderr)
        for target in (["--control", node.state], ["--control", node.state / "control.sock"]):
            done = run("cert", "renew", *target)
            self.assertEqual(done.returncode, 1)
            self.assertIn("renewal is off", done.stderr)
        self.assertEqual((certs / "server.crt").read_bytes(), first)
        done = run("cert", "renew", yaml, "--force")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("by the running node", done.stdout)
        self.assertEqual(self.certificate(node)["renewed"], 1)
        done = run("cert", "renew", "--control", node.state / "control.sock", "--force")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.certificate(node)["renewed"], 2)
        self.end()
        keys = (certs / "server.key").read_bytes()
        done = run("cert", "renew", node.folder, "--force")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("no node runs", done.stdout)
        self.assertNotEqual((certs / "server.key").read_bytes(), keys)
        self.assertEqual((certs / "server.key").stat().st_mode & 0o777, 0o600)
        shown = run("cert", "show", node.folder)
        self.assertEqual(shown.returncode, 0, shown.stderr)
        for text in ("server certificate", "client certificate", "trusted roots", "spiffe://p2pfl/coordinator/n1"):
            self.assertIn(text, shown.stdout)
        for pair in ("server", "client"):
            verified = subprocess.run(["openssl", "verify", "-CAfile", certs / "ca.crt", certs / f"{pair}.crt"], capture_output=True,
                                      text=True)
            self.assertEqual(verified.returncode, 0, verified.stderr)
        ca.stop()
        done = run("cert", "renew", yaml, "--force")
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot connect", done.stderr)

    def test_the_same_keys_where_that_is_configured(self):
        ca = self.serve()
        node = self.join(ca, "n1", "  key: same\n")
        certs = node.folder / "certs"
        before = {f: (certs / f).read_bytes() for f in ("server.key", "client.key", "server.crt", "client.crt")}
        node.do("renew")
        for file in ("server.key", "client.key"):
            self.assertEqual((certs / file).read_bytes(), before[file])
        for file in ("server.crt", "client.crt"):
            self.assertNotEqual((certs / file).read_bytes(), before[file])
        self.end()
        ca.stop()

    def test_revoked_is_not_renewed(self):
        ca = self.serve()
        node = self.join(ca, "n1", "  poll: 3600\n")
        enrol_kit.run("ca", "revoke", "n1", "--ca", ca.ca, "--reason", "keyCompromise", "--passphrase-file", ca.pass_file)
        done = node.ask("renew")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, "revoked")
        self.assertEqual(self.certificate(node)["renewed"], 0)
        self.end()
        ca.stop()

    def test_a_new_root_in_three_steps(self):
        """Nodes under the old and the new root talk to each other in between; behind the end the old root opens nothing."""
        ca = self.serve()
        step = lambda what, *more: enrol_kit.run("ca", "rollover", what, "--ca", ca.ca, "--passphrase-file", ca.pass_file, *more)  # noqa: E731
        a, b = self.join(ca, "n1"), self.join(ca, "n2")
        a.do("connect", b.address)
        old = (a.folder / "certs" / "ca.crt").read_text()
        step("prepare")
        for node in (a, b):
            node.do("renew")
        self.assertEqual((a.folder / "certs" / "ca.crt").read_text().count("BEGIN CERTIFICATE"), 2)
        left_over = self.dir / "left-over"
        shutil.copytree(b.folder / "certs", left_over)
        step("activate")
        self.join(ca, "n3").stop()  # the line that `ca token` prints now names the new root
        a.do("renew")  # a under the new root, b under the old one
        a.do("renew")  # which the service trusts from the same moment
        a.do("disconnect", b.address)
        b.do("connect", a.address)
        a.do("learn", "--rounds", "2", "--epochs", "1", "--trainset-size", "2")
        for node in (a, b):
            node.wait_event("learning_finished", 120)
        b.do("renew")
        step("finish", "--force")
        for node in (a, b):
            node.do("renew")
        now = (a.folder / "certs" / "ca.crt").read_text()
        self.assertEqual(now.count("BEGIN CERTIFICATE"), 1)
        self.assertNotIn(now, old)
        wait_until("still linked", lambda: a.peer(b) and a.peer(b)["direct"])
        caller = Caller(left_over, a.address)
        wait_until("a certificate of the old root is refused", lambda: caller.failed, 60)
        caller.stop()
        self.assertEqual(caller.calls, 0)
        wait_until("and a says so", lambda: [e for e in a.events("refused") if "federation's CA" in e["reason"]], 60)
        self.end()
        ca.stop()

    def test_a_renewal_that_was_cut_off_is_completed_at_the_next_start(self):
        ca = self.serve()
        node = self.join(ca, "n1")
        for i in range(6):
            proc = subprocess.Popen([node_kit.BIN, "node", "renew", "--state", str(node.state)], stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL)
            time.sleep(0.02 + 0.03 * i * SLOW)
            node.kill()
            proc.wait(30)
            node = Node(node.folder)
            self.nodes.append(node)
            self.assertGreater(self.certificate(node)["left_s"], 0)
            left = [p.name for p in (node.folder / "certs").iterdir() if p.name.endswith(".new") or p.name == ".renewal"]
            self.assertEqual(left, [])
        self.end(node)
        ca.stop()


if __name__ == "__main__":
    unittest.main()
