# SPDX-License-Identifier: Apache-2.0
# timeout: 200
"""p2pfl run-variations: combinations, results side by side, and nothing run twice."""
import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

BIN = os.environ.get("P2PFL_BIN") or str(Path(__file__).resolve().parents[2] / "build" / "dev" / "p2pfl")

EXPERIMENT = """\
network: {nodes: 3, topology: full, protocol: memory}
experiment:
  name: v
  rounds: 2
  trainset_size: 3
  seed: 1
  dataset: {name: dummy}
  model: {package: dummy, params: {values: 100}}
"""


class Variations(unittest.TestCase):
    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="pfl-variations-"))
        self.addCleanup(shutil.rmtree, self.dir)
        (self.dir / "e.yaml").write_text(EXPERIMENT)

    def run_it(self, *args, code=0):
        done = subprocess.run([BIN, "run-variations", str(self.dir / "e.yaml"), "--out", str(self.dir / "out"), *args], capture_output=True,
                              text=True, stdin=subprocess.DEVNULL, timeout=150, cwd=self.dir)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def test_combinations_and_nothing_twice(self):
        done = self.run_it("--seeds", "1..2", "--topologies", "ring,star", "--json")
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([r["variation"] for r in rows],
                         ["seed=1 topology=ring", "seed=2 topology=ring", "seed=1 topology=star", "seed=2 topology=star"])
        for r in rows:
            self.assertTrue(r["finished"] and not r["skipped"])
            self.assertEqual((r["nodes"], r["rounds"], len(r["accuracy_by_round"])), (3, 2, 3))
            self.assertTrue((self.dir / "out" / r["folder"] / "report.html").exists())
        self.assertIn("topology: ring", (self.dir / "out" / rows[0]["folder"] / "experiment.yaml").read_text())
        before = (self.dir / "out" / rows[0]["folder"] / "summary.json").stat().st_mtime_ns
        done = self.run_it("--seeds", "1..2", "--topologies", "ring,star,line")
        self.assertEqual(done.stdout.count("there already:"), 4)
        self.assertEqual(done.stdout.count("running:"), 2)
        self.assertIn("over 2 seeds: topology=line", done.stdout)
        self.assertEqual((self.dir / "out" / rows[0]["folder"] / "summary.json").stat().st_mtime_ns, before)
        page = (self.dir / "out" / "report.html").read_text()
        self.assertEqual((page.count("<figure"), page.count("seed=2 topology=line") > 0, page.count("<svg") >= 2), (2, True, True))

    def test_params_of_any_path(self):
        done = self.run_it("--param", "experiment.model.params.values=5,6", "--param", "settings.heartbeat.period=1", "--list")
        self.assertEqual(done.stdout.split(), ["values=5", "values=6"])
        self.assertFalse((self.dir / "out").exists())

    def test_a_changed_experiment_is_not_taken_for_the_old_one(self):
        self.run_it("--seeds", "1,2")
        (self.dir / "e.yaml").write_text(EXPERIMENT.replace("rounds: 2", "rounds: 3"))
        self.assertIn("of another experiment", self.run_it("--seeds", "1,2", code=1).stderr)
        done = self.run_it("--seeds", "1,2", "--again")
        self.assertEqual(done.stdout.count("running:"), 2)
        self.assertTrue((self.dir / "out" / "seed=1.old-1" / "summary.json").exists())

    def test_a_run_that_fails_is_named_and_the_others_run(self):
        (self.dir / "e.yaml").write_text(EXPERIMENT.replace("package: dummy, params: {values: 100}", "package: mlp"))
        done = self.run_it("--param", "experiment.dataset.name=dummy,mnist", code=1)
        self.assertRegex(done.stderr, r"name=mnist ended with code 1; see .*name=mnist.log")
        self.assertRegex(done.stderr, "make mnist")
        self.assertRegex(done.stdout, r"name=mnist .*no result")

    def test_what_cannot_be_is_refused_before_anything_runs(self):
        for args, says, code in ((("--aggregators", "FedAvg,FedMedin"), "did you mean 'FedMedian'", 1), (("--seeds", ","), "no list of values", 1),
                                 (("--param", "nope"), "is no PATH=VALUES", 2), (("--param", "experiment..x=1"), "is no path", 1),
                                 (("--param", "experiment.rounds.x=1"), "is no block", 1), (("--seeds", "1..1000", "--nodes", "2,3"), "combinations", 1),
                                 (("--param", "experiment.rounds=[1"), "no list of values", 1), (("--target", "97"), "no share", 2)):
            with self.subTest(args):
                self.assertRegex(self.run_it(*args, code=code).stderr, says)
        self.assertFalse((self.dir / "out").exists())


if __name__ == "__main__":
    unittest.main()
