# SPDX-License-Identifier: Apache-2.0
# timeout: 400
"""p2pfl simulate: many seeds with mixed faults, the same seed twice, failures that can be replayed, a real run and a simulated one of
the same file, the scenarios of examples/simulations, and each seed that once found a bug."""
import json
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("P2PFL_BUILD") or ROOT / "build" / "dev")
BIN = os.environ.get("P2PFL_BIN") or str(BUILD / "p2pfl")
CACHE = BUILD / "CMakeCache.txt"
SANITIZED = CACHE.exists() and re.search(r"^PFL_SANITIZE:\w+=\w", CACHE.read_text(), re.M) is not None
SEEDS = 24 if SANITIZED else 200  # the sanitizers make a seed ten times as long
KEYS = ["seeds", "failed", "nodes", "rounds", "wall_s", "peak_rss_kb", "messages_per_node_round", "bytes_per_node_round"]

# Seeds of the default mix that once failed, and what was wrong.
FOUND = {
    5: "a one-way cut longer than the heartbeat timeout parted the network for good: nobody dialled again",
    14: "the same, a partition",
    30: "the same, without any fault but loss: two nodes evicted each other",
    36: "nodes that a partition had cut off finished alone and never met the others again",
    45: "two halves of a partition stayed two networks",
    4: "the simulator: a crash made an operator's call of another node answerable twice",
    148: "the simulator: a node that heard of the learning after all others had ended was taken for one that hangs",
    272: "a node that a one-way cut left two rounds behind did not catch up: it finished by itself, with another model",
    630: "the same",
    707: "the same after a pause of 17 s",
    814: "with three results of a round, one that was offered and is not the common one kept the common one away",
    920: "an idle node whose start_learning was lost heard votes and models, asked nobody, and sat the experiment out",
    1064: "the same by another way",
    1323: "a node that had ended took old votes of that experiment for one that it is missing, asked about it as if it knew nothing, and its "
          "neighbours forgot who had announced which result: two of ten took the result of a former partition's other half",
    2563: "the same",
    974: "of two results of the last round first one was the common one, then the other, then the first again: who had announced both was "
         "given none, for it was taken to have it",
    2140: "the same",
    3939: "a link that one side had given up: the other went on sending digests, was told that it is no neighbour, and did not shake hands again; "
          "later: votes that came two rounds early had been thrown away when their round began",
    4549: "a voter gave each neighbour another vote under one hash: the second passed for a copy of the first, nobody found it out",
    5000: "the same",
    5224: "the same, and a link that was there on one side only",
    6443: "a trainer that was put out while a round ended was counted by some and not by others: two results, and one that came late took the first",
    7135: "the same as 4549",
    1621: "a node that only a liar connected with the rest took the liar's result in the end, though it knew that members had computed another",
    1690: "a node that came late began the next round with a liar's result, though it knew the same",
    8088: "the simulator: a node that an equivocating voter alone linked with the rest was taken for one that could know the evidence",
    9237: "an equivocator that was out took the place of those who had the common result: it asked, was told to come, and was refused",
    3645: "a sender that lost a model on the way, or the answer, kept its place before others who had it, each time it asked again",
    829: "the simulator: each copy of a flooded message was held by itself, over 2 MB a node",
    4146: "a trainer was let out while the round ended: some counted the votes again without its ballot and trained anew, some had ended, and each "
          "half counted the results of its own train set",
    5428: "the same with a voter in the last round",
    1322: "the same with a vote that came late",
    2748: "a liar that had been cut off had ended the last round alone: all others, who were in it, took its word for whose results count",
    20319: "a voter was found out before the learning began at a node, which forgot it at the start and counted its vote",
}

DUMMY = """\
network: {nodes: 4, topology: ring}
experiment:
  name: both
  rounds: 3
  trainset_size: 4
  seed: 21
  dataset: {name: dummy}
  model: {package: dummy, params: {values: 500, delay_ms: 30}}
settings:
  heartbeat: {period: 0.5, timeout: 3}
simulation:
  learner: real
"""


def simulate(*args, **kw):
    return subprocess.run([BIN, "simulate", *map(str, args)], capture_output=True, text=True, timeout=380, **kw)


