#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What signatures cost: N real nodes on this machine learn R rounds with a learner that takes no time worth speaking of, so the share
of the signatures is as large as it can get. Prints one line of JSON.
With --plaintext the same without TLS and without signatures: the difference in processor time is what both cost together, an upper bound
of what signatures do, the bytes that they add included.

    P2PFL_BUILD=build/release tests/tools/signature_cost.py [--nodes 20] [--rounds 5] [--topology star|ring|full] [--delay-ms 200] [--plaintext]
"""
import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
from node_kit import Node, make_certificates, node_file, wait_until  # noqa: E402


def cpu_seconds(node):
    fields = Path(f"/proc/{node.proc.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def signatures(node):
    counted = node.status()["signatures"]
    return dict.fromkeys(("signed", "verified", "chains_verified", "refused", "sign_ms", "verify_ms"), 0) if isinstance(counted, str) else counted


def links(nodes, topology):
    if topology == "star":
        return [(n, nodes[0]) for n in nodes[1:]]
    if topology == "ring":
        return list(zip(nodes, nodes[1:] + nodes[:1]))
    return [(a, b) for i, a in enumerate(nodes) for b in nodes[:i]]


def measure(folder, args, nodes):
    make_certificates(folder, [f"n{i}" for i in range(args.nodes)])
    for i in range(args.nodes):
        path = node_file(folder / f"n{i}", period=2, timeout=20, values=args.values, delay=args.delay_ms)
        if args.plaintext:
            path.write_text(path.read_text().replace("use_ssl: true", "use_ssl: false"))
        nodes.append(Node(folder / f"n{i}"))
    for a, b in links(nodes, args.topology):
        a.do("connect", b.address)
    for n in nodes:
        wait_until("all know each other", lambda n=n: len(n.status()["peers"]) == args.nodes - 1, 120)
    before = [(signatures(n), cpu_seconds(n)) for n in nodes]
    began = time.monotonic()
    nodes[0].do("learn", "--rounds", args.rounds, "--trainset-size", args.trainset)
    for n in nodes:
        n.wait_event("learning_finished", 600)
    wall = time.monotonic() - began
    after = [(signatures(n), cpu_seconds(n)) for n in nodes]
    total = {k: sum(a[0][k] - b[0][k] for a, b in zip(after, before)) for k in before[0][0]}
    cpu = sum(a[1] - b[1] for a, b in zip(after, before))
    per = args.nodes * args.rounds
    spent = (total["sign_ms"] + total["verify_ms"]) / 1000
    return {"plaintext": args.plaintext, "nodes": args.nodes, "rounds": args.rounds, "topology": args.topology, "trainset": args.trainset, "round_s": round(wall / args.rounds, 3),
            "signed_per_node_and_round": round(total["signed"] / per, 1), "verified_per_node_and_round": round(total["verified"] / per, 1),
            "chains_verified": total["chains_verified"], "refused": total["refused"], "sign_us": round(1000 * total["sign_ms"] / max(1, total["signed"]), 1),
            "verify_us": round(1000 * total["verify_ms"] / max(1, total["verified"]), 1), "cpu_s_all_nodes": round(cpu, 2),
            "share_of_cpu_percent": round(100 * spent / cpu, 2), "ms_per_node_and_round": round(1000 * spent / per, 2),
            "share_of_round_percent": round(100 * spent / args.nodes / wall, 3)}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--nodes", type=int, default=20)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--topology", choices=("star", "ring", "full"), default="ring")
    p.add_argument("--trainset", type=int, default=4)
    p.add_argument("--values", type=int, default=20000)
    p.add_argument("--delay-ms", type=int, default=200)
    p.add_argument("--plaintext", action="store_true")
    args = p.parse_args()
    folder, nodes = Path(tempfile.mkdtemp(prefix="pfl-")), []
    try:
        print(json.dumps(measure(folder, args, nodes)))
    finally:
        for n in nodes:
            n.kill()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
