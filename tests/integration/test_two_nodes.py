# SPDX-License-Identifier: Apache-2.0
"""Two nodes as the README starts them, what an operator says to them, and what their sockets make of rubbish."""
import json
import os
import random
import re
import signal
import socket
import stat
import sys
import textwrap
import unittest
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).resolve().parent))
import node_kit  # noqa: E402
from node_kit import SRC, Node, NodeTest, node_file, run, wait_until  # noqa: E402


def control(node):
    s = socket.socket(socket.AF_UNIX)
    s.connect(str(node.state / "control.sock"))  # blocking: waits while the queue is full
    s.settimeout(10)
    return s


def read_to_end(sock):
    data = b""
    while True:
        try:
            chunk = sock.recv(65536)
        except ConnectionResetError:
            return data
        if not chunk:
            return data
        data += chunk


class Quickstart(NodeTest):
    def readme_file(self, name, part):
        """README's node.yaml; only the port (a free one) and the data set (none needed) are others."""
        text = (SRC / "README.md").read_text()
        block = re.search(r"^    name: node1\n(?:    .*\n)+", text, re.M)
        self.assertTrue(block, "README.md has no node.yaml")
        yaml = textwrap.dedent(block[0]).replace("node1", name).replace("part_index: 0", f"part_index: {part}")
        yaml, n = re.subn(r"^address: .*$", "address: 127.0.0.1:0", yaml, flags=re.M)
        yaml, m = re.subn(r"dataset: fashion-mnist", "dataset: dummy", yaml)
        self.assertEqual((n, m), (1, 1), yaml)
        (self.dir / name / "node.yaml").write_text(yaml)

    def test_readme__two_terminals__same_model(self):
        nodes = []
        for part, name in enumerate(("node1", "node2")):
            self.readme_file(name, part)
            node = Node(self.dir / name, state=self.dir / name)
            self.nodes.append(node)
            nodes.append(node)
        one, two = nodes
        self.assertEqual(two.do("connect", one.address), "ok\n")
        self.assertEqual(two.do("learn", "--rounds", "2"), "ok\n")
        digests = {n.wait_event("learning_finished")["digest"] for n in nodes}
        self.assertEqual(len(digests), 1)
        wait_until("idle", lambda: not two.status()["learning"])
        words = two.do("status")
        self.assertRegex(words, rf"^node2 at {two.address} \(mutual TLS\)\nnot learning; 2 rounds done\ncertificate: valid until \S+\n1 other nodes known\n"
                                rf"  {one.address} +linked +heard of \d+\.\d s ago  spiffe://p2pfl/coordinator/node1\n$")
        files = [(n.folder / "models" / "final.safetensors").read_bytes() for n in nodes]
        self.assertEqual(files[0], files[1])
        self.assertEqual(two.do("shutdown"), "ok\n")
        self.assertEqual(two.proc.wait(20), 0, two.log())
        wait_until("node1 sees that node2 left", lambda: not one.status()["peers"])
        self.assertFalse((two.state / "control.sock").exists())
        self.end(one)


