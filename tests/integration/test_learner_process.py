# SPDX-License-Identifier: Apache-2.0
# timeout: 240
"""Learners in other processes behind real nodes: federations of them, one that fails in the middle, ends of node and learner."""
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from node_kit import BUILD, NodeTest, Node, node_file, run, wait_until

PEER = str(BUILD / "learner_peer")
EXPERIMENT = """\
network: {{nodes: 4, topology: full}}
experiment:
  rounds: {rounds}
  trainset_size: 4
  seed: 5
  dataset: {{name: dummy}}
  model: {{package: dummy}}
  learner:
    command: ["{peer}"]
    nodes: {nodes}
    params: {params}
settings:
  training: {{vote_timeout: 60, aggregation_timeout: 60}}
"""


def running(what):
    """The processes whose command line has this in it."""
    found = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if what.encode() in cmdline.read_bytes():
                found.append(int(cmdline.parent.name))
        except OSError:
            pass
    return found


class Federation(unittest.TestCase):
    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="pfl-"))
        self.addCleanup(shutil.rmtree, self.dir)

    def run_experiment(self, rounds=3, nodes="[0, 1, 2, 3]", **params):
        (self.dir / "e.yaml").write_text(EXPERIMENT.format(rounds=rounds, peer=PEER, nodes=nodes, params=json.dumps(params)))
        done = run("run", self.dir / "e.yaml", "--out", self.dir / "out", "--json", timeout=150, cwd=self.dir)
        log = {p.parent.name: p.read_text() for p in self.dir.glob("out/nodes/*/log.txt")}
        self.assertEqual(done.returncode, 0, done.stderr + "".join(log.values())[-4000:])
        return json.loads(done.stdout), log

    def events(self, node, kind):
        lines = (self.dir / "out/nodes" / node / "events.jsonl").read_text().splitlines()
        return [e for e in map(json.loads, lines) if e["event"] == kind]

    def test_four_learners_train_together(self):
        """Each epoch adds 1 to values that begin with 1: the mean after three rounds is 4."""
        _, log = self.run_experiment()
        for i in range(4):
            last = self.events(f"node-{i + 1}", "learning_finished")[0]
            self.assertEqual((last["loss"], last["accuracy"]), (4.0, 0.5))
            self.assertIn(f"learner: describe for node-{i + 1}, part {i} of 4, seed 5", log[f"node-{i + 1}"])
            self.assertEqual([f["samples"] for f in self.events(f"node-{i + 1}", "fit")], [100 + i] * 3)

    def test_one_dies_in_its_fit__the_round_goes_on_and_the_next_has_it_back(self):
        for fault, says in (("exit", "ended with code 7: out of memory on the accelerator"),
                            ("garbage", "answers its fit with nonsense")):
            with self.subTest(fault=fault):
                shutil.rmtree(self.dir / "out", ignore_errors=True)
                (self.dir / "once").unlink(missing_ok=True)
                _, log = self.run_experiment(rounds=3, fault=fault, once=str(self.dir / "once"))
                failed = [n for n, text in log.items() if "training failed: learner " in text]
                self.assertEqual(len(failed), 1, log)
                self.assertRegex(log[failed[0]], r"training failed: learner '.*learner_peer' " + re.escape(says))
                fits = {n: len(self.events(n, "fit")) for n in log}
                self.assertEqual(sorted(fits.values()), [2, 3, 3, 3], fits)
                others = next(n for n in log if n not in failed)
                self.assertIn("its training failed", "".join(json.dumps(e) for e in self.events(others, "excluded")))


