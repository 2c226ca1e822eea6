# SPDX-License-Identifier: Apache-2.0
# timeout: 240
"""Real nodes whose contributions are compressed, or made private: everybody ends with the same model, fewer bytes go out, and who has
used up its privacy budget trains no more, also after a restart."""
import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import node_kit  # noqa: E402

BIN = os.environ.get("P2PFL_BIN") or str(Path(__file__).resolve().parents[2] / "build" / "dev" / "p2pfl")

RUN = """
network: {{nodes: 3, topology: {topology}}}
experiment:
  name: compressed
  rounds: {rounds}
  epochs: 1
  trainset_size: {trainset}
  seed: 1
  dataset: {{name: dummy}}
  model: {{package: dummy, params: {{values: 100000}}, compression: {compression}}}
settings: {{heartbeat: {{period: 0.5, timeout: 5}}}}
"""


def run(folder, compression, topology="full", rounds=2, trainset=3):
    (folder / "e.yaml").write_text(RUN.format(**locals()))
    r = subprocess.run([BIN, "run", "--json", "--out", str(folder / "run"), str(folder / "e.yaml")], capture_output=True, text=True, timeout=120,
                       check=False)
    assert r.returncode == 0, r.stdout + r.stderr
    events = {}
    for path in sorted((folder / "run" / "nodes").glob("*/**/events.jsonl")):
        events[path] = [json.loads(line) for line in path.read_text().splitlines()]
    return json.loads(r.stdout.splitlines()[-1]), events


