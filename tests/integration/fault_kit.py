# SPDX-License-Identifier: Apache-2.0
"""Some nodes on fixed addresses that can be killed, frozen and started again, and what must hold of an experiment that they were in."""
import json
import os
import random
import shutil
import signal
import socket
import tempfile
import time
import unittest
from pathlib import Path

import node_kit
from node_kit import Node, make_certificates, wait_until  # noqa: F401 - for the tests

NODE = """\
name: {name}
address: {address}
federation: p2pfl
state_dir: state
{journal}connect:
{connect}
settings:
  general:
    grpc_timeout: 4
    seed: 7
  heartbeat:
    period: 0.4
    timeout: {silence}
  training:
    vote_timeout: {vote}
    aggregation_timeout: {aggregation}
  ssl:
    use_ssl: true
    ca_crt: ca.crt
    server_crt: server.crt
    server_key: server.key
    client_crt: client.crt
    client_key: client.key
learner:
  dataset: dummy
  model: dummy
  dummy_values: {values}
  dummy_delay_ms: {delay}
"""


def free_ports(n, host="127.0.0.1"):
    """Ports that nobody listens on just now. A node that is started again needs its old one, so they lie below those that the system gives
    to connections: none of them takes it while the node is down."""
    held = []
    while len(held) < n:
        s = socket.socket()
        try:
            s.bind((host, random.randrange(12000, 30000)))
        except OSError:
            s.close()
            continue
        held.append(s)
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


class Cluster:
    """Nodes node1, node2, ... in a full mesh, over mutual TLS. A node's folder and events outlive its process."""

    def __init__(self, n, silence=2.4, vote=20, aggregation=60, values=2000, delay=100, delays=None, journal=True, hosts=None, launch=None,
                 expected=None):
        self.dir = Path(tempfile.mkdtemp(prefix="pfl-faults-"))
        self.names = [f"node{i + 1}" for i in range(n)]
        self.launch = launch or (lambda name: ())
        self.nodes = {}
        hosts = hosts or ["127.0.0.1"] * n
        ports = free_ports(n) if set(hosts) == {"127.0.0.1"} else [7000 + i for i in range(n)]
        self.addresses = {name: f"{host}:{port}" for name, host, port in zip(self.names, hosts, ports)}
        make_certificates(self.dir, self.names, sans=sorted({f"IP:{h}" for h in hosts} - {"IP:127.0.0.1"}))
        for i, name in enumerate(self.names):
            known = [a for other, a in self.addresses.items() if other != name]
            (self.dir / name / "node.yaml").write_text(NODE.format(
                name=name, address=self.addresses[name], connect="".join(f"  - {a}\n" for a in known),
                journal="" if journal else "journal: false\n", silence=silence, vote=vote, aggregation=aggregation, values=values,
                delay=(delays or {}).get(name, delay)))

    def close(self):
        for node in self.nodes.values():
            if node.proc.poll() is None:
                node.proc.send_signal(signal.SIGCONT)
            node.kill()
        shutil.rmtree(self.dir)

    def start(self, *names):
        """Processes that listen. Started again, a node goes on with what it kept."""
        for name in names or self.names:
            self.nodes[name] = Node(self.dir / name, prefix=self.launch(name))
        return self.nodes[(names or self.names)[0]]

    def __getitem__(self, name):
        return self.nodes[name]

    def linked(self, names=None, seconds=60):
        names = list(names or self.names)
        for name in names:
            wait_until(f"{name} knows {len(names) - 1} others", lambda: len(self[name].status()["peers"]) >= len(names) - 1, seconds)

    def learn(self, rounds, starter="node1", trainset=4):
        self[starter].do("learn", "--rounds", rounds, "--epochs", 1, "--trainset-size", trainset)

    def kill(self, *names):
        """What `kill -9` does."""
        for name in names:
            self[name].proc.kill()
        for name in names:
            self[name].proc.wait()

    def freeze(self, name):
        self[name].proc.send_signal(signal.SIGSTOP)

    def thaw(self, name):
        self[name].proc.send_signal(signal.SIGCONT)

    def events(self, name, kind=None):
        return self[name].events(kind)

    def wait_stage(self, name, stage, round_at_least=0, seconds=90):
        """The node is in that stage now, or has just been."""
        seen = len(self.events(name, "stage"))
        return wait_until(f"{name}: stage {stage}", lambda: [e for e in self.events(name, "stage")[seen:] if e["stage"] == stage and
                                                             e.get("round", -1) >= round_at_least], seconds, 0.004)

    def wait_round(self, name, finished, seconds=120):
        try:
            wait_until(f"{name}: round {finished} finished",
                       lambda: [e for e in self.events(name, "round_finished") if e["round"] >= finished], seconds)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.report()}") from None

    def report(self):
        """What each node waits for, and the end of its story: what a failed test shows."""
        lines = []
        for name, node in self.nodes.items():
            if node.proc.poll() is not None:
                lines.append(f"== {name}: exit {node.proc.returncode}")
            else:
                s = json.loads(node.ask("status", "--json").stdout or "{}")
                lines.append(f"== {name}: {s.get('stage')} round {s.get('round')} of {s.get('rounds')}, waits for {s.get('waiting_for')}, knows "
                             f"{[p['address'] for p in s.get('peers', [])]}")
            lines += [json.dumps(e) for e in node.events()[-25:]]
        return "\n".join(lines)


class FaultTest(unittest.TestCase):
    def cluster(self, n=4, **options):
        c = Cluster(n, **options)
        self.addCleanup(c.close)
        return c

    def assert_ended_alike(self, c, names=None, rounds=None, seconds=150):
        """Each has ended the experiment, with one and the same model; nobody lost a round that it had said was finished."""
        names = list(names or c.names)
        for name in names:
            try:
                wait_until(f"{name} has ended the experiment", lambda: c.events(name, "learning_finished"), seconds)
            except AssertionError as e:
                self.fail(f"{e}\n{c.report()}")
        wait_until("one model", lambda: len({c[name].status()["model_sha256"] for name in names}) == 1, 30)
        for name in names:
            self.assertEqual(c.events(name, "learning_finished")[-1]["rounds"], rounds, name)
            self.assertEqual(c.events(name, "learning_stopped"), [], name)
            self.assert_no_round_lost(c, name)

    def assert_no_round_lost(self, c, name):
        done = -1
        for e in c.events(name):
            if e["event"] == "round_finished":
                done = max(done, e["round"])
            elif e["event"] == "resumed":
                last = e["round"] if e["round"] > done else e["round"] + 1  # all rounds done: it resumes in the last one
                self.assertGreater(last, done, f"{name} had finished round {done} and resumed in round {e['round']}")

    def end(self, c):
        for name, node in c.nodes.items():
            self.assertEqual(node.stop(), 0, f"{name}: {node.log()[-6000:]}")
