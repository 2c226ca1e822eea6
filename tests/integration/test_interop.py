# SPDX-License-Identifier: Apache-2.0
# timeout: 900
"""Nodes of ours and P2PFL's (tests/interop/p2pfl_peer.py, which has its habits) in one network, over certificates by P2PFL's documented
openssl procedure. P2PFL_INTEROP_REPEAT: how often each network is run (default 1)."""
import json
import os
import pickle
import queue
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
import zlib
from pathlib import Path

import numpy as np

import node_kit
import pki_kit

PEER = Path(__file__).resolve().parents[1] / "interop" / "p2pfl_peer.py"
REPEAT = int(os.environ.get("P2PFL_INTEROP_REPEAT", "1"))
VALUES = 1000
ROUNDS = 3
NAMES = ("node1", "node2", "node3", "node4")
FILE = """\
name: {name}
address: {address}
federation: p2pfl
state_dir: {state}
settings:
  general: {{seed: 7, interop: {interop}, interop_compression: {compression}}}
  heartbeat: {{period: 0.5, timeout: 5}}
  training: {{vote_timeout: 60, aggregation_timeout: 300}}
  ssl: {{use_ssl: true, tls_min: "1.2", ca_crt: ca.crt, server_crt: server.crt, server_key: server.key, client_crt: client.crt, client_key: client.key}}
learner: {learner}
"""
DUMMY = "{dataset: dummy, model: dummy, dummy_values: 1000, dummy_delay_ms: 500}"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def final_model(state):
    data = (state / "models" / "final.safetensors").read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8:8 + n])
    a = min(t["data_offsets"][0] for k, t in head.items() if k != "__metadata__")
    return np.frombuffer(data[8 + n + a:], "<f4")  # the tensors stand behind each other, in the model's order


