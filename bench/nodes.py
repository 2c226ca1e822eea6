# SPDX-License-Identifier: Apache-2.0
"""Whole nodes: an idle one's memory and processor time, its start, the overhead of rounds and the bytes they cost.
P2PFL itself is not in Debian; where a row has no peer, docs/PERFORMANCE.md says what is known of it."""
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path

from kit import PYTHON, SRC, Parties, cpu_s, memory_kb, wait_for
from ports import free_port

NODE = """\
name: {name}
address: {address}
federation: p2pfl
state_dir: state
settings:
  general: {{grpc_timeout: 10, seed: 7}}
  ssl: {{ca_crt: ca.crt, server_crt: server.crt, server_key: server.key, client_crt: client.crt, client_key: client.key}}
learner: {{dataset: dummy, model: dummy, dummy_values: 1000}}
"""
EXPERIMENT = """\
network: {{package: p2pfl, protocol: GrpcCommunicationProtocol, nodes: {nodes}, topology: full}}
experiment:
  name: overhead
  rounds: {rounds}
  epochs: 1
  trainset_size: 4
  seed: 1
  wait_timeout: 5
  dataset: {{name: dummy}}
  model: {{package: dummy, params: {{values: {values}, delay_ms: 0}}}}
  aggregator: {{aggregator: FedAvg}}
settings:
  ssl: {{use_ssl: true}}
"""


class Node:
    """A process `p2pfl node start`."""

    def __init__(self, ctx, folder, name):
        self.ctx, self.folder = ctx, folder / name
        shutil.copytree(ctx.certs(), self.folder)
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        (self.folder / "node.yaml").write_text(NODE.format(name=name, address=self.address))
        self.log = open(self.folder / "log", "wb")
        self.begun = time.monotonic()
        self.proc = subprocess.Popen([ctx.p2pfl, "node", "start", "-c", str(self.folder / "node.yaml")], stdin=subprocess.DEVNULL, stdout=self.log,
                                     stderr=self.log)

    def wait_listening(self):
        def listens():
            if self.proc.poll() is not None:
                raise SystemExit(f"bench: a node did not start: {(self.folder / 'log').read_text()}")
            return accepts(self.port)
        wait_for("a node listens", listens)
        return time.monotonic() - self.begun

    def ask(self, *argv):
        return subprocess.run([self.ctx.p2pfl, "node", argv[0], "--state", str(self.folder / "state"), *argv[1:]], capture_output=True, text=True, check=False)

    def n_linked(self):
        done = self.ask("status", "--json")
        return sum(1 for p in json.loads(done.stdout)["peers"] if p["direct"]) if done.returncode == 0 else 0

    def close(self):
        self.proc.terminate()
        try:
            self.proc.wait(30)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
        self.log.close()


