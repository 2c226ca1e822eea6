# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""A member sends malformed models to every node in every round of a whole run. Each is refused, counted, and its sender named; the rounds
go on, and the result is to the byte that of the same run without the member."""
import hashlib
import json
import pickle
import shutil
import ssl
import struct
import subprocess
import tempfile
import threading
import time
import unittest
import zlib
from pathlib import Path

import grpc
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import node_kit

VALUES, ROUNDS = 500, 3
NAMES = ("node1", "node2", "node3")
SOURCE = "127.0.0.1:9"  # covered by its certificate; nobody listens there


def wire():
    """The messages with our own fields. The peer's definition has the same package: this one lives in a pool of its own."""
    proto = node_kit.SRC / "proto"
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(["protoc", f"-I{proto}", "-I/usr/include", "--include_imports", f"--descriptor_set_out={out.name}", str(proto / "node.proto")],
                       check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(Path(out.name).read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for f in files.file:
        pool.Add(f)
    factory = message_factory.MessageFactory(pool)
    return [factory.GetPrototype(pool.FindMessageTypeByName("node." + name)) for name in ("RootMessage", "ResponseMessage")]


Root, Response = wire()


def safetensors(head, body, length=None):
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def tensor(a=0, b=4 * VALUES, shape=(VALUES,), dtype="F32", name="values"):
    return {name: {"dtype": dtype, "shape": list(shape), "data_offsets": [a, b]}}


ZEROS = bytes(4 * VALUES)
GOOD = safetensors(tensor(), ZEROS)


def with_value(v):
    x = np.zeros(VALUES, "<f4")
    x[VALUES // 2] = v
    return x.tobytes()


MALFORMED = {
    "another name": safetensors(tensor(name="other"), ZEROS),
    "another shape": safetensors(tensor(shape=(VALUES // 2, 2)), ZEROS),
    "another type": safetensors(tensor(dtype="I32"), ZEROS),
    "a size that overflows": safetensors(tensor(shape=(1 << 33, 1 << 33)), ZEROS),
    "a tensor too many": safetensors({**tensor(), **tensor(0, 4, (1,), name="more")}, ZEROS),
    "overlapping": safetensors({**tensor(0, 2000, (500,)), **tensor(1996, 2000, (1,), name="b")}, ZEROS),
    "out of range": safetensors(tensor(8, 4 * VALUES + 8), ZEROS),
    "backwards": safetensors(tensor(4 * VALUES, 0), ZEROS),
    "a hole": safetensors(tensor(4, 4 * VALUES + 4), ZEROS + b"1234"),
    "bytes behind": GOOD + b"x",
    "cut": GOOD[:-1],
    "a header of 2^63": safetensors(tensor(), ZEROS, 1 << 63),
    "no JSON": safetensors(b"{" * 64, ZEROS),
    "deep JSON": safetensors(b'{"a":' * 4096, ZEROS),
    "not a number": safetensors(tensor(), with_value(np.nan)),
    "infinite": safetensors(tensor(), with_value(np.inf)),
    "nothing": b"",
}


def pickled(params, compressor=None):
    inner = pickle.dumps({"params": params, "additional_info": {"applied_techniques": []}}, protocol=4)
    return pickle.dumps({"byte_compressor": compressor, "bytes": zlib.compress(inner) if compressor else inner}, protocol=4)


MALFORMED_PICKLES = {
    "another shape": pickled([np.zeros((VALUES // 2, 2), "<f4")]), "another type": pickled([np.zeros(VALUES, "<i4")]),
    "too many": pickled([np.zeros(VALUES, "<f4")] * 2), "none": pickled([]), "not a number": pickled([np.full(VALUES, np.nan, "<f4")]),
    "infinite": pickled([np.full(VALUES, -np.inf, "<f4")]), "cut": pickled([np.zeros(VALUES, "<f4")])[:-9],
    "a bomb": pickled([np.zeros(1 << 23, "<f4")], "zlib"), "runs something": pickled([np.zeros(3).view(np.recarray)]),
}


class Attack(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = Path(tempfile.mkdtemp(prefix="pfl-malformed-"))
        cls.addClassCleanup(shutil.rmtree, cls.dir)
        node_kit.make_certificates(cls.dir, (*NAMES, "mallory"))

    def start(self, interop, delay=50):
        self.nodes, folder = [], Path(tempfile.mkdtemp(dir=self.dir))
        self.addCleanup(lambda nodes=self.nodes: [n.kill() for n in nodes])
        for name in NAMES:
            shutil.copytree(self.dir / name, folder / name)
            path = node_kit.node_file(folder / name, values=VALUES, delay=delay, timeout=5)
            if interop:
                path.write_text(path.read_text().replace("  general:\n", "  general:\n    interop: p2pfl\n"))
            self.nodes.append(node_kit.Node(folder / name))
        for i, j in ((0, 1), (1, 2), (2, 0)):
            self.nodes[i].do("connect", self.nodes[j].address)
        for n in self.nodes:
            node_kit.wait_until("all are linked", lambda n=n: len([p for p in n.status()["peers"] if p["direct"]]) == 2)

    def senders(self):
        read = lambda file: (self.dir / "mallory" / file).read_bytes()  # noqa: E731
        out = []
        for n in self.nodes:
            channel = grpc.secure_channel(n.address, grpc.ssl_channel_credentials(read("ca.crt"), read("client.key"), read("client.crt")))
            self.addCleanup(channel.close)
            out.append(channel.unary_unary("/node.NodeServices/send", request_serializer=Root.SerializeToString, response_deserializer=Response.FromString))
        return out

    def message(self, cmd, round_, data, pickles, samples=10):
        m = Root(source=SOURCE, round=round_, cmd=cmd)
        m.weights.weights, m.weights.num_samples = data, samples
        if cmd == "partial_model":
            m.weights.contributors.append(self.nodes[0].address if pickles else SOURCE)
        if not pickles:
            m.weights.codec, m.weights.digest = "safetensors", hashlib.sha256(data).digest()
            self.sign(m)
        return m

    def sign(self, m):
        """A member's own words: the signature is good, what it signs is not. docs/PROTOCOL.md, "Origin"."""
        put = lambda b: struct.pack(">I", len(b)) + b  # noqa: E731
        now, w = int(time.time() * 1000), m.weights
        text = put(b"p2pfl-origin-v1") + put(m.source.encode()) + put(m.cmd.encode()) + put(self.experiment.encode())
        text += struct.pack(">iqB", m.round, now, 3) + put(w.codec.encode()) + put(w.digest) + struct.pack(">iI", w.num_samples, len(w.contributors))
        text += b"".join(put(c.encode()) for c in w.contributors)
        mallory = self.dir / "mallory"
        m.origin.signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", mallory / "client.key"], input=text, check=True,
                                            capture_output=True).stdout
        m.origin.certificate.append(ssl.PEM_cert_to_DER_cert((mallory / "client.crt").read_text()))
        m.origin.sent_at_ms, m.origin.experiment = now, self.experiment

    def send(self, call, m):
        try:
            answer = call(m, timeout=60)
        except grpc.RpcError as e:
            return e.details()
        return answer.error

    def attack_one(self, node, call, forms, pickles, sent, taken):
        """All forms as all three commands in each round of one node, until it has finished."""
        while not node.events("learning_finished"):
            self.experiment = node.status()["experiment"] or ""
            round_ = node.status()["round"]
            if round_ < 0 or (node.name, round_) in sent:
                continue
            sent[node.name, round_] = 2 * len(forms) + 1
            for samples in (0, -1, 2 ** 31 - 1) if pickles else ():  # that of a round that is over is no error
                self.send(call, self.message("partial_model", round_, pickled([np.zeros(VALUES, "<f4")]), pickles, samples))
            for name, data in forms.items():
                # A second contribution that is signed would be equivocation: its node is out, and nothing else of it is looked at.
                for cmd in ("init_model", "add_model", *(("partial_model",) if pickles or name == "not a number" else ())):
                    if not self.send(call, self.message(cmd, round_, data, pickles)):
                        taken.append((node.name, round_, cmd, name))

    def attack(self, forms, pickles):
        """Every node at once. {(node, round): how many were sent}."""
        sent, taken = {}, []
        threads = [threading.Thread(target=self.attack_one, args=(n, call, forms, pickles, sent, taken)) for n, call in zip(self.nodes, self.senders())]
        for t in threads:
            t.start()
        for t in threads:
            t.join(250)
        self.assertEqual(taken, [])
        return sent

    def learn(self):
        self.nodes[0].do("learn", "--rounds", ROUNDS, "--epochs", 1, "--trainset-size", 3)

    def finish(self):
        for n in self.nodes:
            n.wait_event("learning_finished", 200)
        models = [(n.state / "models" / "final.safetensors").read_bytes() for n in self.nodes]
        self.assertEqual(len(set(models)), 1)
        values = np.frombuffer(models[0][-4 * VALUES:], "<f4")
        for n in self.nodes:
            self.assertEqual([e["round"] for e in n.events("round_finished")], list(range(ROUNDS)))
            self.assertEqual([e for e in n.events("excluded") if e["address"] != SOURCE], [])
        return values

    def both(self, forms, pickles):
        self.start(pickles)
        self.learn()
        want = self.finish()
        for n in self.nodes:
            self.assertEqual(n.stop(), 0, n.log()[-3000:])
        self.start(pickles, delay=3000)
        self.learn()
        sent = self.attack(forms, pickles)
        np.testing.assert_array_equal(self.finish(), want)
        self.assertEqual(set(sent), {(n, r) for n in NAMES for r in range(ROUNDS)}, "every node in every round")
        reasons = [e["reason"] for n in self.nodes for e in n.events("refused")]
        self.assertFalse([r for r in reasons if "signature is not" in r or "is not signed" in r], "what was wrong was the model")
        for word in ("not finite", "shape") if pickles else ("not finite", "shape", "tensor"):
            self.assertTrue(any(word in r for r in reasons), (word, reasons[:9]))
        for n in self.nodes:
            total = sum(c for (name, _), c in sent.items() if name == n.name)
            self.assertGreaterEqual(n.status()["refused"], total)
            told = n.events("refused")
            self.assertGreater(len(told), ROUNDS)
            self.assertTrue(any(e["peer"] == SOURCE or "mallory" in e["peer"] for e in told), told[:3])
            self.assertEqual(n.stop(), 0, n.log()[-3000:])

    def test_safetensors(self):
        self.both(MALFORMED, pickles=False)

    def test_pickles(self):
        self.both(MALFORMED_PICKLES, pickles=True)


if __name__ == "__main__":
    unittest.main()
