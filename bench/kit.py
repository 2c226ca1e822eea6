# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: parties (processes that carry out lines), alternation, rows, certificates."""
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

SRC = Path(__file__).resolve().parents[1]
PYTHON = "/usr/bin/python3"


class Context:
    """What a benchmark runs with. quick: everything once and small, to see that it runs; its figures mean nothing."""

    def __init__(self, build, folder, quick=False, repeats=5, full=False):
        self.build, self.folder, self.quick, self.full = Path(build).resolve(), Path(folder), quick, full
        self.repeats = 1 if quick else repeats
        self.p2pfl = str(self.build / "p2pfl")
        self.rows, self.known_certs, self.load = [], {}, 0.0

    def program(self, name):
        path = self.build / name
        if not path.exists():
            raise SystemExit(f"bench: {path} is missing: run `make setup` and `make bench`, or build that preset")
        return str(path)

    def certs(self, key="p256"):
        """A folder with a node's five files, from a CA whose key is of the same kind."""
        if key not in self.known_certs:
            base = self.folder / f"certs-{key.replace(':', '')}"
            base.mkdir()
            secret = base / "passphrase"
            secret.touch(0o600)
            secret.write_text("only for this benchmark\n")
            for argv in (["ca", "init", base / "ca", "--key", key],
                         ["ca", "issue", "bench", "--ca", base / "ca", "--key", key, "--san", "IP:127.0.0.1,DNS:localhost", "--out", base / "node"]):
                subprocess.run([self.p2pfl, *map(str, argv), "--passphrase-file", str(secret)], check=True, capture_output=True)
            self.known_certs[key] = base / "node"
        return self.known_certs[key]

    def add(self, bench, title, values, unit, peer=None, peer_values=None, target=None, better="higher", limit=False, note=""):
        """One row. ratio says how many times better than the peer; limit: target is a bound on the value itself."""
        row = make_row(bench, title, values, unit, peer, peer_values, target, better, limit, note)
        self.rows.append({**row, "load": rounded(self.load)})
        print(row_text(row), flush=True)


def make_row(bench, title, values, unit, peer, peer_values, target, better, limit, note):
    value = statistics.median(values)
    row = {"bench": bench, "title": title, "value": rounded(value), "unit": unit, "low": rounded(min(values)), "high": rounded(max(values)),
           "n": len(values), "peer": peer, "peer_value": None, "ratio": None, "target": target, "met": None, "note": note}
    if peer_values:
        theirs = statistics.median(peer_values)
        row.update(peer_value=rounded(theirs), peer_low=rounded(min(peer_values)), peer_high=rounded(max(peer_values)),
                   ratio=rounded(value / theirs if better == "higher" else theirs / value))
    if target is not None and limit:
        row["met"] = value <= target
    elif target is not None and row["ratio"] is not None:
        row["met"] = row["ratio"] >= target
    row["limit"] = limit
    return row


def rounded(x):
    return float("%.4g" % x)


def figure(x):
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def target_text(row):
    if row["target"] is None:
        return ""
    bound = f"at most {figure(row['target'])}" if row["limit"] else f"at least {figure(row['target'])}x"
    return f"{bound}: {'met' if row['met'] else 'MISSED'}"


def row_text(row):
    text = f"{row['title']:<58} {figure(row['value']):>9} {row['unit']:<9} [{figure(row['low'])} to {figure(row['high'])}]"
    if row["peer"]:
        text += f"   {row['peer']} {figure(row['peer_value'])} [{figure(row['peer_low'])} to {figure(row['peer_high'])}]   ratio {row['ratio']:.2f}"
    return text + (f"   {target_text(row)}" if row["target"] is not None else "")


class Party:
    """A process that answers each line with a line of JSON, and may listen."""

    def __init__(self, argv, listens=False, env=None):
        self.name = os.path.basename(str(argv[-1] if str(argv[0]).endswith("python3") else argv[0]))
        self.proc = subprocess.Popen([str(a) for a in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self.target = None
        if listens:
            m = re.match(r"LISTEN (\S+)", self._line())
            self.target = m and m[1]

    def _line(self):
        line = self.proc.stdout.readline()
        if not line:
            raise SystemExit(f"bench: {self.name} ended with exit code {self.proc.wait()}")
        return line

    def start(self, *words):
        self.proc.stdin.write(" ".join(map(str, words)) + "\n")
        self.proc.stdin.flush()

    def answer(self):
        return json.loads(self._line())

    def ask(self, *words):
        self.start(*words)
        return self.answer()

    def memory_kb(self, key):
        return memory_kb(self.proc.pid, key)

    def forget_peak(self):
        with open(f"/proc/{self.proc.pid}/clear_refs", "w", encoding="ascii") as f:
            f.write("5")

    def cpu_s(self):
        return cpu_s(self.proc.pid)

    def close(self):
        try:
            self.proc.stdin.close()
            self.proc.wait(20)
        except (OSError, subprocess.TimeoutExpired):
            self.proc.kill()
            self.proc.wait()


class Parties:
    """Several processes that end with the block."""

    def __init__(self):
        self.all = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for p in self.all:
            p.close()

    def add(self, argv, **kwargs):
        self.all.append(Party(argv, **kwargs))
        return self.all[-1]


def memory_kb(pid, key):
    """VmRSS, VmHWM, ... of /proc/PID/status."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(re.search(rf"^{key}:\s+(\d+) kB", f.read(), re.M)[1])


def cpu_s(pid):
    """Time on a processor of all threads, from the scheduler: exact, where /proc/PID/stat counts ticks."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as f:
                total += int(f.read().split()[0])
        except FileNotFoundError:
            pass
    return total / 1e9


def alternate(repeats, measures, warm_up=True):
    """measures: {name: function that gives one figure}. All once to warm up, then `repeats` times each, in turn; {name: [figures]}."""
    found = {name: [] for name in measures}
    for i in range(repeats + warm_up):
        for name, measure in measures.items():
            figure_now = measure()
            if i >= warm_up:
                found[name].append(figure_now)
    return found


def at_once(*works):
    threads = [threading.Thread(target=w) for w in works]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def wait_for(what, done, seconds=60, period=0.001):
    end = time.monotonic() + seconds
    while not (value := done()):
        if time.monotonic() > end:
            raise SystemExit(f"bench: {what}: not within {seconds} s")
        time.sleep(period)
    return value


def say(text):
    print(text, file=sys.stderr, flush=True)