def accepts(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def fresh(ctx, name):
    folder = ctx.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def idle(ctx):
    """An idle node with 0, 4, 50 neighbours: resident memory, share of a core over some seconds (heartbeats every 2 s, the default)."""
    seconds = 0.5 if ctx.quick else 10
    for n in (0, 2) if ctx.quick else (0, 4, 50):
        folder = fresh(ctx, f"idle{n}")
        nodes = []
        try:
            for i in range(n + 1):
                nodes.append(Node(ctx, folder, f"node{i}"))
                nodes[-1].wait_listening()
            wait_for("the control socket", lambda: nodes[0].ask("status").returncode == 0)
            for other in nodes[1:]:
                done = nodes[0].ask("connect", other.address)
                if done.returncode != 0:
                    raise SystemExit(f"bench: connect: {done.stderr}")
            wait_for(f"{n} links", lambda: nodes[0].n_linked() == n, period=0.1)
            time.sleep(seconds / 5)
            pid = nodes[0].proc.pid
            shares, sizes = [], []
            for _ in range(ctx.repeats):
                before, begun = cpu_s(pid), time.monotonic()
                time.sleep(seconds / ctx.repeats)
                shares.append((cpu_s(pid) - before) / (time.monotonic() - begun) * 100)
                sizes.append(memory_kb(pid, "VmRSS") / 1024)
        finally:
            for node in nodes:
                node.close()
        with Parties() as parties:
            peers = {"grpc++": parties.add([ctx.program("grpcpp_bench"), ctx.certs()], listens=True),
                     "grpcio": parties.add([PYTHON, SRC / "bench" / "peers" / "grpcio_bench.py", ctx.certs()], listens=True)}
            theirs = {name: p.memory_kb("VmRSS") / 1024 for name, p in peers.items()}
        for peer, value in theirs.items() if n == 0 else [("grpc++", theirs["grpc++"])]:
            ctx.add(f"idle/{n}/memory", f"idle node, {n} neighbours: resident", sizes, "MiB", f"{peer}, server alone", [value], 12.0 if n < 50 else None,
                    "lower", limit=True)
        ctx.add(f"idle/{n}/cpu", f"idle node, {n} neighbours: processor", shares, "% of core", target=0.5 if n <= 4 else None, limit=True)


def startup(ctx):
    """`p2pfl node start` until it listens; a server of grpcio with the same certificates beside it."""
    ours, theirs = [], []
    for i in range(ctx.repeats + 1):
        node = Node(ctx, fresh(ctx, "startup"), "node")
        took = node.wait_listening()
        node.close()
        begun = time.monotonic()
        with Parties() as parties:
            parties.add([PYTHON, SRC / "bench" / "peers" / "grpcio_bench.py", ctx.certs()], listens=True)
            peer_took = time.monotonic() - begun
        if i > 0 or ctx.quick:
            ours.append(took * 1e3)
            theirs.append(peer_took * 1e3)
    ctx.add("startup/node", "node start until it listens", ours, "ms", "a server of grpcio", theirs, better="lower")
    first = []
    for _ in range(1 if ctx.quick else 3):
        run = Run(ctx, nodes=4 if ctx.quick else 16, rounds=1, values=1000)
        first.append(run.first_round_s())
    ctx.add("startup/run", f"p2pfl run of {4 if ctx.quick else 16} nodes until the end of its first round", first, "s")


class Run:
    """One `p2pfl run` of nodes whose training returns at once."""

    def __init__(self, ctx, nodes, rounds, values, example=None):
        self.nodes, self.rounds, self.folder = nodes, rounds, fresh(ctx, "run")
        experiment = self.folder / "experiment.yaml"
        experiment.write_text(EXPERIMENT.format(nodes=nodes, rounds=rounds, values=values))
        self.out, self.begun = self.folder / "out", time.time()
        done = subprocess.run([ctx.p2pfl, "run", example or str(experiment), "--out", str(self.out), "--json", "--quiet"], capture_output=True, text=True,
                              check=False)
        if done.returncode != 0:
            raise SystemExit(f"bench: p2pfl run: exit code {done.returncode}\n{done.stderr[-2000:]}")
        self.summary = json.loads((self.out / "summary.json").read_text())
        self.model_bytes = (self.out / "model.safetensors").stat().st_size

    def metrics(self):
        return [json.loads(line) for line in (self.out / "metrics.jsonl").read_text().splitlines()]

    def bytes_per_round(self):
        """Sent in all rounds but the first, which also carries the initial model."""
        later = [m for m in self.metrics() if m["round"] > 0 and "bytes_sent" in m]
        return sum(m["bytes_sent"] for m in later) / len({m["round"] for m in later})

    def first_round_s(self):
        ends = []
        for path in Path(self.out).glob("nodes/*/events.jsonl"):
            for line in path.read_text().splitlines():
                event = json.loads(line)
                if event["event"] == "round_finished" and event.get("round", 0) == 0:
                    ends.append(event["t"])
        return max(ends) - self.begun


def overhead(ctx):
    """5 rounds in which nobody trains: what remains is the protocol, the transport and the aggregation."""
    wanted = [(4, 5, 250_000, ctx.repeats), (16, 5, 250_000, 3), (4, 5, 25_000_000, 3)] + ([(16, 5, 25_000_000, 1)] if ctx.full else [])
    for nodes, rounds, values, repeats in [(4, 2, 1000, 1)] if ctx.quick else wanted:
        took = [Run(ctx, nodes, rounds, values).summary["learning_s"] for _ in range(repeats)]
        ctx.add(f"overhead/{nodes}x{4 * values // 1_000_000}MB", f"{rounds} rounds, {nodes} nodes, {4 * values / 1e6:g} MB model, in all", took, "s",
                target=0.4 if (nodes, values) == (4, 250_000) else None, limit=True)


def traffic(ctx):
    """Bytes per round in a full mesh of 4, as multiples of the least: each of 4 members sends its contribution to 3 others."""
    found = []
    for _ in range(ctx.repeats):
        run = Run(ctx, 4, 2 if ctx.quick else 5, 1000 if ctx.quick else 250_000)
        found.append(run.bytes_per_round() / (12 * run.model_bytes))
    ctx.add("bytes/dummy", "bytes sent per round, mesh of 4, training of no length", found, "x least", target=1.3, limit=True)
    if ctx.quick or not Path("/usr/share/datasets/fashion-mnist").exists():
        return
    found = []
    for _ in range(3):
        run = Run(ctx, 4, 5, 1, example="fashion-mnist")
        found.append(run.bytes_per_round() / (12 * run.model_bytes))
    ctx.add("bytes/fashion-mnist", "the same, Fashion-MNIST with the MLP", found, "x least", target=1.3, limit=True)