class Simulate(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.TemporaryDirectory()
        self.addCleanup(self.tmp.cleanup)
        self.dir = Path(self.tmp.name)

    def file(self, text):
        path = self.dir / "x.yaml"
        path.write_text(text)
        return path

    def ok(self, *args):
        done = simulate(*args)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def json_of(self, *args):
        lines = self.ok(*args, "--json").splitlines()
        self.assertEqual(len(lines), 1, "exactly one line")
        return json.loads(lines[0])

    def test_many_seeds_with_mixed_faults(self):
        r = self.json_of("--seeds", f"1..{SEEDS}")
        self.assertEqual(list(r)[:len(KEYS)], KEYS)
        self.assertEqual((r["seeds"], r["failed"], r["rounds"]), (SEEDS, [], 5))
        self.assertTrue(8 <= r["nodes"] <= 20 and r["messages_per_node_round"] > 0 and r["peak_rss_kb"] > 0)
        print(f"{SEEDS} seeds in {r['wall_s']:.1f} s, {r['stopped']} with nodes that stopped, {r['apart']} that ended apart")

    def test_seeds_that_found_something(self):
        for seed, what in FOUND.items():
            done = simulate("--seed", seed, "--quiet")
            self.assertEqual(done.returncode, 0, f"seed {seed} ({what}): {done.stderr}")

    def test_liar_shows_a_late_comer_the_way__the_common_result_replaces_its(self):
        """Who comes late takes the result of the round before from the liar that tells it where the others are, before it hears of
        the common one."""
        plan = (ROOT / "examples" / "simulations" / "liars.yaml").read_text()
        path = self.file(plan + "    - {kind: byzantine, node: node-3, at_s: 0, lie: false-result}\n")
        self.assertEqual(self.json_of(path, "--seeds", "5..10")["failed"], [])

    def test_voter_is_found_out_while_votes_are_counted__one_train_set(self):
        """Half of the nodes had the proof before they counted, the others never got it: two train sets, two results of the round."""
        self.assertEqual(self.json_of(ROOT / "examples" / "simulations" / "liars.yaml", "--seed", 26)["failed"], [])

    def test_cut_off_and_ahead__all_meet_without_a_timeout(self):
        """One of four goes on alone for some rounds and comes back. Nobody waits for what will not come: all is over before the
        aggregation timeout (60 s) could have passed once."""
        plan = (ROOT / "tests" / "fixtures" / "sim" / "cut-off.yaml").read_text()
        for until in (5, 9):
            path = self.file(plan.replace("until_s: 5", f"until_s: {until}"))
            for seed in range(1, 9 if SANITIZED else 31):
                r = self.json_of(path, "--seed", seed)
                self.assertEqual((r["failed"], r["stopped"], r["apart"]), ([], 0, 0), f"until {until} s, seed {seed}")
                self.assertLess(r["virtual_s"], 40, f"until {until} s, seed {seed}")

    def test_same_seed__same_run__another_seed__another(self):
        a, b, c = (self.ok("--seed", s, "--trace") for s in (7, 7, 8))
        self.assertEqual(re.sub(r"[0-9.]+ s, peak.*", "", a), re.sub(r"[0-9.]+ s, peak.*", "", b))
        self.assertNotEqual(a, c)
        self.assertIn("learning_started", a)
        self.assertRegex(a, r"-> node-\d+ vote_train_set r0 of node-\d+")

    def test_jobs_do_not_change_anything(self):
        one, four = (self.json_of("--seeds", "1..8", "--jobs", j) for j in (1, 4))
        for key in ("seeds", "failed", "nodes", "messages_per_node_round", "bytes_per_node_round", "virtual_s"):
            self.assertEqual(one[key], four[key], key)

    def test_failure__named_and_replayed(self):
        path = self.file("network: {nodes: 4, topology: full}\nexperiment: {rounds: 3}\nsimulation: {limit_s: 1, fit_ms: [5000, 5000]}\n")
        done = simulate(path, "--seeds", "3..4", "--nodes", 5, "--json")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(json.loads(done.stdout)["failed"], [3, 4])
        m = re.search(r"FAILED seed=3 commit=(\S+): deadline: .*\n +replay: p2pfl (simulate .*)\n", done.stderr)
        self.assertIsNotNone(m, done.stderr)
        again = subprocess.run([BIN, *m[2].split()], capture_output=True, text=True, timeout=60)
        self.assertEqual(again.returncode, 1)
        self.assertRegex(again.stdout, r"\d\.\d{6}  node-\d +FAILED deadline: has not ended: round 0, \w+, waits for")
        self.assertIn("FAILED seed=3", again.stderr)

    def test_golden_traces(self):
        """What happens in the main scenarios, event by event. Who changes the protocol looks at the difference and, if it is meant, runs
        this test with P2PFL_UPDATE_GOLDEN=1."""
        for name in ("quiet", "partition", "crash-and-return"):
            scenario = ROOT / "examples" / "simulations" / f"{name}.yaml"
            golden = ROOT / "tests" / "fixtures" / "sim" / f"{name}.trace"
            if name == "quiet":
                scenario = self.file("network: {nodes: 4, topology: line}\nexperiment: {rounds: 2, trainset_size: 2, seed: 1}\n")
            got = self.ok(scenario, "--events", "--quiet")
            got = "".join(line + "\n" for line in got.splitlines() if "  " in line[:14])  # without the closing line
            if os.environ.get("P2PFL_UPDATE_GOLDEN"):
                golden.parent.mkdir(exist_ok=True)
                golden.write_text(got)
            with self.subTest(name):
                want = golden.read_text()
                diff = [f"line {i}: {b!r}, before: {a!r}" for i, (a, b) in enumerate(zip(want.splitlines(), got.splitlines()), 1) if a != b]
                self.assertEqual(diff[:3], [], "the trace has changed: look whether that is meant")
                self.assertEqual(got, want)

    def test_real_run_and_simulated_run__same_model(self):
        path = self.file(DUMMY)
        simulated = self.json_of(path)
        run = subprocess.run([BIN, "run", str(path), "--out", str(self.dir / "run"), "--json"], capture_output=True, text=True, timeout=180)
        self.assertEqual(run.returncode, 0, run.stderr)
        real = json.loads(run.stdout)
        self.assertEqual({n["model_sha256"] for n in real["nodes"]}, {simulated["model_sha256"]})

    def test_example_scenarios(self):
        for path in sorted((ROOT / "examples" / "simulations").glob("*.yaml")):
            if path.stem in ("mixed-faults", "mnist"):
                continue  # tested with its seeds; needs the data set
            nodes = ["--nodes", "20"] if path.stem == "thousand-nodes" else []
            with self.subTest(path.name):
                self.assertEqual(self.json_of(path, *nodes)["failed"], [])

    def test_evidence_reaches_everybody(self):
        """Who contradicts itself towards some is out everywhere, at the seed of the file and at others."""
        for seed in ("1", "2", "3"):
            got = self.ok(ROOT / "examples" / "simulations" / "two-faced.yaml", "--events", "--quiet", "--seed", seed)
            for liar in (3, 7):
                out = re.findall(rf"(node-\d+) +excluded r\d+ node-{liar}: it signed two different", got)
                self.assertEqual(sorted(out), sorted(f"node-{i}" for i in range(1, 13) if i != liar))
            self.assertIn("as told by", got)
            self.assertNotIn("proves nothing", got)

    def test_the_built_in_scenario_is_the_example(self):
        example = ROOT / "examples" / "simulations" / "mixed-faults.yaml"
        a, b = self.json_of("--seeds", "1..3"), self.json_of(example, "--seeds", "1..3")
        for key in ("nodes", "messages_per_node_round", "virtual_s"):
            self.assertEqual(a[key], b[key])

    def test_wrong_files_and_options__refused_with_line_or_name(self):
        head = "network: {nodes: 4, topology: full}\nexperiment: {rounds: 2}\nsimulation:\n"
        for text, want in [
            ("  nods: [3, 4]\n", r"x\.yaml:4: .*nods"),
            ("  mix: sometimes\n", r"x\.yaml:4: .*none or default"),
            ("  network: {loss: 2}\n", r"x\.yaml:4: .*loss"),
            ("  network: {latency_ms: [5, 1]}\n", r"x\.yaml:4: .*latency_ms.*least"),
            ("  topologies: [hexagon]\n", r"x\.yaml:4: .*star, full"),
            ("  faults: [{kind: earthquake, node: 1}]\n", r"x\.yaml:4: .*kind"),
            ("  faults: [{kind: crash}]\n", r"x\.yaml:4: .*whom"),
            ("  faults: [{kind: crash, node: node-0}]\n", r"x\.yaml:4: .*node-1"),
            ("  faults: [{kind: partition, node: 1}]\n", r"x\.yaml:4: .*side"),
            ("  faults: [{kind: byzantine, node: 1}]\n", r"x\.yaml:4: .*lie"),
            ("  faults: [{kind: crash, node: 9}]\n", r"node 9"),
            ("  faults: [{kind: pause, node: 1, at_s: 1}]\n", r"until_s"),
            ("  faults: [{kind: pause, node: 1, at_s: 3, until_s: 2}]\n", r"before it begins"),
        ]:
            with self.subTest(text):
                done = simulate(self.file(head + text))
                self.assertEqual(done.returncode, 1, done.stdout)
                self.assertRegex(done.stderr, want)
        for args in (["--seeds", "9..2"], ["--seeds", "x"], ["--nodes", "1"], ["--seeds", "1..3", "--trace"], ["a.yaml", "b.yaml"], ["--nope"]):
            self.assertEqual(simulate(*args).returncode, 2, args)
        self.assertEqual(simulate(self.dir / "none.yaml").returncode, 1)
        self.assertIn("--seeds A..B", self.ok("--help"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
