#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Floods against one node over mutual TLS on loopback, each by a process that gives a core to it: does the node's memory stay bounded, are an
honest peer's calls still answered, and how fast? One flood after the other.
usage: flood.py [--seconds N] [--only NAME]      P2PFL_BIN and P2PFL_BUILD name the binary and its build. The last line is JSON; exit code 1: a
bound was passed or an honest call failed."""
import argparse
import json
import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
import node_kit  # noqa: E402

RSS_BOUND_KB = 256 << 10  # beyond the idle node: 1024 connections of some 100 KiB in their handshake, and the messages under way
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


# ---- the floods: each runs in a process of its own, as `flood.py --as NAME CERTS ADDRESS SECONDS` ----

def context(certs, alpn="h2"):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.load_verify_locations(certs / "ca.crt")
    c.load_cert_chain(certs / "client.crt", certs / "client.key")
    c.set_alpn_protocols([alpn])
    return c


def connections(certs, host, port, end):
    """Opens as many as it may and says nothing on them: half-open handshakes."""
    held, n = [], 0
    while time.monotonic() < end:
        try:
            held.append(socket.create_connection((host, port), timeout=1))
            n += 1
        except OSError:
            pass
        if len(held) > 900:
            held.pop(0).close()
    return n


def handshakes(certs, host, port, end):
    """One whole TLS handshake after the other."""
    c, n = context(certs), 0
    while time.monotonic() < end:
        try:
            with socket.create_connection((host, port), timeout=5) as s, c.wrap_socket(s, server_hostname=host):
                n += 1
        except OSError:
            pass
    return n


def frames(certs, host, port, end, what):
    """HTTP/2 frames that cost work and carry nothing; a new connection when the node ends one."""
    c, n = context(certs), 0
    while time.monotonic() < end:
        try:
            with socket.create_connection((host, port), timeout=5) as raw, c.wrap_socket(raw, server_hostname=host) as s:
                s.sendall(PREFACE)
                at = 1
                while time.monotonic() < end:
                    block, at = what(at)
                    s.sendall(block)
                    n += 200
        except OSError:
            pass
    return n


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def text(s):
    return bytes([len(s)]) + s.encode()


HEAD = b"".join(b"\0" + text(k) + text(v) for k, v in ((":method", "POST"), (":scheme", "https"), (":path", "/node.NodeServices/send"),
                                                       (":authority", "x"), ("content-type", "application/grpc")))


def pings(at):
    return frame(6, 0, 0, b"12345678") * 200, at


def settings(at):
    return frame(4, 0, 0) * 200, at


def windows(at):
    return frame(8, 0, 0, b"\0\0\0\1") * 200, at


def empty_data(at):
    """DATA frames without a byte on a call that is under way."""
    return (frame(1, 4, at, HEAD) if at == 1 else b"") + frame(0, 0, 1) * 200, 3


def continuations(at):
    """A header block without an end."""
    return (frame(1, 0, at, HEAD) if at == 1 else b"") + frame(9, 0, 1, b"\0\1a\1b" * 200) * 10, 3


def resets(at):
    out = b"".join(frame(1, 4, at + 2 * i, HEAD) + frame(3, 0, at + 2 * i, b"\0\0\0\x08") for i in range(100))
    return out, at + 200


def streams(certs, host, port, end):
    """Calls of grpcio, eight at once, whose message is no message."""
    read = lambda f: (certs / f).read_bytes()  # noqa: E731
    channel = grpc.secure_channel(f"{host}:{port}", grpc.ssl_channel_credentials(read("ca.crt"), read("client.key"), read("client.crt")))
    call = channel.unary_unary("/node.NodeServices/send", request_serializer=lambda b: b, response_deserializer=lambda b: b)
    n = 0
    while time.monotonic() < end:
        for f in [call.future(os.urandom(200), timeout=30) for _ in range(8)]:
            f.exception()
            n += 1
    return n


FLOODS = {
    "gossip": None,  # tests/tools/flood.c
    "calls": streams,
    "connections": connections,
    "handshakes": handshakes,
    "ping": lambda *a: frames(*a, pings),
    "settings": lambda *a: frames(*a, settings),
    "window": lambda *a: frames(*a, windows),
    "empty data": lambda *a: frames(*a, empty_data),
    "continuation": lambda *a: frames(*a, continuations),
    "rapid reset": lambda *a: frames(*a, resets),
}


def command(name, certs, address, seconds):
    if FLOODS[name] is None:
        return [str(node_kit.BUILD / "flood"), str(certs), address, str(seconds)]
    return [sys.executable, __file__, "--as", name, str(certs), address, str(seconds)]


def run_as(name, certs, address, seconds):
    host, _, port = address.rpartition(":")
    assert host == "127.0.0.1", "loopback only"
    print(json.dumps({"sent": FLOODS[name](Path(certs), host, int(port), time.monotonic() + float(seconds))}))


# ---- the honest peer and the measure ----

class Honest:
    """A member's calls on one connection, one after the other, while something else goes on."""

    def __init__(self, certs, address):
        read = lambda f: (certs / f).read_bytes()  # noqa: E731
        self.channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(read("ca.crt"), read("client.key"), read("client.crt")))
        self.call = self.channel.unary_unary("/grpc.health.v1.Health/Check", request_serializer=lambda b: b, response_deserializer=lambda b: b)
        self.call(b"", timeout=60)

    def measure(self, going_on):
        times, failed = [], 0
        while going_on():
            start = time.monotonic()
            try:
                self.call(b"", timeout=60)
                times.append(time.monotonic() - start)
            except grpc.RpcError:
                failed += 1
            time.sleep(0.005)
        times.sort()
        at = lambda q: round(1000 * times[int(q * (len(times) - 1))], 2) if times else None  # noqa: E731
        return {"calls": len(times), "failed": failed, "p50_ms": at(0.5), "p99_ms": at(0.99)}


