# SPDX-License-Identifier: Apache-2.0
"""Certificates from `p2pfl ca`, node files as the README writes them, and node processes, for tests with real nodes."""
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

SRC = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("P2PFL_BUILD") or SRC / "build" / "dev").resolve()
BIN = os.path.abspath(os.environ.get("P2PFL_BIN") or BUILD / "p2pfl")


def cache(key):
    """A variable of the build's CMakeCache.txt, "" where it is not there."""
    m = re.search(rf"^{key}:[A-Z]+=(.*)$", (BUILD / "CMakeCache.txt").read_text(), re.M)
    return m[1] if m else ""


def run(*argv, binary=None, timeout=60, cwd=None):
    return subprocess.run([str(binary or BIN), *map(str, argv)], capture_output=True, text=True, timeout=timeout, cwd=cwd)


def wait_until(what, done, seconds=30.0, period=0.02):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = done()
        if value:
            return value
        time.sleep(period)
    raise AssertionError(f"{what}: not within {seconds} s")


def make_certificates(folder, names=("node1", "node2"), binary=None, sans=(), role="coordinator"):
    """folder/ca and folder/<name> with the five files for each name, made by `p2pfl ca`. Any of them may start learning, but with role="node"."""
    secret = folder / "passphrase"
    secret.write_text("correct horse battery staple\n")
    secret.chmod(0o600)
    done = run("ca", "init", folder / "ca", "--passphrase-file", secret, binary=binary)
    assert done.returncode == 0, done.stderr
    for name in names:
        done = run("ca", "issue", name, "--role", role, "--ca", folder / "ca", "--san", ",".join(["IP:127.0.0.1,IP:::1,DNS:localhost", *sans]), "--out", folder / name,
                   "--passphrase-file", secret, binary=binary)
        assert done.returncode == 0, done.stderr


NODE = """\
name: {name}
address: {address}
federation: p2pfl
state_dir: state
settings:
  general:
    grpc_timeout: {grpc_timeout}
    seed: 7
  heartbeat:
    period: {period}
    timeout: {timeout}
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


def node_file(folder, address="127.0.0.1:0", grpc_timeout=10, period=0.5, timeout=3, values=20000, delay=20):
    path = folder / "node.yaml"
    path.write_text(NODE.format(name=folder.name, **{k: v for k, v in locals().items() if k not in ("folder", "path")}))
    return path


class Node:
    """`p2pfl node start -c FOLDER/node.yaml`: a process, its log, its events."""

    def __init__(self, folder, state=None, prefix=()):
        self.folder, self.state, self.name = folder, state or folder / "state", folder.name
        self.log_path = folder / "log"
        with open(self.log_path, "wb") as log:
            self.proc = subprocess.Popen([*prefix, BIN, "node", "start", "-c", str(folder / "node.yaml")], stdin=subprocess.DEVNULL,
                                         stdout=log, stderr=log, cwd="/")
        try:
            self.address = wait_until(f"{self.name} listens", self._listening, 60)
        except AssertionError as e:
            self.kill()
            raise AssertionError(f"{e}\n{self.log()}") from None

    def _listening(self):
        assert self.proc.poll() is None, f"exit {self.proc.returncode}"
        started = [e for e in self.events("started") if e["pid"] == self.proc.pid]
        return started[0]["address"] if started and (self.state / "control.sock").exists() else None

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_log(self, pattern, seconds=60):
        """The match. A line may come after the event, the exit code or the answer that it belongs to."""
        try:
            return wait_until(f"{self.name} logs {pattern!r}", lambda: re.search(pattern, self.log()), seconds)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.log()[-4000:]}") from None

    def events(self, kind=None):
        path = self.state / "events.jsonl"
        if not path.exists():
            return []
        whole = path.read_text().rpartition("\n")[0]  # the last line may be half written
        found = [json.loads(line) for line in whole.splitlines()]
        return [e for e in found if kind is None or e["event"] == kind]

    def wait_event(self, kind, seconds=60, count=1):
        try:
            return wait_until(f"{self.name}: event {kind}", lambda: self.events(kind)[count - 1:], seconds)[0]
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.log()[-4000:]}") from None

    def ask(self, *argv, timeout=60):
        return run("node", argv[0], "--state", self.state, *argv[1:], timeout=timeout)

    def do(self, *argv, timeout=60):
        done = self.ask(*argv, timeout=timeout)
        assert done.returncode == 0, f"{argv}: {done.stderr}{done.stdout}\n{self.log()[-4000:]}"
        return done.stdout

    def status(self):
        return json.loads(self.do("status", "--json"))

    def peer(self, other):
        return next((p for p in self.status()["peers"] if p["address"] == other.address), None)

    def stop(self, sig=signal.SIGTERM, seconds=30):
        """The exit code. A sanitizer's complaint makes it non-zero."""
        if self.proc.poll() is None:
            self.proc.send_signal(sig)
        return self.proc.wait(seconds)

    def kill(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()


class NodeTest(unittest.TestCase):
    """A folder with certificates for node1 and node2, nodes that are gone when the test is."""

    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="pfl-"))
        self.addCleanup(shutil.rmtree, self.dir)
        self.nodes = []
        self.addCleanup(lambda: [n.kill() for n in self.nodes])
        make_certificates(self.dir)

    def start(self, name, **options):
        node_file(self.dir / name, **options)
        self.nodes.append(Node(self.dir / name))
        return self.nodes[-1]

    def end(self, *nodes):
        for node in nodes or self.nodes:
            self.assertEqual(node.stop(), 0, node.log()[-6000:])


class Reader(threading.Thread):
    """Calls fn(dt) again and again, dt the seconds since the last call, until stop(). An exception is raised by stop()."""

    def __init__(self, fn, period):
        super().__init__(daemon=True)
        self.fn, self.period, self.ending, self.error = fn, period, threading.Event(), None
        self.start()

    def run(self):
        try:
            while not self.ending.wait(self.period):
                self.fn()
        except Exception as e:  # noqa: BLE001 - handed to whoever stops the thread
            self.error = e

    def stop(self):
        self.ending.set()
        self.join(30)
        if self.error:
            raise self.error
