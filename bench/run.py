#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The benchmarks: each beside its peer on the same machine in the same run, alternating, after a warm-up; medians and spreads.

usage: run.py BUILD [--only NAME] [--repeats N] [--quick] [--full] [--jsonl FILE] [--markdown FILE [--no-run]]

Prints a table and keeps one line of JSON for each row in the folder above BUILD (bench.jsonl); lines of benchmarks that did not run this
time stay. --markdown writes the table that those lines make between the two marks in FILE."""
import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import compute  # noqa: E402
import nodes  # noqa: E402
import transport  # noqa: E402
from kit import Context, figure, say, target_text  # noqa: E402

BENCHES = {"machine": compute.machine, "calls": transport.calls, "message": transport.message, "both_ways": transport.both_ways,
           "neighbours": transport.neighbours, "heartbeat": transport.heartbeat, "memory": transport.memory, "handshakes": transport.handshakes,
           "fedavg": compute.fedavg, "aggregators": compute.aggregators, "codecs": compute.codecs, "compression": compute.compression, "idle": nodes.idle, "overhead": nodes.overhead,
           "bytes": nodes.traffic, "startup": nodes.startup}
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(path, rows, ran):
    """The file with the new rows in the place of those of the benchmarks that ran."""
    lines = [line for line in read_lines(path) if line["bench"].split("/")[0] not in ran] + rows
    order = list(BENCHES)
    lines.sort(key=lambda line: order.index(line["bench"].split("/")[0]) if line["bench"].split("/")[0] in order else len(order))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def span(row, prefix=""):
    return f"{figure(row[prefix + 'low'])} to {figure(row[prefix + 'high'])}"


def markdown(lines):
    out = ["| what | p2pfl | spread | peer | its figure | spread | ratio | target |", "|---|---|---|---|---|---|---|---|"]
    for r in lines:
        peer = [r["peer"], figure(r["peer_value"]), span(r, "peer_"), f"{r['ratio']:.2f}"] if r["peer"] else ["", "", "", ""]
        out.append("| " + " | ".join([f"{r['title']} (`{r['bench'].split('/')[0]}`)", f"{figure(r['value'])} {r['unit']}", span(r), *peer, target_text(r)]) + " |")
    return "\n".join(out)


def write_markdown(path, lines):
    text = path.read_text()
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    path.write_text(head + BEGIN + "\n" + machine_text(lines) + "\n\n" + markdown(lines) + "\n" + END + tail)


def machine_text(lines):
    """When and where, and how busy the machine was with other things."""
    whens = sorted({line["when"] for line in lines if "when" in line})
    which = sorted({line["machine"] for line in lines if "machine" in line})
    loads = [line["load"] for line in lines if "load" in line]
    busy = f" Load average at the beginning of the benchmarks: {min(loads):.1f} to {max(loads):.1f}." if loads else ""
    return f"Measured {whens[0][:10]} to {whens[-1][:10]} on {'; '.join(which)}.{busy}" if whens else ""


def machine_name():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8") if line.startswith("model name")), platform.machine())
    openssl = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=False).stdout.split("(")[0].strip()
    return f"{os.cpu_count()} x {model}, Linux {platform.release().split('-')[0]}, {openssl}"


def measure(args, chosen, jsonl):
    """Runs them in order; the lines of each are kept when it ends, whatever the next one does."""
    machine = machine_name()
    with tempfile.TemporaryDirectory(prefix="p2pfl-bench-") as folder:
        ctx = Context(args.build, folder, args.quick, args.repeats, args.full)
        for name in chosen:
            begun, ctx.load, ctx.rows = time.monotonic(), os.getloadavg()[0], []
            BENCHES[name](ctx)
            say(f"({name}: {time.monotonic() - begun:.0f} s)")
            if not args.quick or args.jsonl:
                stamp = {"when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": machine}
                keep(jsonl, [{**row, **stamp} for row in ctx.rows], [name])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("build")
    p.add_argument("--only", default="", help="one of " + ", ".join(BENCHES))
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--quick", action="store_true", help="everything once and small: does it run? Nothing is kept")
    p.add_argument("--full", action="store_true", help="also what takes minutes")
    p.add_argument("--jsonl", type=Path)
    p.add_argument("--markdown", type=Path, metavar="FILE")
    p.add_argument("--no-run", action="store_true", help="only --markdown, from what is kept")
    args = p.parse_args()
    chosen = [name for name in BENCHES if not args.only or name in args.only.split(",")]
    if not chosen:
        p.error(f"there is no benchmark {args.only!r}: {', '.join(BENCHES)}")
    jsonl = args.jsonl or Path(args.build).resolve().parent / "bench.jsonl"
    if not args.no_run:
        measure(args, chosen, jsonl)
    if args.markdown:
        write_markdown(args.markdown, read_lines(jsonl))


if __name__ == "__main__":
    main()
