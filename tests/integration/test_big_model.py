# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""A model of 100 million float32 (400 MB; 40 MB under a sanitizer) goes from one node process to another over mutual TLS, and
the heartbeats between the two keep their period meanwhile."""
import json
import socket
import sys
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import node_kit  # noqa: E402
from node_kit import NodeTest, Reader  # noqa: E402

SANITIZED = node_kit.cache("PFL_SANITIZE") != ""
VALUES = 10_000_000 if SANITIZED else 100_000_000
PERIOD, TIMEOUT = 0.2, 2.0
MB = 1e6


class Watch:
    """Polls one node's status over one connection to its control socket, and keeps the worst it saw."""

    def __init__(self, node, peer):
        self.node, self.peer = node, peer
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(node.state / "control.sock"))
        self.file = self.sock.makefile("rwb")
        self.worst_heard, self.worst_answer, self.polls, self.absent = 0.0, 0.0, 0, 0
        self.received, self.at = [], []
        self.reader = Reader(self.poll, 0.05)

    def poll(self):
        t = time.monotonic()
        self.file.write(b'{"cmd":"status"}\n')
        self.file.flush()
        status = json.loads(self.file.readline())
        now = time.monotonic()
        self.worst_answer = max(self.worst_answer, now - t)
        heard = [p["last_heard_s"] for p in status["peers"] if p["address"] == self.peer.address]
        self.absent += not heard
        self.worst_heard = max([self.worst_heard, *heard])
        self.polls += 1
        self.received.append(status["counters"]["bytes_received"])
        self.at.append(now)

    def rate(self, size):
        """MB/s while the model came in: the time in which the middle 80 % of its bytes arrived."""
        base = self.received[0]
        low = next((t for t, b in zip(self.at, self.received) if b - base >= size * 0.1), None)
        high = next((t for t, b in zip(self.at, self.received) if b - base >= size * 0.9), None)
        return size * 0.8 / (high - low) / MB if low and high and high > low else None

    def stop(self):
        self.reader.stop()
        self.poll()
        self.file.close()
        self.sock.close()


def memory(node):
    """Peak and present resident bytes of a node's process."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{node.proc.pid}/status").read_text().splitlines() if ":" in line)
    return tuple(int(lines[k].split()[0]) * 1024 for k in ("VmHWM", "VmRSS"))


class BigModel(NodeTest):
    def test_big_model__heartbeats_keep_their_period(self):
        options = {"values": VALUES, "period": PERIOD, "timeout": TIMEOUT, "delay": 0, "grpc_timeout": 10}
        a, b = self.start("node1", **options), self.start("node2", **options)
        for node in (a, b):
            node_kit.wait_until("the initial model", lambda node=node: node.status()["model_ready"], 60)
        a.do("connect", b.address)
        node_kit.wait_until("both know each other", lambda: a.peer(b) and b.peer(a))
        watches = [Watch(a, b), Watch(b, a)]
        started = time.monotonic()
        # one of the two trains: the initial model goes from node1 to node2, the trained one to whoever did not train
        a.do("learn", "--rounds", "1", "--epochs", "1", "--trainset-size", "1")
        ends = [n.wait_event("learning_finished", 200) for n in (a, b)]
        seconds = time.monotonic() - started
        for w in watches:
            w.stop()
        size = 4 * VALUES
        for node, w in zip((a, b), watches):
            peak, now = memory(node)
            got = w.received[-1] - w.received[0]
            rate = w.rate(got) if got >= size else None
            print(f"{node.name}: last heard at most {w.worst_heard:.2f} s ago (period {PERIOD} s, {w.polls} polls), status answered within "
                  f"{w.worst_answer:.2f} s, received {got / MB:.0f} MB{f' at {rate:.0f} MB/s' if rate else ''}, "
                  f"peak RSS {peak / MB:.0f} MB = {peak / size:.2f} models, at the end {now / MB:.0f} MB")
        print(f"model {size / MB:.0f} MB, one round in {seconds:.1f} s")
        self.assertEqual(ends[0]["digest"], ends[1]["digest"])
        self.assertEqual({(n.state / "models" / "final.safetensors").stat().st_size // size for n in (a, b)}, {1})
        self.assertGreaterEqual(max(w.received[-1] - w.received[0] for w in watches), size, "nobody received a model")
        for node, w in zip((a, b), watches):
            self.assertGreater(w.polls, 5)
            self.assertEqual(w.absent, 0, f"{node.name} lost sight of its peer")
            self.assertLess(w.worst_heard, PERIOD + 1.0, f"{node.name}: a heartbeat was late")
            self.assertLess(w.worst_answer, 1.0, f"{node.name}: its loop was blocked")
            self.assertEqual([e for e in node.events() if "lost" in e["event"] or e["event"] in ("excluded", "refused")], [])
        self.end()


if __name__ == "__main__":
    unittest.main(verbosity=2)