class OneNode(NodeTest):
    def node(self, learner, name="node1"):
        path = node_file(self.dir / name)
        text = path.read_text()
        path.write_text(text[:text.index("learner:")] + "learner:\n" + learner)
        self.nodes.append(Node(self.dir / name))
        return self.nodes[-1]

    def folder_of(self, node):
        """The folder that it shares with its learner, as the learner's environment names it."""
        pid = wait_until("the learner runs", lambda: running(self.marker))[0]
        env = dict(v.split("=", 1) for v in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in v)
        return Path(env["P2PFL_LEARNER_SOCKET"]).parent

    def setUp(self):
        super().setUp()
        self.marker = str(self.dir / "learner-program")
        os.symlink(PEER, self.marker)

    def test_status_says_how_far_a_fit_is(self):
        node = self.node("  dataset: fashion-mnist\n  reduction_factor: 0.02\n  hidden_sizes: [16]\n  batch_size: 32\n")
        self.assertIsNone(node.status()["fit_progress"])
        node.do("learn", "--rounds", "1", "--epochs", "10000")  # some minutes
        first = wait_until("one percent", lambda: node.status()["fit_progress"], 120)
        self.assertRegex(node.do("status"), r"learning: round 0 of 1, training, its training [1-9]\d* % done\n")
        wait_until("more", lambda: node.status()["fit_progress"] > first, 120)
        node.do("stop")
        wait_until("it has stopped", lambda: node.status()["fit_progress"] is None)
        self.end()

    def test_the_learner_ends_with_its_node(self):
        node = self.node(f"  command: ['{self.marker}']\n")
        folder = self.folder_of(node)
        self.assertEqual(folder.stat().st_mode & 0o777, 0o700)
        self.end(node)
        self.assertEqual(running(self.marker), [])
        self.assertFalse(folder.exists())

    def test_a_node_that_is_killed_takes_it_along__the_next_one_cleans_up(self):
        node = self.node(f"  command: [sh, -c, \"trap '' TERM; exec '{self.marker}' \\\"$P2PFL_LEARNER_SOCKET\\\"\"]\n")  # one that heeds neither sign
        folder = self.folder_of(node)
        node.kill()
        wait_until("the learner is gone", lambda: not running(self.marker))
        self.assertTrue(folder.exists())
        node = self.node(f"  command: ['{self.marker}']\n")
        self.assertFalse(folder.exists())
        self.end(node)

    def test_a_command_that_cannot_run__the_node_says_so_and_ends(self):
        for command, says in ((["no-such-program"], "cannot start the learner 'no-such-program': No such file or directory"),
                              (["sh", "-c", "echo no module named torch >&2; exit 3"], "ended with code 3: no module named torch")):
            path = node_file(self.dir / "node1")
            text = path.read_text()
            path.write_text(text[:text.index("learner:")] + f"learner:\n  command: {json.dumps(command)}\n")
            done = run("node", "start", "-c", path)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(f"node 'node1': learner '{' '.join(command)}'", done.stderr)
            self.assertIn(says, done.stderr)

    def test_a_command_runs_in_the_file_s_folder(self):
        node = self.node("  command: [sh, -c, \"pwd > where; exec ../learner-program\"]\n")
        self.assertEqual(Path((self.dir / "node1" / "where").read_text().strip()), self.dir / "node1")
        self.end(node)

    def test_a_learner_at_a_socket(self):
        socket = self.dir / "node1" / "learner.sock"
        with subprocess.Popen([PEER, str(socket)]) as learner:
            try:
                node = self.node("  socket: learner.sock\n")
                node.wait_log("is ready: a learner in C")
                self.end(node)
                self.assertIsNone(learner.poll())  # it is not the node's to end
            finally:
                learner.kill()

    @unittest.skipUnless(os.geteuid() == 0, "needs root, to have a process of another user")
    def test_a_socket_of_another_user__is_not_trusted(self):
        folder = self.dir / "theirs"
        folder.mkdir()
        os.chown(folder, 65534, 65534)
        self.dir.chmod(0o755)
        program = folder / "learner_peer"
        shutil.copy(PEER, program)
        socket = folder / "learner.sock"
        path = node_file(self.dir / "node1")
        text = path.read_text()
        path.write_text(text[:text.index("learner:")] + f"learner:\n  socket: {socket}\n")
        with subprocess.Popen([str(program), str(socket)], user=65534, group=65534, extra_groups=[]) as learner:
            try:
                wait_until("it listens", socket.exists)
                done = run("node", "start", "-c", path)
            finally:
                learner.kill()
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("is not trusted: the process that listens there is user 65534's, this node is user 0's", done.stderr)


if __name__ == "__main__":
    unittest.main()
