# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""What a hostile neighbour in P2PFL's language gets: pickles that would run something run nothing, the sender is named, the node goes on
and learns with the honest. Without interop no pickle is looked at."""
import builtins
import os
import pickle
import struct
import sys
import unittest
import zlib
from pathlib import Path

import grpc
import numpy as np

import node_kit
import test_interop
from test_interop import InteropTest, Ours, Python

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "interop"))
import p2pfl_peer  # noqa: E402

pb = p2pfl_peer.pb


class Runs:
    """Unpickled, it calls something."""

    def __init__(self, function, *args):
        self.what = (function, args)

    def __reduce__(self):
        return self.what


def outer(data, compressor=None):
    return pickle.dumps({"byte_compressor": compressor, "bytes": data}, protocol=4)


def inner(params, info=None):
    return pickle.dumps({"params": params, "additional_info": info or {"applied_techniques": []}}, protocol=4)


def laughs():
    """Lists of ten references to the list before, ten times."""
    data = b"\x80\x04]\x94"
    for i in range(10):
        data += b"](" + b"".join(b"h" + bytes([i]) for _ in range(10)) + b"e\x94"
    return data + b"."


def exploits(mark):
    touch = f"touch {mark}"
    good = [np.zeros(test_interop.VALUES, np.float32)]
    return {
        "os.system": (outer(inner([Runs(os.system, touch)])), "system"),
        "os.system outside": (pickle.dumps(Runs(os.system, touch), protocol=4), "system"),
        "builtins.eval": (outer(inner([Runs(builtins.eval, f"open({str(mark)!r}, 'w')")])), "eval"),
        "in additional_info": (outer(inner(good, {"applied_techniques": [], "x": [{"y": Runs(os.system, touch)}]})), "system"),
        "in compressed bytes": (outer(zlib.compress(inner([Runs(os.system, touch)])), "zlib"), "system"),
        "protocol 0": (outer(f"cos\nsystem\n(S'{touch}'\ntR.".encode()), ""),
        "billion laughs": (outer(laughs()), ""),
        "2 GiB claimed": (b"\x80\x04}(\x8c\x0fbyte_compressorN\x8c\x05bytes\x8e" + struct.pack("<Q", 2 << 30) + b"u.", ""),
        "2 GiB claimed by an array": (outer(inner(good).replace(struct.pack("<I", 4000), struct.pack("<I", 2 << 30))), ""),
        "zlib bomb": (outer(zlib.compress(bytes(300 << 20), 9), "zlib"), ""),
        "not a number": (outer(inner([np.full(test_interop.VALUES, np.nan, np.float32)])), "values"),
        "another shape": (outer(inner([np.zeros((2, 2), np.float32)])), "shape"),
        "too many": (outer(inner(good * 2)), ""),
        "nothing": (b"", ""),
    }


class Hostile(InteropTest):
    def caller(self, name, address):
        """A client without a server: it says it is at an address of its own."""
        certs = self.dir / "pki" / name
        read = lambda file: (certs / file).read_bytes()  # noqa: E731
        channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(read("ca.crt"), read("client.key"), read("client.crt")),
                                      [("grpc.max_send_message_length", 1 << 30)])
        self.addCleanup(channel.close)
        return channel.unary_unary("/node.NodeServices/send", request_serializer=pb.RootMessage.SerializeToString,
                                   response_deserializer=pb.ResponseMessage.FromString)

    @staticmethod
    def model(source, data, cmd="init_model", round_=0):
        m = pb.RootMessage(source=source, round=round_, cmd=cmd)
        m.weights.weights, m.weights.num_samples = data, 1
        return m

    def test_no_pickle_runs_anything(self):
        node = self.add(Ours)
        peer = self.add(Python, "--seed", "2", "--target", "1")
        send, source, mark = self.caller("node3", node.address), "127.0.0.1:9", self.run_dir / "mark"
        before = node.status()["rss_kb"]
        for name, (data, word) in exploits(mark).items():
            with self.subTest(name):
                refused = len(node.events("refused"))
                answer = send(self.model(source, data), timeout=60)
                self.assertIn("init_model", answer.error)
                self.assertIn(word, answer.error)
                event = node.wait_event("refused", count=refused + 1)
                self.assertEqual(event["peer"], source)
                self.assertIn(word, event["reason"])
                self.assertFalse(mark.exists())
        self.assertLess(node.status()["rss_kb"] - before, 200 << 10)
        node.connect(peer.address)
        peer.wait("connected", addr=node.address)
        node.learn(1, 2)
        np.testing.assert_allclose(node.finish(), peer.finish(), rtol=2e-6, atol=2e-6)
        self.assertEqual(node.stop(), 0, node.log()[-6000:])

    def test_without_interop__nothing_is_taken(self):
        node = self.add(Ours, interop="off")
        peer = self.add(Python)
        with self.assertRaises(grpc.RpcError) as refused:  # without interop nothing counts that is not signed
            self.caller("node3", node.address)(self.model("127.0.0.1:9", outer(inner([np.zeros(3, np.float32)]))), timeout=60)
        self.assertIn("is not signed", refused.exception.details())
        peer.tell("connect", node.address)
        self.assertIn("interop", peer.wait("refused", addr=node.address)["why"])
        done = node.ask("connect", peer.address)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("interop", done.stderr + done.stdout)
        self.assertEqual(node.status()["peers"], [])
        self.assertEqual(node.stop(), 0, node.log()[-6000:])

    def test_what_is_weaker_is_said(self):
        node = self.add(Ours)
        node.wait_log("not signed")
        status = node.status()
        self.assertEqual(status["interop"], "p2pfl")
        self.assertIn("not signed", status["interop_weaker"])
        self.assertIn("not signed", node.do("status"))
        self.assertEqual(node.stop(), 0, node.log()[-6000:])


if __name__ == "__main__":
    unittest.main()
