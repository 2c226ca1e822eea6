# SPDX-License-Identifier: Apache-2.0
# timeout: 600
"""Real processes that are slow, asleep, late or cut off, and disks that are slow, full or read-only."""
import os
import re
import subprocess
import sys
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from fault_kit import FaultTest, wait_until  # noqa: E402
from node_kit import BUILD  # noqa: E402


def lost(c, name, address):
    return [e for e in c.events(name) if e["event"] in ("neighbour_lost", "known_lost") and e["address"] == address]


class Slow(FaultTest):
    def test_frozen_for_longer_than_the_timeout(self):
        c = self.cluster(4)
        c.start()
        c.linked()
        c.learn(40)
        c.wait_round("node1", 2)
        c.freeze("node3")
        why = wait_until("node1 lets node3 go", lambda: lost(c, "node1", c.addresses["node3"]), 60)
        self.assertIn("no sign of life", why[0]["reason"])
        c.wait_round("node1", max(e["round"] for e in c.events("node1", "round_finished")) + 2)
        c.thaw("node3")
        self.assert_ended_alike(c, rounds=40)
        self.end(c)

    def test_a_slow_learner_is_no_dead_node(self):
        c = self.cluster(4, delays={"node2": 5000})  # twice the heartbeat's timeout
        c.start()
        c.linked()
        c.learn(2)
        says = rf"round 0, training: waiting for node2 at {c.addresses['node2']} \(fit, last sign of life \d+\.\d s ago\) until \d\d:\d\d:\d\d\n"
        wait_until("node1 says that it waits for node2", lambda: re.search(says, c["node1"].do("status")), 60)
        self.assert_ended_alike(c, rounds=2)
        for name in ("node1", "node3", "node4"):
            self.assertEqual(lost(c, name, c.addresses["node2"]), [])
            self.assertEqual(c.events(name, "excluded"), [])
        self.end(c)

    def with_a_slow_disk(self, name):
        slow = ["/usr/bin/env", f"LD_PRELOAD={BUILD}/slow_disk.so", "P2PFL_TEST_FSYNC_MS=900",
                f"ASAN_OPTIONS={os.environ.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0"]
        return self.cluster(3, launch=lambda which: slow if which == name else ())

    def test_a_slow_disk_is_no_dead_node(self):
        c = self.with_a_slow_disk("node2")
        c.start()
        c.linked()
        c.learn(3)
        self.assert_ended_alike(c, rounds=3)
        for name in ("node1", "node3"):
            self.assertEqual(lost(c, name, c.addresses["node2"]), [])
            self.assertEqual(c.events(name, "excluded"), [])
        self.assertGreater(c["node2"].status()["durability"]["write_ms"], 900, "the disk was not slow: this test shows nothing")
        self.end(c)

    def test_killed_while_the_end_waits_for_an_older_write(self):
        """It has ended the experiment and not said so: the state that says so replaces one that waits behind a write of the training."""
        c = self.with_a_slow_disk("node2")
        c.start()
        c.linked()
        c.learn(1)

        def ended():
            s = c["node2"].status()
            return not s["learning"] and s["rounds_done"] == 1

        wait_until("node2 has ended", ended, 60)
        c.kill("node2")
        if c.events("node2", "learning_finished"):
            self.skipTest("its disk was faster than this test: it had said so already")
        c.launch = lambda name: ()
        c.start("node2")
        self.assert_ended_alike(c, rounds=1)
        self.assertEqual([e["round"] for e in c.events("node2", "resumed")], [0])
        self.end(c)

    def test_a_fifth_node_joins_in_round_2(self):
        c = self.cluster(5, delay=250)
        first = c.names[:4]
        c.start(*first)
        c.linked(first)
        c.learn(12, trainset=5)
        c.wait_round("node1", 1)
        c.start("node5")
        self.assert_ended_alike(c, rounds=12)
        joined = c.events("node5", "joined")
        self.assertTrue(joined and joined[0]["round"] >= 2, joined)
        sets = [e["members"] for e in c.events("node1", "train_set")]
        self.assertIn(c.addresses["node5"], sets[-1], "it trains with the others in the end")
        self.assertNotIn(c.addresses["node5"], sets[0])
        self.end(c)


