#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/RESULTS-aggregators.md: aggregators under attack, and compression: rounds of real learning in one process
(tests/tools/federate.c), on Fashion-MNIST. Prints Markdown, and writes what each run said to BUILD/learning-<section>.jsonl.

usage: learning.py BUILD attack|compression [key=value ...]     what is given goes to every run"""
import json
import os
import subprocess
import sys

# 100 clients, 20 of them hostile, Dirichlet 0.5, Adam 1e-3, batches of 32: the setup of FLANDERS (Gabrielli et al. 2023) with its networks,
# but no dropout, a part of each client's samples and fewer rounds.
ATTACK = ["nodes=100", "part=dirichlet", "share=0.1", "rounds=20", "trim=0.2"]
NETWORKS = {"fashion-mnist": "hidden=256,128,64", "mnist": "hidden=128,256"}
ATTACKS = {"none": ["attack=none"], "Gaussian": ["attack=gaussian", "bad=20", "sigma=10"], "LIE, z = 0.29": ["attack=lie", "bad=20"],
           "LIE, z = 1.5": ["attack=lie", "bad=20", "z=1.5"], "FLANDERS' LIE": ["attack=lie-flanders", "bad=20"]}
FIRST = 3  # FLANDERS' tables give the best accuracy from the third round on
RULES = {"FedAvg": ["aggregator=fedavg"], "median": ["aggregator=fedmedian"], "trimmed mean (0.2)": ["aggregator=trimmed_mean"],
         "Multi-Krum (f = 20)": ["aggregator=multi_krum", "byzantine=20"], "Bulyan (f = 20)": ["aggregator=bulyan", "byzantine=20"]}

COMPRESSION = ["nodes=10", "part=iid", "share=0.2", "hidden=128,64", "batch=32", "rounds=15"]
PIPELINES = {
    "none": "", "float16": "ptq:F16", "bfloat16": "ptq:BF16", "int8": "ptq:I8", "uint8": "ptq:U8", "int16": "ptq:I16",
    "top 10 %, error feedback": "topk:0.1", "top 10 %, no error feedback": "topk:forget", "top 1 %, error feedback": "topk:0.01",
    "low rank, 95 % of the energy": "low_rank:0.95", "zlib": "zlib", "lzma": "lzma", "zstd": "zstd", "top 10 %, int8, zstd": "topk:0.1,ptq:I8,zstd",
    "dp: noise 0.001 of clip 1": "dp:0.001",
}


def federate(build, log, *options):
    r = subprocess.run([os.path.join(build, "federate"), *options], stdout=subprocess.PIPE, check=True, text=True)
    rounds = [json.loads(line) for line in r.stdout.splitlines()]
    log.write(json.dumps({"options": options, "rounds": rounds}) + "\n")
    log.flush()
    return rounds


def attack(build, log, extra):
    given = dict(o.split("=", 1) for o in extra)
    network = NETWORKS.get(given.get("name", "fashion-mnist"), "hidden=128,64")
    print("best accuracy from round 3 on (after the last round), %\n\n| rule | " + " | ".join(ATTACKS) + " |\n|---|" + "---|" * len(ATTACKS))
    for name, rule in RULES.items():
        row = []
        for what in ATTACKS.values():
            accuracy = [100 * r["accuracy"] for r in federate(build, log, *extra, *rule, *what, *ATTACK, network)]
            row.append(f"{max(accuracy[FIRST - 1:]):.1f} ({accuracy[-1]:.1f})")
        print(f"| {name} | " + " | ".join(row) + " |", flush=True)


def compression(build, log, extra):
    print("| technique | accuracy, % | difference | bytes of a contribution | smaller by |\n|---|---|---|---|---|")
    plain = None
    for name, steps in PIPELINES.items():
        rounds = federate(build, log, *extra, f"steps={steps}", *COMPRESSION)
        accuracy, size = 100 * rounds[-1]["accuracy"], sum(r["bytes"] for r in rounds) / len(rounds)
        plain = plain or (accuracy, size)
        print(f"| {name} | {accuracy:.2f} | {accuracy - plain[0]:+.2f} | {size:,.0f} | {plain[1] / size:.2f} |", flush=True)


def main():
    if len(sys.argv) < 3 or sys.argv[2] not in ("attack", "compression"):
        sys.exit(__doc__)
    build, section = sys.argv[1:3]
    with open(os.path.join(build, f"learning-{section}.jsonl"), "w", encoding="ascii") as log:
        {"attack": attack, "compression": compression}[section](build, log, sys.argv[3:])


if __name__ == "__main__":
    main()