def rss_kb(pid):
    return next(int(line.split()[1]) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))


def flood(seconds, only=None):
    folder = Path(tempfile.mkdtemp(prefix="pfl-flood-"))
    node = None
    try:
        node_kit.make_certificates(folder, ("node1", "mallory", "honest"))
        node_kit.node_file(folder / "node1", values=1000)
        node = node_kit.Node(folder / "node1")
        honest = Honest(folder / "honest", node.address)
        end = time.monotonic() + seconds
        result = {"seconds": seconds, "quiet": honest.measure(lambda: time.monotonic() < end), "floods": {}}
        for name in [n for n in FLOODS if only in (None, n)]:
            before = rss_kb(node.proc.pid)
            attacker = subprocess.Popen(command(name, folder / "mallory", node.address, seconds), stdout=subprocess.PIPE, text=True)
            most = [before]

            def going_on(attacker=attacker, most=most):
                most.append(rss_kb(node.proc.pid))
                return attacker.poll() is None
            figures = honest.measure(going_on)
            out = attacker.communicate()[0]
            result["floods"][name] = {**figures, "rss_before_kb": before, "rss_most_kb": max(most), "attacker": json.loads(out.splitlines()[-1])}
        honest.channel.close()
        result["status"] = {k: node.status()[k] for k in ("refused", "rss_kb")}
        size = (node.state / "events.jsonl").stat().st_size + node.log_path.stat().st_size
        result["log_bytes"], result["exit"] = size, node.stop()
        return result
    finally:
        if node:
            node.kill()
        shutil.rmtree(folder)


def faults(r, bound_kb=RSS_BOUND_KB):
    found = [] if r["exit"] == 0 else [f"the node ended with {r['exit']}"]
    for name, f in r["floods"].items():
        if f["failed"] or not f["calls"]:
            found.append(f"{name}: {f['failed']} honest calls failed, {f['calls']} were answered")
        if bound_kb and f["rss_most_kb"] > f["rss_before_kb"] + bound_kb:
            found.append(f"{name}: {f['rss_most_kb']} kB, {f['rss_before_kb']} kB before; the bound is {bound_kb} kB more")
    return found


def main():
    if sys.argv[1:2] == ["--as"]:
        run_as(*sys.argv[2:6])
        return
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--seconds", type=float, default=30)
    p.add_argument("--only", choices=list(FLOODS))
    args = p.parse_args()
    r = flood(args.seconds, args.only)
    for name, f in {"nothing": r["quiet"], **r["floods"]}.items():
        print(f"{name:12} honest: {f['calls']:6} calls, {f['failed']} failed, p50 {f['p50_ms']} ms, p99 {f['p99_ms']} ms; "
              f"node: {f.get('rss_before_kb', '-')} kB before, {f.get('rss_most_kb', '-')} kB at most; {f.get('attacker', '')}")
    print(json.dumps(r))
    for f in faults(r):
        print("FAULT", f, file=sys.stderr)
    sys.exit(1 if faults(r) else 0)


if __name__ == "__main__":
    main()