class Python:
    """A peer process: its events as they come, commands by its standard input."""
    ours = False

    def __init__(self, folder, state, *options, shapes=str(VALUES)):
        self.address, self.out, self.log_path = f"127.0.0.1:{free_port()}", state / "model.npz", state / "log"
        state.mkdir()
        argv = [sys.executable, str(PEER), "--address", self.address, "--certs", str(folder), "--shapes", shapes, "--out",
                str(self.out), "--heartbeat-period", "0.5", "--wait-convergence", "0.5", "--fit-time", "1", *options]
        self.log_file = open(self.log_path, "wb")
        self.proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log_file, text=True)
        self.seen, self.news = [], queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.wait("listening")

    def _read(self):
        for line in self.proc.stdout:
            if line.startswith("{"):
                self.seen.append(json.loads(line))
        self.seen.append({"event": "gone"})

    def found(self, event, **fields):
        return [e for e in list(self.seen) if e["event"] == event and all(e.get(k) == v for k, v in fields.items())]

    def wait(self, event, seconds=60, **fields):
        def look():
            assert self.found(event, **fields) or not self.found("gone"), f"{event}: the peer is gone\n{self.text()}"
            return self.found(event, **fields)
        try:
            return node_kit.wait_until(f"{self.address}: {event}", look, seconds)[0]
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.text()}") from None

    def text(self):
        return "\n".join(map(str, self.seen[-40:])) + "\n" + self.log_path.read_text(errors="replace")[-3000:]

    def tell(self, *words):
        self.proc.stdin.write(" ".join(map(str, words)) + "\n")
        self.proc.stdin.flush()

    def connect(self, address):
        self.tell("connect", address)
        self.wait("connected", addr=address)

    def learn(self, rounds, trainset):
        self.tell("learn", rounds, 1, trainset)

    def finish(self):
        self.wait("finished", 280)
        arrays = np.load(self.out)
        return np.concatenate([arrays[f"arr_{i}"].ravel() for i in range(len(arrays.files))])

    def complaints(self):
        return self.found("stopped") + self.found("unknown") + self.found("timeout") + self.found("error")

    def close(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        self.reader.join(10)
        for f in (self.proc.stdin, self.proc.stdout, self.log_file):
            f.close()


class Ours(node_kit.Node):
    ours = True

    def __init__(self, folder, state, interop="p2pfl", compression="{}", learner=DUMMY):
        state.mkdir()
        self.home = state / folder.name
        shutil.copytree(folder, self.home)
        (self.home / "node.yaml").write_text(FILE.format(name=folder.name, address="127.0.0.1:0", state=state / "state", interop=interop,
                                                          compression=compression, learner=learner))
        super().__init__(self.home, state / "state")

    def connect(self, address):
        self.do("connect", address)

    def learn(self, rounds, trainset):
        self.do("learn", "--rounds", rounds, "--epochs", 1, "--trainset-size", trainset)

    def finish(self):
        self.wait_event("learning_finished", 280)
        return final_model(self.state)

    def close(self):
        self.kill()


class InteropTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = Path(tempfile.mkdtemp(prefix="pfl-interop-"))
        cls.addClassCleanup(shutil.rmtree, cls.dir)
        pki_kit.p2pfl_procedure(cls.dir / "pki", NAMES)

    def setUp(self):
        self.run_dir = Path(tempfile.mkdtemp(dir=self.dir))
        self.nodes = []
        self.addCleanup(lambda: [n.close() for n in self.nodes])

    def add(self, kind, *args, **kwargs):
        name = NAMES[len(self.nodes)]
        self.nodes.append(kind(self.dir / "pki" / name, self.run_dir / name, *args, **kwargs))
        return self.nodes[-1]


EDGES = {"full": lambda n: [(i, j) for i in range(n) for j in range(i + 1, n)], "line": lambda n: [(i, i + 1) for i in range(n - 1)],
         "star": lambda n: [(0, i) for i in range(1, n)]}


class NetworkTest(InteropTest):

    def network(self, kinds, topology, starter, trainset):
        for k in kinds:
            self.add(k, *([] if k is Ours else ["--seed", str(len(self.nodes) + 1), "--target", str(len(self.nodes))]))
        self.linked(topology)
        self.nodes[starter].learn(ROUNDS, trainset)
        self.equal([n.finish() for n in self.nodes])
        self.quiet()
        self.ours_end(ROUNDS)

    def linked(self, topology="full"):
        edges = EDGES[topology](len(self.nodes))
        for n, (i, j) in enumerate(edges):  # either side dials
            a, b = (i, j) if n % 2 == 0 else (j, i)
            self.nodes[a].connect(self.nodes[b].address)
        everybody = {n.address for n in self.nodes}
        for n in self.nodes:
            if n.ours:
                node_kit.wait_until(f"{n.name} knows all", lambda n=n: {p["address"] for p in n.status()["peers"]} == everybody - {n.address})
        node_kit.wait_until("its peers are known to Python", lambda: all(n.ours or self.heard(n, everybody) for n in self.nodes))

    def equal(self, models, atol=2e-6):
        for n, m in zip(self.nodes, models):
            self.assertEqual(m.shape, models[0].shape)
            np.testing.assert_allclose(m, models[0], rtol=2e-6, atol=atol, err_msg=n.address)

    def quiet(self):
        for n in self.nodes:
            self.assertEqual([] if n.ours else n.complaints(), [])

    def ours_end(self, rounds):
        for n in [n for n in self.nodes if n.ours]:
            self.assertEqual([e["round"] for e in n.events("round_finished")], list(range(rounds)), n.log()[-3000:])
            self.assertEqual(n.events("excluded"), [])
            self.assertEqual(n.stop(), 0, n.log()[-6000:])

    @staticmethod
    def heard(n, everybody):
        n.tell("who")
        return any({*e["known"]} == everybody - {n.address} for e in n.found("known")[-2:])


class Networks(NetworkTest):
    """All finish, nobody complains, and the models are equal within float32 rounding."""

    def all_of(self, kinds, topologies=("full", "line", "star"), trainset=None):
        starters = [kinds.index(Ours), kinds.index(Python)]
        for topology in topologies:
            for starter in starters:
                for k in range(REPEAT):
                    with self.subTest(topology=topology, starter=kinds[starter].__name__, k=k):
                        self.nodes, self.run_dir = [], Path(tempfile.mkdtemp(dir=self.dir))
                        try:
                            self.network(kinds, topology, starter, trainset or len(kinds))
                        finally:
                            for n in self.nodes:
                                n.close()

    def test_one_and_one(self):
        self.all_of([Ours, Python], ("line",))

    def test_two_and_two(self):
        self.all_of([Ours, Python, Ours, Python])

    def test_one_and_three(self):
        self.all_of([Python, Ours, Python, Python])

    def test_a_train_set_that_not_all_are_in(self):
        self.all_of([Ours, Python, Python, Ours], ("line",), trainset=2)


class Refused(InteropTest):
    def test_what_contributions_of_theirs_do_not_carry(self):
        for rule in ("scaffold", "fednova"):
            folder = Path(tempfile.mkdtemp(dir=self.dir))
            text = (node_kit.NODE.format(name="node1", address="127.0.0.1:0", grpc_timeout=10, period=0.5, timeout=3, values=100, delay=0)
                    .replace("use_ssl: true", "use_ssl: false").replace("  general:\n", "  general:\n    interop: p2pfl\n"))
            (folder / "node.yaml").write_text(text[:text.index("learner:")] + f"""\
learner:
  dataset: fashion-mnist
  reduction_factor: 0.01
  optimizer: sgd
  aggregator: {rule}
""")
            done = node_kit.run("node", "start", "-c", folder / "node.yaml")
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(f"settings.general.interop: aggregator '{rule}' needs more of each contribution than P2PFL's own nodes send", done.stderr)


class Habits(NetworkTest):
    """What else can happen between us and a Python node."""

    def test_our_mlp__is_pytorch_s(self):
        """Its parameters in PyTorch's order and layout: (out, in), then the bias. A wrong one would stop the Python node."""
        self.add(Ours, learner="{dataset: fashion-mnist, reduction_factor: 0.01, model: mlp, hidden_sizes: [16, 8]}")
        self.add(Python, "--seed", "3", "--target", "0.01", shapes="16x784,16,8x16,8,10x8,10")
        self.linked()
        self.nodes[1].learn(2, 2)
        self.equal([n.finish() for n in self.nodes])
        self.quiet()
        self.ours_end(2)

    def test_compressed_in_both_directions(self):
        """Models leave us through topk, ptq and zlib, and them through lzma. They end with what we sent them last, within a step."""
        self.add(Ours, compression="{topk: {k: 1.0}, ptq: {dtype: int16}, zlib: {level: 9}}")
        self.add(Python, "--seed", "2", "--target", "1", "--compressor", "lzma")
        self.linked()
        self.nodes[0].learn(ROUNDS, 2)
        models = [n.finish() for n in self.nodes]
        self.equal(models, atol=2e-3 * float(np.abs(models[0]).max()))
        self.quiet()
        self.ours_end(ROUNDS)

    def test_a_python_node_vanishes_without_goodbye__the_others_finish(self):
        for k in (Ours, Python, Ours):
            self.add(k, *([] if k is Ours else ["--seed", "2", "--target", "1"]))
        self.linked("star")
        python = self.nodes[1]
        self.nodes[0].learn(4, 3)
        python.wait("round", 120, round=0)
        python.proc.kill()
        self.nodes = [n for n in self.nodes if n.ours]
        self.addCleanup(python.close)
        models = [n.finish() for n in self.nodes]
        np.testing.assert_array_equal(models[0], models[1])
        for n in self.nodes:
            self.assertEqual(n.stop(), 0, n.log()[-6000:])

    def test_both_say_goodbye_at_once__ours_ends(self):
        """Its disconnect has no deadline and is called while ours is: neither may wait for the other for ever."""
        self.add(Ours)
        self.add(Python)
        self.linked()
        self.nodes[1].tell("quit")
        self.assertEqual(self.nodes[0].stop(), 0, self.nodes[0].log()[-6000:])
        self.nodes[1].proc.wait(60)


if __name__ == "__main__":
    unittest.main()