class Compressed(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_one_model_in_fewer_bytes(self):
        plain, _ = run(self.folder, "{}")
        sizes = {}
        for name, compression in (("int8", "{ptq: {dtype: int8}}"), ("all", "{topk: {k: 0.1}, ptq: {dtype: int8}, zstd: {}}")):
            sub = self.folder / name
            sub.mkdir()
            done, _ = run(sub, compression)
            self.assertTrue(done["identical"], done)
            sizes[name] = done["bytes_sent"]
        # 2 rounds, 6 contributions of 400 kB each, and two initial models
        self.assertLess(sizes["int8"], plain["bytes_sent"] * 0.45)
        self.assertLess(sizes["all"], plain["bytes_sent"] * 0.35)

    def test_relayed_over_a_line(self):
        done, _ = run(self.folder, "{low_rank: {}, ptq: {dtype: bfloat16}, lzma: {preset: 1}}", topology="line", trainset=2, rounds=3)
        self.assertTrue(done["identical"], done)

    def test_the_budget_ends_the_training(self):
        # sigma 4: epsilon 1.23 after one contribution, 1.76 after two, 2.18 after three.
        _, events = run(self.folder, "{dp: {clip_norm: 0.5, noise_multiplier: 4, budget: 2}}", rounds=4)
        for lines in events.values():
            spent = [e["epsilon"] for e in lines if e["event"] == "privacy"]
            self.assertEqual(len(spent), 4)
            self.assertAlmostEqual(spent[0], 1.23, delta=0.02)
            self.assertAlmostEqual(spent[1], 1.76, delta=0.02)
            self.assertEqual(spent[1:], [spent[1]] * 3)
            refused = [e for e in lines if e["event"] == "warning" and "the privacy budget is used up" in e["text"]]
            self.assertEqual(len(refused), 2)
            self.assertIn("after 2 contributions, one more makes it", refused[0]["text"])
        ledgers = list((self.folder / "run" / "nodes").glob("*/**/privacy.json"))
        self.assertEqual(len(ledgers), 3)
        for path in ledgers:
            self.assertEqual(path.stat().st_mode & 0o777, 0o600)
            self.assertEqual(json.loads(path.read_text())["releases"], 2)


class Restarted(node_kit.NodeTest):
    def test_a_node_at_its_budget_stays_there_when_it_is_started_again(self):
        """sigma 4 and budget 2: two contributions, as above. The other node has no budget and trains on."""
        def spender(address="127.0.0.1:0"):
            path = node_kit.node_file(self.dir / "node1", address=address, values=1000)
            path.write_text(path.read_text() + "  compression: {dp: {clip_norm: 0.5, noise_multiplier: 4, budget: 2}}\n")
            self.nodes.append(node_kit.Node(self.dir / "node1"))
            return self.nodes[-1]

        def learn(a, b, nth):
            b.do("connect", a.address)
            node_kit.wait_until("linked", lambda: a.peer(b) and b.peer(a))
            b.do("learn", "--rounds", "3", "--trainset-size", "2")
            for n in (a, b):
                n.wait_event("learning_finished", 60, count=nth)

        a, b = spender(), self.start("node2", values=1000)
        learn(a, b, 1)
        for nth, end in ((2, node_kit.Node.stop), (3, node_kit.Node.kill)):  # in order, and at once
            spent = json.loads((a.state / "privacy.json").read_text())
            self.assertEqual(spent["releases"], 2)
            end(a)
            node_kit.wait_until("node2 sees that node1 is gone", lambda: not b.peer(a))
            a = spender(a.address)
            learn(a, b, nth)
            self.assertEqual(json.loads((a.state / "privacy.json").read_text()), spent)
            self.assertEqual([len(n.events("fit")) for n in (a, b)], [2, 3 * nth])
            told = [e["text"] for e in a.events("warning") if "the privacy budget is used up" in e["text"]]
            self.assertEqual(len(told), 3 * nth - 2)
            self.assertIn("after 2 contributions, one more makes it", told[-1])
        self.end(a, b)


class WithoutTheBase(node_kit.NodeTest):
    def setUp(self):
        super().setUp()
        done = node_kit.run("ca", "issue", "node3", "--role", "coordinator", "--ca", self.dir / "ca", "--san", "IP:127.0.0.1", "--out",
                            self.dir / "node3", "--passphrase-file", self.dir / "passphrase")
        self.assertEqual(done.returncode, 0, done.stderr)

    def member(self, name, address="127.0.0.1:0", delay=20):
        """It keeps no journal: started again, it knows nothing of the rounds that were."""
        path = node_kit.node_file(self.dir / name, address=address, timeout=30, values=50000, delay=delay)
        path.write_text(path.read_text() + "  compression: {topk: {k: 0.1}}\njournal: false\n")
        self.nodes.append(node_kit.Node(self.dir / name))
        return self.nodes[-1]

    def test_a_member_that_missed_the_common_model_refuses_a_difference_to_it_and_gets_it_whole(self):
        """node3 is killed while it trains in the second round, and comes back to that round without the model that it began with. node1's
        contribution is ready by then; node2 is frozen, so that the round lasts until node3 was sent it."""
        a, b, c = self.member("node1"), self.member("node2", delay=1500), self.member("node3", delay=1500)
        for one, other in ((b, a), (c, a), (c, b)):
            one.do("connect", other.address)
        for n in (a, b, c):
            node_kit.wait_until("all are linked", lambda n=n: len([p for p in n.status()["peers"] if p["direct"]]) == 2)
        a.do("learn", "--rounds", "2", "--trainset-size", "3")
        for n in (b, c):
            node_kit.wait_until(f"{n.name} trains in the second round", lambda n=n: [
                e for e in n.events("stage") if e["stage"] == "training" and e["round"] == 1])
        b.proc.send_signal(signal.SIGSTOP)
        self.addCleanup(lambda: b.proc.poll() is None and b.proc.send_signal(signal.SIGCONT))
        c.kill()
        base = a.events("round_finished")[0]["digest"]
        c = self.member("node3", address=c.address)
        refused = c.wait_event("refused")
        self.assertEqual((refused["round"], refused["peer"]), (1, a.address))
        self.assertRegex(refused["reason"], r"^partial_model: compressed model: it is a difference to a model that this node does not have \(any "
                         rf"more\), SHA-256 {base[:16]}\.\.\.: it must come whole$")
        whole = node_kit.wait_until("then it comes whole", lambda: [e for e in c.events("contribution") if e["round"] == 1 and e["from"] == a.address])
        self.assertEqual(whole[0]["contributors"], [a.address])
        self.assertEqual(a.events("aggregated")[1:], [])  # the round is still on
        b.proc.send_signal(signal.SIGCONT)
        digests = {n.wait_event("learning_finished", 60)["digest"] for n in (a, b, c)}
        self.assertEqual(len(digests), 1, digests)
        for n in (a, b):
            self.assertEqual(sorted(n.events("aggregated")[1]["contributors"]), sorted((a.address, b.address)))
            self.assertEqual([e["address"] for e in n.events("excluded")], [c.address])
            self.assertEqual(n.events("refused"), [])
        self.end(a, b, c)


class Hostile(unittest.TestCase):
    def test_noise_of_one_in_five_moves_the_mean_and_not_the_median(self):
        loss = {}
        for rule in ("FedAvg", "FedMedian"):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                (folder / "e.yaml").write_text(f"""
network: {{nodes: 5, topology: full}}
experiment:
  name: hostile
  rounds: 2
  epochs: 1
  trainset_size: 5
  seed: 1
  dataset: {{name: fashion-mnist, batch_size: 32, partitioning: {{reduced_dataset: true, reduction_factor: 0.02}}}}
  model: {{package: mlp, params: {{hidden_sizes: [16]}}}}
  aggregator: {{aggregator: {rule}}}
  attack: {{kind: gaussian, sigma: 5, nodes: [2]}}
""")
                r = subprocess.run([BIN, "run", "--json", "--out", str(folder / "run"), str(folder / "e.yaml")], capture_output=True, text=True,
                                   timeout=120, check=False)
                self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
                loss[rule] = json.loads(r.stdout.splitlines()[-1])["nodes"][0]["loss"]
                log = "".join(p.read_text(errors="replace") for p in folder.glob("run/nodes/*/*log*"))
                self.assertIn("this node gives away something else than what it trained (gaussian, 5)", log)
        self.assertLess(loss["FedMedian"], 2.4)
        self.assertGreater(loss["FedAvg"], 3 * loss["FedMedian"])


class Ledger(unittest.TestCase):
    def test_a_damaged_ledger_keeps_the_node_from_starting(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            node_kit.make_certificates(folder, ("node1",))
            path = node_kit.node_file(folder / "node1")
            path.write_text(path.read_text() + "  compression: {dp: {budget: 3}}\n")
            state = folder / "node1" / "state"
            state.mkdir(mode=0o700)
            for text in ("", "{}", '{"version": 1, "releases": -1, "rdp": []}'):
                (state / "privacy.json").write_text(text)
                r = node_kit.run("node", "start", "-c", path)
                self.assertEqual(r.returncode, 1, r.stderr)
                self.assertIn("privacy.json: it is no ledger of privacy", r.stderr)


if __name__ == "__main__":
    unittest.main()
