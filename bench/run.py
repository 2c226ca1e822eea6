#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The transport beside gRPC's own C++, in one run on one machine: small unary calls with one in flight and one 100 MB message, both over
mutual TLS on loopback, client and server of the same make, alternating. Prints a table and writes BUILD/bench.jsonl.

usage: run.py BUILD [NAME]     NAME: calls or message"""
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

REPEATS = 5
BYTES = 100_000_000
PORT = 29400


def certificates(p2pfl, folder):
    passphrase = os.path.join(folder, "pass")
    with open(os.open(passphrase, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as f:
        f.write("only for this benchmark\n")
    ca, out = os.path.join(folder, "ca"), os.path.join(folder, "node")
    subprocess.run([p2pfl, "ca", "init", ca, "--passphrase-file", passphrase], check=True, capture_output=True)
    subprocess.run([p2pfl, "ca", "issue", "bench", "--ca", ca, "--passphrase-file", passphrase, "--san",
                    "IP:127.0.0.1,DNS:localhost", "--out", out], check=True, capture_output=True)
    return out


def once(program, certs, port):
    """One server, one client; what the client measured and the server's peak memory in kB."""
    server = subprocess.Popen([program, "serve", certs, "127.0.0.1:%d" % port, "200000000"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        target = "127.0.0.1:" + re.search(r"(\d+)\s*$", line).group(1)
        client = subprocess.run([program, "bench", certs, target, str(BYTES)], capture_output=True, text=True, timeout=120, check=True)
        figures = json.loads([l for l in client.stdout.splitlines() if l.startswith("{")][0])
        status = open("/proc/%d/status" % server.pid, encoding="ascii").read()
        figures["server_peak_kb"] = int(re.search(r"VmHWM:\s+(\d+)", status).group(1))
        return figures
    finally:
        server.stdin.close()
        server.wait(timeout=20)


def main():
    build, only = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
    programs = {"p2pfl": os.path.join(build, "rpc_echo"), "grpc++": os.path.join(build, "grpcpp_peer")}
    for path in programs.values():
        if not os.path.exists(path):
            sys.exit("bench: %s is missing: run `make setup` and `make build`" % path)
    results = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as folder:
        certs = certificates(os.path.join(build, "p2pfl"), folder)
        for i in range(REPEATS + 1):
            for k, (name, path) in enumerate(programs.items()):
                figures = once(path, certs, PORT + 2 * i + k)
                if i > 0:  # the first is the warm-up
                    results[name].append(figures)
    rows = [("calls", "small unary calls, one in flight", "calls_per_s", "calls/s", 4.0),
            ("message", "100 MB in one message", "mb_per_s", "MB/s", 1.6)]
    with open(os.path.join(build, "bench.jsonl"), "a", encoding="ascii") as out:
        for key, title, field, unit, target in rows:
            if only and key != only:
                continue
            ours = statistics.median(r[field] for r in results["p2pfl"])
            theirs = statistics.median(r[field] for r in results["grpc++"])
            spread = max(r[field] for r in results["p2pfl"]) / min(r[field] for r in results["p2pfl"])
            print("%-34s p2pfl %9.0f %s   grpc++ %9.0f %s   ratio %.2f (aim %.1f; spread of ours %.2f)"
                  % (title, ours, unit, theirs, unit, ours / theirs, target, spread))
            out.write(json.dumps({"bench": key, "value": ours, "unit": unit, "peer": "grpc++", "peer_value": theirs,
                                  "ratio": round(ours / theirs, 3), "target": target}) + "\n")
    for name, runs in results.items():
        print("%-34s %s %d kB" % ("peak memory of the receiver", name, statistics.median(r["server_peak_kb"] for r in runs)))


if __name__ == "__main__":
    main()
