# SPDX-License-Identifier: Apache-2.0
# timeout: 900
"""Real processes that are killed, frozen and started again at each stage of a round. What must hold however it comes: no hang, one final
model on all that are connected, no round lost that a node said was finished, and reasons where they can be seen."""
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from fault_kit import FaultTest, wait_until  # noqa: E402


class Killed(FaultTest):
    def kill_and_return(self, c, name, stage):
        """Kills a node in that stage and starts it again; waits until it has ended a later round in its new life."""
        at = c.wait_stage(name, stage, 0)[0]["round"]
        c.kill(name)
        n_before = len(c.events(name))
        c.start(name)
        try:
            wait_until(f"{name}, killed while {stage}, is back", lambda: [
                e for e in c.events(name)[n_before:] if e["event"] == "round_finished" and e["round"] >= at or
                e["event"] == "learning_finished"], 90)
        except AssertionError as e:
            self.fail(f"{e}\n{c.report()}")

    def test_each_node_at_each_stage(self):
        stages = ["voting", "evaluating", "training", "aggregating"]
        c = self.cluster(delays={"node2": 150, "node3": 200})
        c.start()
        c.linked()
        rounds = 120
        c.learn(rounds)
        c.wait_round("node1", 0)
        for stage in stages:
            for name in c.names:
                self.kill_and_return(c, name, stage)
        for name in c.names:
            self.assertEqual(c.events(name, "learning_stopped"), [])
            self.assert_no_round_lost(c, name)
        at = max(e["round"] for e in c.events("node1", "round_finished"))
        self.assertLess(at, rounds, "the experiment was too short for what it has to show")
        c["node1"].do("stop")
        for name in c.names:
            wait_until(f"{name} has stopped", lambda: c[name].status()["stage"] == "idle", 30)
        self.end(c)

    def test_idle(self):
        c = self.cluster(3)
        c.start()
        c.linked()
        for name in c.names:
            c.kill(name)
            c.start(name)
        c.linked()
        c.learn(2)
        self.assert_ended_alike(c, rounds=2)
        self.end(c)

    def test_while_all_wait_for_the_last_result(self):
        c = self.cluster(4, delays={"node4": 400})
        c.start()
        c.linked()
        c.learn(3)
        c.wait_round("node2", 2)
        c.kill("node2")
        c.start("node2")
        self.assert_ended_alike(c, rounds=3)
        self.end(c)

    def test_a_node_that_trains_all_alone_is_waited_for_when_it_comes_back_at_once(self):
        c = self.cluster(3, delays={"node3": 2500})
        c.start()
        c.linked()
        c.learn(2)
        c.wait_stage("node3", "training", 1)
        c.kill("node3")
        c.start("node3")
        self.assert_ended_alike(c, rounds=2)
        self.end(c)

    def test_all_nodes_then_all_resumed(self):
        for stage in ("voting", "training", "aggregating"):
            with self.subTest(stage=stage):
                c = self.cluster(4, delay=150)
                c.start()
                c.linked()
                c.learn(6)
                c.wait_stage("node1", stage, 2)
                c.kill(*c.names)
                done = {name: max(e["round"] for e in c.events(name, "round_finished")) for name in c.names}
                c.start()
                for name in c.names:
                    resumed = c[name].wait_event("resumed")
                    self.assertGreaterEqual(resumed["round"], done[name] + 1)
                self.assert_ended_alike(c, rounds=6)
                self.end(c)

    def test_the_same_model_as_without_a_fault(self):
        """What was trained or in training when a node was killed is not lost and not done differently."""
        digests = []
        for kill in (None, "node2"):
            c = self.cluster(2, delay=600)
            c.start()
            c.linked()
            c.learn(3)
            if kill:
                c.wait_stage(kill, "training", 1)
                c.kill(kill)
                c.start(kill)
            self.assert_ended_alike(c, rounds=3)
            digests.append((c["node1"].status()["model_sha256"]))
            self.end(c)
        self.assertEqual(digests[0], digests[1])



if __name__ == "__main__":
    unittest.main()
