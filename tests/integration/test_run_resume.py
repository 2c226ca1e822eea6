# SPDX-License-Identifier: Apache-2.0
# timeout: 400
"""p2pfl run --resume: a run that was interrupted or killed goes on from its folder; a folder that is none, in use or finished does not."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from node_kit import BIN, run, wait_until  # noqa: E402

EXPERIMENT = """\
network:
  nodes: 4
  topology: {topology}
experiment:
  name: long
  rounds: {rounds}
  epochs: 1
  trainset_size: 4
  seed: {seed}
  wait_timeout: 60
  dataset:
    name: dummy
  model:
    package: dummy
    params:
      values: 2000
      delay_ms: {delay}
settings:
  heartbeat:
    period: 0.5
    timeout: 3
"""


class Resume(unittest.TestCase):
    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="pfl-resume-"))
        self.addCleanup(shutil.rmtree, self.dir)
        self.out = self.dir / "out"
        self.file = self.dir / "long.yaml"

    def start(self, *args, topology="star", rounds=12, delay=200, seed=11):
        self.file.write_text(EXPERIMENT.format(**locals()))
        p = subprocess.Popen([BIN, "run", str(self.file), "--out", str(self.out), "--json", *args], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
        self.addCleanup(self.gone, p)
        return p

    def gone(self, p):
        if p.poll() is None:
            p.kill()
        p.communicate()

    def events(self, node, kind):
        path = self.out / "nodes" / node / "events.jsonl"
        whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
        return [e for e in map(json.loads, whole.splitlines()) if e["event"] == kind]

    def wait_round(self, p, finished):
        def done():
            self.assertIsNone(p.poll(), "it ended too early")
            return [e for e in self.events("node-1", "round_finished") if e["round"] >= finished]
        wait_until(f"round {finished} of node-1", done, 90)

    def wait_no_node(self):
        """The nodes of a runner that was killed end with it, and let go of their state."""
        wait_until("the nodes are gone", lambda: not any(
            os.path.exists(f"/proc/{e['pid']}") and not (Path("/proc") / str(e["pid"]) / "stat").read_text().rsplit(")", 1)[1].startswith(" Z")
            for n in range(1, 5) for e in self.events(f"node-{n}", "started")), 30)

    def resume(self, *args):
        done = run("run", "--resume", self.out, "--json", *args, timeout=150)
        self.assertEqual(done.returncode, 0, done.stderr[-3000:] + done.stdout[-2000:])
        return json.loads(done.stdout.splitlines()[-1])

    def check(self, result, rounds):
        self.assertTrue(result["finished"] and result["identical"])
        self.assertEqual({n["rounds"] for n in result["nodes"]}, {rounds})
        for n in range(1, 5):
            finished = [e["round"] for e in self.events(f"node-{n}", "round_finished")]
            self.assertEqual(len(finished), len(set(finished)), f"node-{n} ended a round twice: {finished}")
        self.assertTrue((self.out / "report.html").exists() and (self.out / "model.safetensors").exists())

    # ---- refusals ----

    def refused(self, says, *args, code=1):
        done = run("run", "--resume", *args)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertIn(says, done.stderr)
        self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)

    def test_what_is_no_run(self):
        self.refused("No such file", self.dir / "nowhere")
        self.refused("not the folder of a run", self.dir)
        (self.dir / "run.json").write_text("{")
        self.refused("not the folder of a run", self.dir)
        (self.dir / "run.json").write_text("{}")
        (self.dir / "experiment.yaml").write_text(EXPERIMENT.format(topology="star", rounds=1, delay=1, seed=1))
        self.refused("not what p2pfl writes there", self.dir)
        done = run("run", "--resume", self.dir, "--rounds", 3)
        self.assertEqual(done.returncode, 2)
        self.assertIn("as it is", done.stderr)

    def test_one_that_goes_on_then_one_that_is_finished(self):
        p = self.start(rounds=8)
        self.wait_round(p, 1)
        self.refused("is going on", self.out)
        self.assertEqual(p.wait(120), 0)
        self.refused("finished", self.out)

    def test_another_experiment(self):
        p = self.start(rounds=30)
        self.wait_round(p, 1)
        p.send_signal(signal.SIGINT)
        self.assertEqual(p.wait(60), 130)
        other = self.dir / "other.yaml"
        other.write_text(self.file.read_text().replace("epochs: 1", "epochs: 2"))
        done = run("run", other, "--resume", self.out)
        self.assertEqual(done.returncode, 1)
        self.assertIn("another experiment", done.stderr)

    # ---- runs that go on ----

    def test_interrupted(self):
        p = self.start("--rounds", "10")
        self.wait_round(p, 2)
        p.send_signal(signal.SIGINT)
        self.assertEqual(p.wait(60), 130)
        self.assertFalse(json.loads((self.out / "summary.json").read_text())["finished"])
        result = self.resume(str(self.file))
        self.check(result, 10)
        self.assertTrue(all(self.events(f"node-{n}", "resumed") for n in range(1, 5)))

    def test_killed_twice(self):
        p = self.start(rounds=14)
        for at in (2, 6):
            self.wait_round(p, at)
            p.kill()
            p.wait()
            self.wait_no_node()
            if at == 2:
                p = subprocess.Popen([BIN, "run", "--resume", str(self.out), "--quiet"], stdout=subprocess.DEVNULL)
                self.addCleanup(self.gone_quiet, p)
        self.check(self.resume(), 14)

    def gone_quiet(self, p):
        p.kill()
        p.wait()

    def test_killed_before_learning_began(self):
        p = self.start(rounds=3)
        wait_until("node-4 is up", lambda: (self.out / "nodes/node-4/events.jsonl").exists() and self.events("node-4", "started"), 60)
        p.kill()
        p.wait()
        self.wait_no_node()
        self.check(self.resume(), 3)

    def listener(self, host, port):
        """None where the port is taken: a process counts as gone before the last of its threads has closed its files."""
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((host, port))
            s.listen()
        except OSError:
            s.close()
            return None
        return s

    def test_nodes_that_outlive_their_runner_for_a_moment(self):
        p = self.start(rounds=6)
        self.wait_round(p, 1)
        p.kill()
        p.wait()
        self.wait_no_node()
        host, port = self.events("node-1", "started")[0]["address"].split(":")
        late = wait_until("node-1's port", lambda: self.listener(host, int(port)), 30)
        timer = threading.Timer(2, late.close)
        timer.start()
        self.addCleanup(timer.join)
        self.check(self.resume(), 6)

    def test_the_same_model_as_an_uninterrupted_run(self):
        p = self.start(topology="full", rounds=6)
        self.assertEqual(p.wait(120), 0)
        want = json.loads((self.out / "summary.json").read_text())["nodes"][0]
        shutil.rmtree(self.out)
        p = self.start(topology="full", rounds=6)
        self.wait_round(p, 2)
        p.kill()
        p.wait()
        self.wait_no_node()
        got = self.resume()["nodes"][0]
        if got["address"] != want["address"]:
            self.skipTest("the ports of the first run were taken: addresses order the contributions")
        self.assertEqual(got["model_sha256"], want["model_sha256"])


if __name__ == "__main__":
    unittest.main()