class Disks(FaultTest):
    def mount(self, folder, options):
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True)
        if done.returncode != 0:
            self.skipTest(f"no file system can be mounted here: {done.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", str(folder)])

    def remount(self, folder, options):
        subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)

    def break_disk(self, folder, fault):
        if fault == "full":
            with open(folder / "filler", "wb", buffering=0) as f:
                try:
                    while f.write(bytes(4096)):
                        pass
                except OSError:
                    pass
        else:
            self.remount(folder, "ro")

    def mend_disk(self, folder, fault):
        if fault == "full":
            (folder / "filler").unlink()
        else:
            self.remount(folder, "rw")

    def test_full_and_read_only(self):
        for fault, says in (("full", "No space left"), ("read-only", "Read-only file system")):
            with self.subTest(fault=fault):
                c = self.cluster(3, values=20000)  # a model of 80 kB
                models = c.dir / "node2" / "state" / "models"
                self.mount(models, "size=1m")
                c.start()
                c.linked()
                c.learn(30)
                c.wait_round("node2", 1)
                self.break_disk(models, fault)
                why = c["node2"].wait_event("durability_lost")["reason"]
                self.assertIn(says, why)
                self.assertIn(str(models), why)
                self.assertEqual(c["node2"].status()["durability"]["state"], "lost")
                self.assertIn("NOT ON DISK", c["node2"].do("status"))
                at = max(e["round"] for e in c.events("node2", "round_finished"))
                c.wait_round("node2", at + 2)  # it goes on
                self.mend_disk(models, fault)
                c["node2"].wait_event("durability_regained")
                self.assertEqual(c["node2"].status()["durability"]["state"], "on")
                c.kill("node2")
                c.start("node2")
                self.assertGreater(c["node2"].wait_event("resumed")["round"], at)
                self.assert_ended_alike(c, rounds=30)
                self.end(c)


class Cut(FaultTest):
    """node4 lives in a network namespace of its own; the cable to it can be pulled out."""

    def ip(self, *argv, check=True):
        return subprocess.run(["ip", *argv], capture_output=True, text=True, check=check)

    def setUp(self):
        tag = f"{os.getpid() % 100000}"
        self.here, self.there = f"pfl-a{tag}", f"pfl-b{tag}"
        try:
            done = self.ip("netns", "add", self.here, check=False)
        except FileNotFoundError:
            self.skipTest("there is no ip command (Debian package iproute2)")
        if done.returncode != 0:
            self.skipTest(f"no network namespace can be made here: {done.stderr.strip()}")
        self.addCleanup(self.ip, "netns", "del", self.here, check=False)
        self.ip("netns", "add", self.there)
        self.addCleanup(self.ip, "netns", "del", self.there, check=False)
        self.ip("-n", self.here, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", self.there)
        for ns, address in ((self.here, "10.77.0.1/24"), (self.there, "10.77.0.2/24")):
            self.ip("-n", ns, "address", "add", address, "dev", "cable")
            self.ip("-n", ns, "link", "set", "cable", "up")
            self.ip("-n", ns, "link", "set", "lo", "up")

    def cable(self, state):
        self.ip("-n", self.here, "link", "set", "cable", state)

    def start(self):
        c = self.cluster(4, hosts=["10.77.0.1"] * 3 + ["10.77.0.2"], delay=150,
                         launch=lambda name: ["ip", "netns", "exec", self.there if name == "node4" else self.here])
        c.start()
        c.linked()
        return c

    def test_for_less_than_the_timeout(self):
        c = self.start()
        c.learn(15)
        c.wait_round("node1", 2)
        self.cable("down")
        time.sleep(1.0)  # how long the cut is: what is tested
        self.cable("up")
        self.assert_ended_alike(c, rounds=15)
        for name in c.names:
            self.assertEqual(c.events(name, "neighbour_lost"), [])
        self.end(c)

    def test_for_longer_than_the_timeout(self):
        c = self.start()
        c.learn(60)
        c.wait_round("node1", 2)
        self.cable("down")
        for name, address in [(n, c.addresses["node4"]) for n in c.names[:3]] + [("node4", c.addresses["node1"])]:
            wait_until(f"{name} lets {address} go", lambda: lost(c, name, address), 60)
        c.wait_round("node1", max(e["round"] for e in c.events("node1", "round_finished")) + 2)
        self.cable("up")
        wait_until("node4 is back", lambda: c["node1"].peer(c["node4"]), 90)
        self.assert_ended_alike(c, rounds=60)
        self.end(c)


if __name__ == "__main__":
    unittest.main()
