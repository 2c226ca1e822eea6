#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Many rounds of a tiny model among real nodes over mutual TLS: does memory, do file descriptors, does the journal grow?
usage: soak.py [--rounds N] [--nodes N] [--no-journal]      P2PFL_BIN names the binary. The last line is JSON; exit code 1: something grew."""
import argparse
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
from fault_kit import Cluster, wait_until  # noqa: E402

JOURNAL_BYTES_MAX = 4 << 20  # PFL_JOURNAL_BYTES_MAX of src/runtime/journal.h
CHECKPOINTS_MAX = 2
FDS_SLACK = 8      # a connection that is made anew while we look
RSS_GROWTH_MAX = 1.10


def sizes(node):
    pid = node.proc.pid
    state = node.folder / "state"
    kept = [p.stat().st_size for p in (state / "node.db", state / "node.db-wal") if p.exists()]
    models = list((state / "models").glob("checkpoint-*.safetensors")) if (state / "models").exists() else []
    rss = next(int(line.split()[1]) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return {"rss_kb": rss, "fds": len(os.listdir(f"/proc/{pid}/fd")), "journal_bytes": sum(kept), "checkpoints": len(models)}


def soak(rounds, nodes=4, journal=True, early=50):
    """Figures of each node after `early` rounds and after all, and how long a round took."""
    c = Cluster(nodes, values=500, delay=0, journal=journal, silence=10)
    try:
        c.start()
        c.linked()
        begin = time.monotonic()
        c.learn(rounds, trainset=nodes)
        c.wait_round("node1", early - 1, 60 + 10 * early)
        first = {name: sizes(c[name]) for name in c.names}
        for name in c.names:
            wait_until(f"{name} has finished", lambda: c.events(name, "learning_finished"), 120 + 10 * rounds, 0.25)
        stamps = {e["round"]: e["t"] for e in c.events("node1", "round_finished")}
        last = {name: sizes(c[name]) for name in c.names}
        models = {c[name].status()["model_sha256"] for name in c.names}
        durability = c["node1"].status()["durability"]
        return {"rounds": rounds, "nodes": nodes, "journal": journal, "seconds": round(time.monotonic() - begin, 2),
                "ms_per_round": round(1000 * (stamps[rounds - 1] - stamps[0]) / (rounds - 1), 2), "early": early, "first": first,
                "last": last, "models": len(models), "durability": durability}
    finally:
        c.close()


def faults(r):
    """What grew that should not, in words."""
    found = [] if r["models"] == 1 else [f"{r['models']} different final models"]
    for name, last in r["last"].items():
        first = r["first"][name]
        if last["fds"] > first["fds"] + FDS_SLACK:
            found.append(f"{name}: {first['fds']} file descriptors became {last['fds']}")
        if last["journal_bytes"] > JOURNAL_BYTES_MAX:
            found.append(f"{name}: a journal of {last['journal_bytes']} bytes")
        if last["checkpoints"] > CHECKPOINTS_MAX:
            found.append(f"{name}: {last['checkpoints']} checkpoints")
    return found


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=500)
    p.add_argument("--nodes", type=int, default=4)
    p.add_argument("--no-journal", action="store_true")
    args = p.parse_args()
    r = soak(args.rounds, args.nodes, not args.no_journal, min(50, args.rounds // 2))
    found = faults(r)
    for name, last in r["last"].items():
        first = r["first"][name]
        if last["rss_kb"] > first["rss_kb"] * RSS_GROWTH_MAX:
            found.append(f"{name}: {first['rss_kb']} kB became {last['rss_kb']} kB")
        print(f"{name}: RSS {first['rss_kb']} kB after {r['early']} rounds, {last['rss_kb']} kB after {r['rounds']}; descriptors "
              f"{first['fds']}, {last['fds']}; journal {first['journal_bytes']}, {last['journal_bytes']} bytes")
    for text in found:
        print(f"FAILED: {text}")
    print(json.dumps({**r, "failed": found}))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