class TwoNodes(NodeTest):
    def pair(self, **options):
        a, b = self.start("node1", **options), self.start("node2", **options)
        b.do("connect", a.address)
        wait_until("both know each other", lambda: a.peer(b) and b.peer(a))
        return a, b

    def test_node_start__no_certificate__says_which_and_ends(self):
        path = node_file(self.dir / "node1")
        (self.dir / "node1" / "client.key").unlink()
        done = run("node", "start", "-c", path)
        self.assertEqual(done.returncode, 1)
        self.assertIn("node1/client.key", done.stderr)

    def test_connect__dead_port__says_why(self):
        a = self.start("node1")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            dead = f"127.0.0.1:{s.getsockname()[1]}"
        done = a.ask("connect", dead)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"Connection refused")
        for wrong in ("nonsense:port", "127.0.0.1:99999999"):
            done = a.ask("connect", wrong)
            self.assertEqual(done.returncode, 1, wrong)
        self.assertEqual(a.status()["peers"], [])
        self.end(a)

    def test_status__no_node__says_so(self):
        done = run("node", "status", "--state", self.dir)
        self.assertEqual(done.returncode, 1)
        self.assertIn("no node runs", done.stderr)

    def test_disconnect__both_forget(self):
        a, b = self.pair()
        self.assertEqual(a.do("disconnect", b.address), "ok\n")
        wait_until("node1 forgot", lambda: not a.peer(b))
        wait_until("node2 forgot", lambda: not b.peer(a))
        self.assertEqual(b.do("connect", a.address), "ok\n")
        wait_until("linked again", lambda: a.peer(b) and b.peer(a))
        self.end()

    def test_learn__right_after_the_start_with_a_large_model__waits_for_the_model(self):
        a = self.start("node1", values=20_000_000)
        self.assertEqual(a.do("learn", "--rounds", "1"), "ok\n")
        a.wait_event("learning_finished", 120)
        self.end()

    @unittest.skipIf(node_kit.cache("PFL_SANITIZE"), "a sanitizer keeps what is freed")
    def test_quiet__after_an_experiment__gives_memory_back(self):
        """What the last round's models of 12 MB lay in stays for the next round, and with a node that has nothing to do it goes."""
        def resident_kb(node):
            return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{node.proc.pid}/status").read_text())[1])

        a, b = self.pair(values=3_000_000)
        for node in (a, b):
            wait_until("the initial model", lambda node=node: node.status()["model_ready"])
        a.do("learn", "--rounds", "2", "--trainset-size", "2")
        busy = {node: (node.wait_event("learning_finished"), resident_kb(node))[1] for node in (a, b)}
        for node in (a, b):
            wait_until(f"{node.name} gives 8 MB of {busy[node]} kB back", lambda node=node: resident_kb(node) < busy[node] - 8000, period=0.2)
        self.end()

    def test_stop__during_a_slow_fit__ends_it_everywhere(self):
        a, b = self.pair(delay=60000)
        a.do("learn", "--rounds", "3", "--trainset-size", "2")
        wait_until("training", lambda: all(n.status()["stage"] == "training" for n in (a, b)))
        self.assertRegex(b.do("status"), r"learning: round 0 of 3, training")
        again = b.ask("learn", "--rounds", "1")
        self.assertEqual(again.returncode, 1)
        self.assertIn("learning", again.stderr)
        b.do("stop")
        for n in (a, b):
            n.wait_event("learning_stopped", 5)
            self.assertFalse(n.status()["learning"])
        self.end()

    def test_sigterm__during_a_slow_fit__exit_0_and_the_other_works_on(self):
        a, b = self.pair(delay=60000)
        a.do("learn", "--rounds", "1", "--trainset-size", "2")
        wait_until("training", lambda: all(n.status()["stage"] == "training" for n in (a, b)))
        self.assertEqual(b.stop(signal.SIGTERM, 10), 0, b.log())
        wait_until("node1 sees that node2 left", lambda: not a.peer(b))
        self.assertEqual(a.stop(signal.SIGINT, 10), 0, a.log())

    def test_state_folder__private_and_complete(self):
        a, b = self.pair()
        a.do("learn", "--rounds", "1", "--trainset-size", "2")
        for n in (a, b):
            n.wait_event("learning_finished")
        wait_until("the audit log is written", lambda: "finish" in run("node", "audit", "--state", a.state).stdout
                   and not (a.state / "audit.db-wal").exists())
        self.assertEqual(sorted(p.name for p in a.state.iterdir()), ["audit.db", "control.sock", "events.jsonl", "models", "node.db", "node.db-wal"])
        mode = {p.name: stat.S_IMODE(p.lstat().st_mode) for p in [a.state, *a.state.iterdir()]}
        self.assertEqual(mode, {"state": 0o700, "audit.db": 0o600, "control.sock": 0o600, "events.jsonl": 0o600, "models": 0o700, "node.db": 0o600,
                                "node.db-wal": 0o600})
        kinds = [e["event"] for e in a.events()]
        for kind in ("started", "neighbour", "learning_started", "train_set", "fit", "aggregated", "round_finished", "learning_finished"):
            self.assertIn(kind, kinds)
        self.end()
        self.assertEqual(a.events()[-1]["event"], "stopped")

    def test_state_folder__in_use__refused__left_over_after_kill__taken(self):
        a = self.start("node1")
        again = run("node", "start", "-c", a.folder / "node.yaml")
        self.assertEqual(again.returncode, 1)
        self.assertIn("is the node running already", again.stderr)
        self.assertEqual(a.status()["name"], "node1")
        a.kill()
        self.assertTrue((a.state / "control.sock").exists())
        b = Node(a.folder)
        self.nodes.append(b)
        self.assertEqual(b.status()["name"], "node1")
        self.end(b)

    # ---- rubbish on the control socket ----

    def test_control__garbage__an_error_and_the_node_works_on(self):
        a = self.start("node1")
        for line in (b"what?", b"[]", b"{}", b'{"cmd":3}', b'{"cmd":"fly"}', b'{"cmd":"connect"}', b'{"cmd":"learn"}', b"\xff\xfe",
                     b'{"cmd":"learn","rounds":-1,"epochs":1,"trainset_size":1}', b'{"cmd":"connect","address":"\\u0000"}', b""):
            with self.subTest(line=line), control(a) as s, s.makefile("rwb") as f:
                f.write(line + b"\n")
                f.flush()
                answer = json.loads(f.readline())
                self.assertFalse(answer["ok"])
                self.assertTrue(answer["error"])
        self.end(a)

    def test_control__too_long_or_half_a_line__costs_the_connection_only(self):
        a = self.start("node1")
        with control(a) as s:
            try:
                s.sendall(b"x" * (1 << 20))
            except OSError:
                pass  # closed while we wrote
            read_to_end(s)
        with control(a) as s:
            s.sendall(b'{"cmd":"sta')
        with control(a) as s, s.makefile("rwb") as f:
            for part in (b'{"cmd":', b'"status"}\n{"cmd":"status"}', b"\n"):
                f.write(part)
                f.flush()
            self.assertTrue(json.loads(f.readline())["ok"])
            self.assertTrue(json.loads(f.readline())["ok"])
        self.end(a)

    def test_control__many_clients__more_are_turned_away_none_for_good(self):
        a = self.start("node1")
        socks = [control(a) for _ in range(40)]
        told = 0
        for s in socks:
            try:
                s.sendall(b'{"cmd":"status"}\n')
                told += s.recv(1) == b"{"
            except OSError:
                pass  # turned away
            s.close()
        self.assertTrue(1 <= told <= 16, told)
        wait_until("an answer", lambda: a.ask("status").returncode == 0)
        self.end(a)

    def test_control__random_bytes__the_node_works_on(self):
        a = self.start("node1")
        seed = random.SystemRandom().getrandbits(32)
        rng = random.Random(seed)
        words = [b'{"cmd":"', b"connect", b"learn", b'","address":"', b"127.0.0.1:1", b'"}', b"\n", b'","rounds":', b"1", b"{", b"[", b'"',
                 b"\\ud800", b"\x00", b"-", b"9" * 400, b"[" * 3000, b"null", b'"cmd":"cmd"', b"subscribe", b"stop", b"status"]
        for i in range(150):
            with self.subTest(seed=seed, i=i), control(a) as s:
                line = b"".join(rng.choice(words) if rng.random() < 0.8 else rng.randbytes(rng.randrange(20)) for _ in range(rng.randrange(1, 12)))
                try:
                    s.sendall(line + b"\n")
                    s.shutdown(socket.SHUT_WR)
                    read_to_end(s)
                except OSError:
                    pass  # the node may close at once
                self.assertIsNone(a.proc.poll(), a.log()[-3000:])
        self.assertTrue(a.status()["ok"])
        self.end(a)

    # ---- what a node serves besides ----

    def test_grpc__health_and_reflection_over_mutual_tls(self):
        a = self.start("node1")
        me = self.dir / "node2"
        creds = grpc.ssl_channel_credentials(*((me / f).read_bytes() for f in ("ca.crt", "client.key", "client.crt")))
        with grpc.secure_channel(a.address, creds) as ch:
            check = ch.unary_unary("/grpc.health.v1.Health/Check")
            for service in (b"", b"\x0a\x11node.NodeServices"):
                self.assertEqual(check(service, timeout=10), b"\x08\x01")  # SERVING
            with self.assertRaises(grpc.RpcError) as e:
                check(b"\x0a\x04what", timeout=10)
            self.assertEqual(e.exception.code(), grpc.StatusCode.NOT_FOUND)
            for version in ("v1", "v1alpha"):
                ask = ch.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")
                (answer,) = ask(iter([b"\x3a\x00"]), timeout=10)  # list_services
                self.assertIn(b"node.NodeServices", answer)
                self.assertIn(b"grpc.health.v1.Health", answer)
        nobody = grpc.ssl_channel_credentials((me / "ca.crt").read_bytes())
        with grpc.secure_channel(a.address, nobody) as ch, self.assertRaises(grpc.RpcError):
            ch.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10)
        wait_until("the refusal", lambda: a.events("refused"))
        self.assertRegex(a.events("refused")[0]["reason"], r"certificate")
        self.end(a)


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    unittest.main(verbosity=2)
