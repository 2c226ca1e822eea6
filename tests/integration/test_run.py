# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""p2pfl run with real node processes: a whole run, an impostor, Ctrl-C, a node and a runner killed, and OpenSSL's certificates."""
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from html.parser import HTMLParser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import pki_kit  # noqa: E402

BIN = os.environ.get("P2PFL_BIN") or str(Path(__file__).resolve().parents[2] / "build" / "dev" / "p2pfl")

DUMMY = """\
network:
  nodes: {nodes}
  topology: {topology}
experiment:
  name: short
  rounds: {rounds}
  epochs: 1
  trainset_size: {trainset}
  seed: {seed}
  wait_timeout: 2
  dataset:
    name: dummy
  model:
    package: dummy
    params:
      values: 20000
      delay_ms: {delay}
settings:
  heartbeat:
    period: 0.5
    timeout: 2
"""


def dummy(nodes=4, topology="star", rounds=3, trainset=4, seed=1, delay=50):
    return DUMMY.format(**locals())


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rsplit(")", 1)[1].split()[0] != "Z"


def wait_until(what, done, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = done()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {seconds} s")


class Run(unittest.TestCase):
    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="pfl-run-"))
        self.addCleanup(shutil.rmtree, self.dir)
        self.out = self.dir / "out"

    def file(self, text, name="experiment.yaml"):
        path = self.dir / name
        path.write_text(text)
        return path

    def run_it(self, *args, code=0, timeout=150):
        done = subprocess.run([BIN, "run", *map(str, args)], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout,
                              cwd=self.dir)
        self.assertEqual(done.returncode, code, f"{args}\n{done.stdout}\n{done.stderr}\n{self.logs()}")
        self.assertNotRegex(done.stdout + done.stderr, "ended badly|does not end", self.logs())
        return done

    def start(self, *args):
        log = open(self.dir / "output.txt", "w")
        self.addCleanup(log.close)
        p = subprocess.Popen([BIN, "run", *map(str, args)], stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.dir)
        self.addCleanup(p.wait)
        self.addCleanup(p.kill)  # cleanups run last first; its nodes go with it
        return p

    def output(self):
        return (self.dir / "output.txt").read_text()

    def logs(self):
        return "\n".join(f"--- {p}\n{p.read_text()[-3000:]}" for p in sorted(self.out.glob("*/*/log.txt")))

    def events(self, node, kind=None):
        path = self.out / "nodes" / node / "events.jsonl"
        if not path.exists():
            return []
        rows = [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [r for r in rows if kind is None or r["event"] == kind]

    def pids(self):
        return [e["pid"] for d in (self.out / "nodes").iterdir() for e in self.events(d.name, "started")]

    def summary(self):
        return json.loads((self.out / "summary.json").read_text())


class Balanced(HTMLParser):
    """Every element of the report is closed, and nothing in it points outside."""
    VOID = {"meta", "br", "path", "rect", "circle"}

    def __init__(self):
        super().__init__()
        self.open, self.outside, self.texts = [], [], []

    def handle_starttag(self, tag, attrs):
        self.outside += [v for k, v in attrs if k in ("src", "href", "action") or "://" in (v or "") and k != "aria-label"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
            self.open.pop()

    def handle_data(self, data):
        self.texts.append(data)


class WrongUse(Run):
    def test_command_lines_that_mean_nothing(self):
        for args, code, want in (((), 2, "is needed"), (("a", "b"), 2, "unexpected"), (("x", "--rounds", "0"), 2, "--rounds"),
                                 (("x", "--epochs", "-1"), 2, "--epochs: '-1' is not a whole number from 0 to 10000"),
                                 (("x", "--seed", "-1"), 2, "--seed"), (("fashion-mnis",), 1, "did you mean 'fashion-mnist'"),
                                 (("x", "--nonsense"), 2, "nonsense")):
            self.assertRegex(self.run_it(*args, code=code).stderr, want)

    def test_a_used_folder_is_left_alone(self):
        self.out.mkdir()
        (self.out / "precious").write_text("x")
        self.assertIn("not empty", self.run_it(self.file(dummy()), "--out", self.out, code=1).stderr)
        self.assertEqual(os.listdir(self.out), ["precious"])

    def test_files_that_the_experiment_names_but_that_are_not_there(self):
        text = dummy() + "  ssl:\n" + "".join(f"    {k}: certs/{k}.pem\n" for k in
                                               ("ca_crt", "server_crt", "server_key", "client_crt", "client_key"))
        self.assertRegex(self.run_it(self.file(text), "--out", self.out, code=1).stderr, r"ssl\.ca_crt: certs/ca_crt\.pem: No such file")

    def test_a_key_that_others_can_read_stops_the_run_with_its_name(self):
        certs = pki_kit.p2pfl_procedure(self.dir / "pki", nodes=("node-1", "node-2"))
        os.chmod(certs / "node-2" / "server.key", 0o644)
        done = self.run_it(self.file(dummy(nodes=2, trainset=2)), "--out", self.out, "--certs", certs, code=1)
        self.assertRegex(done.stdout, r"node-2 did not start: .*server\.key")
        for pid in self.pids():
            self.assertFalse(alive(pid))


class WholeRun(Run):
    def test_run_with_an_impostor_and_json(self):
        done = self.run_it(self.file(dummy(rounds=4, delay=300)), "--out", self.out, "--json", "--impostor")
        self.assertEqual(done.stdout.count("\n"), 1)
        s = json.loads(done.stdout)
        self.assertTrue(s["finished"] and s["identical"])
        self.assertEqual(s["rounds"], 4)
        self.assertEqual([n["name"] for n in s["nodes"]], ["node-1", "node-2", "node-3", "node-4"])
        self.assertEqual(len({n["model_sha256"] for n in s["nodes"]}), 1)
        self.assertTrue(all(n["rounds"] == 4 and n["bytes_sent"] > 0 for n in s["nodes"]))
        self.assertEqual(s["bytes_sent"], sum(n["bytes_sent"] for n in s["nodes"]))
        self.check_refusal(s, done.stderr)
        self.check_folder(s)
        self.check_report(s)

    def check_refusal(self, s, text):
        self.assertEqual({(r["by"], r["peer"]) for r in s["refused"]}, {("node-1", "spiffe://p2pfl/node/mallory")})
        self.assertRegex(text, r"refused: node-1 turned away 'spiffe://p2pfl/node/mallory' \(127\.0\.0\.1:\d+\): .*(signed|issue|root|chain)")
        refused, rounds = self.events("node-1", "refused")[0], self.events("node-1", "round_finished")
        self.assertLess(refused["t"], rounds[-1]["t"], "the attack was to fall into the learning")
        for node in ("node-1", "node-2", "node-3", "node-4"):
            self.assertFalse([e for e in self.events(node) if e["event"] in ("neighbour", "known") and e["address"] == self.mallory()])

    def mallory(self):
        return re.search(r'address: "?([0-9.:]+)', (self.out / "impostor/mallory/node.yaml").read_text()).group(1)

    def check_folder(self, s):
        digest = s["nodes"][0]["model_sha256"]
        for path in ["model.safetensors"] + [f"nodes/node-{i}/models/final.safetensors" for i in range(1, 5)]:
            self.assertEqual(subprocess.run(["sha256sum", self.out / path], capture_output=True, text=True).stdout.split()[0], digest)
        for i in range(1, 5):
            self.assertEqual((self.out / f"nodes/node-{i}/certs/server.key").stat().st_mode & 0o777, 0o600)
        self.assertFalse((self.out / "ca/ca.key").exists())
        self.assertFalse(list(self.out.rglob("ca.key")))
        rows = [json.loads(line) for line in (self.out / "metrics.jsonl").read_text().splitlines()]
        self.assertEqual({(r["node"], r["round"]) for r in rows if "test_loss" in r and r["round"] in (0, 4)},
                         {(f"node-{i}", r) for i in range(1, 5) for r in (0, 4)})
        self.assertEqual({k: v for k, v in self.summary().items() if k != "folder"}, {k: v for k, v in s.items() if k != "folder"})
        self.assertIn("every node knows every other", (self.out / "run.log").read_text())
        for pid in self.pids():
            self.assertFalse(alive(pid))

    def check_report(self, s):
        page = (self.out / "report.html").read_text()
        parser = Balanced()
        parser.feed(page)
        self.assertEqual(parser.open, [])
        self.assertEqual(parser.outside, [])
        text = " ".join(parser.texts)
        for want in (s["nodes"][0]["model_sha256"], "spiffe://p2pfl/node/node-3", "spiffe://p2pfl/node/mallory", "TLSv1.3", "TLS_AES", "star topology"):
            self.assertIn(want, text)
        self.assertEqual(page.count("<figure"), 6)

    def test_every_topology_ends_with_one_model(self):
        for i, topology in enumerate(("full", "line", "ring", "random_2")):
            with self.subTest(topology):
                done = self.run_it(self.file(dummy(nodes=5, topology=topology, trainset=3, rounds=2, delay=5)), "--out", self.dir / f"t{i}", "--json")
                s = json.loads(done.stdout)
                self.assertEqual(len({n["model_sha256"] for n in s["nodes"]}), 1)

    def test_a_table_on_a_terminal(self):
        primary, secondary = pty.openpty()
        p = subprocess.Popen([BIN, "run", str(self.file(dummy(delay=300))), "--out", str(self.out)], stdout=secondary, stderr=secondary,
                             stdin=subprocess.DEVNULL, env={**os.environ, "TERM": "xterm"})
        os.close(secondary)
        seen = b""
        while True:
            if not select.select([primary], [], [], 60)[0]:
                break
            try:
                chunk = os.read(primary, 65536)
            except OSError:
                break
            if not chunk:
                break
            seen += chunk
        os.close(primary)
        self.assertEqual(p.wait(60), 0, seen.decode(errors="replace"))
        self.assertRegex(seen, rb"node +address +stage +round +accuracy +loss +sent")
        self.assertRegex(seen, rb"\x1b\[\d+A")  # it drew over itself
        self.assertRegex(seen, rb"all 4 models are identical")


class Endings(Run):
    def in_round(self, node, n):
        return wait_until(f"round {n} of {node}", lambda: [e for e in self.events(node, "round_started") if e["round"] == n])

    def test_ctrl_c_ends_all_and_leaves_a_report(self):
        p = self.start(self.file(dummy(rounds=1000, delay=100)), "--out", self.out)
        self.in_round("node-2", 1)
        pids = self.pids()
        self.assertEqual(len(pids), 4)
        p.send_signal(signal.SIGINT)
        self.assertEqual(p.wait(60), 130, self.output())
        for pid in pids:
            self.assertFalse(alive(pid))
        s = self.summary()
        self.assertTrue(s["interrupted"])
        self.assertFalse(s["finished"])
        self.assertTrue((self.out / "report.html").exists())
        self.assertNotRegex(self.output(), "ended badly|does not end")

    def test_a_killed_runner_takes_its_nodes_along(self):
        p = self.start(self.file(dummy(rounds=1000, delay=100)), "--out", self.out)
        self.in_round("node-3", 0)
        pids = self.pids()
        p.kill()
        p.wait()
        wait_until("the nodes' end", lambda: not any(alive(pid) for pid in pids), 10)

    def test_kill_9_of_a_node_in_a_round(self):
        # A ring, so that the others still see each other; half a second of training to be killed in.
        p = self.start(self.file(dummy(nodes=4, topology="ring", rounds=4, delay=700)), "--out", self.out)
        self.in_round("node-3", 1)
        os.kill(self.events("node-3", "started")[0]["pid"], signal.SIGKILL)
        self.assertEqual(p.wait(120), 0, self.output() + self.logs())
        s = self.summary()
        self.assertTrue(s["finished"] and s["identical"])
        self.assertEqual([n["finished"] for n in s["nodes"]], [True, True, False, True])
        self.assertIn("signal 9", s["nodes"][2]["lost"])
        self.assertEqual([n["rounds"] for n in s["nodes"] if n["finished"]], [4, 4, 4])
        self.assertRegex(self.output(), r"node-3 is gone: killed by signal 9")
        self.assertRegex(self.output(), r"node-\d goes on without node-3 in round 2")

    def test_kill_9_of_the_node_that_started_learning(self):
        p = self.start(self.file(dummy(nodes=4, topology="full", rounds=3, delay=700)), "--out", self.out)
        self.in_round("node-1", 1)
        os.kill(self.events("node-1", "started")[0]["pid"], signal.SIGKILL)
        self.assertEqual(p.wait(120), 0, self.output() + self.logs())
        self.assertEqual([n["finished"] for n in self.summary()["nodes"]], [False, True, True, True])


class RealLearning(Run):
    """A tenth of Fashion-MNIST: what comes out hangs on the data and the seed, and on nothing else."""
    def experiment(self):
        return dummy(rounds=2, seed=77).replace(
            "name: dummy", "name: fashion-mnist\n    partitioning:\n      strategy: RandomIIDPartitionStrategy\n"
            "      reduced_dataset: true\n      reduction_factor: 0.1").replace(
            "package: dummy\n    params:\n      values: 20000\n      delay_ms: 50", "package: mlp")

    def digest(self, folder, *args):
        done = self.run_it(self.file(self.experiment()), "--out", self.dir / folder, "--json", *args)
        s = json.loads(done.stdout)
        self.assertTrue(s["finished"] and s["identical"])
        self.assertGreater(min(n["accuracy"] for n in s["nodes"]), 0.5)
        return s["nodes"][0]["model_sha256"]

    def test_same_seed_same_model_other_seed_another(self):
        first = self.digest("first")
        self.assertEqual(self.digest("again"), first)
        self.assertNotEqual(self.digest("other", "--seed", 78), first)

    def test_openssl_certificates_give_the_same_result(self):
        nodes = [f"node-{i}" for i in range(1, 5)]
        generated = self.digest("generated")
        own = pki_kit.p2pfl_procedure(self.dir / "pki", nodes=nodes)  # CA and nodes carry one subject name, as in P2PFL's openssl.cnf
        self.assertEqual(self.digest("each-its-own", "--certs", own), generated)
        self.assertEqual(self.digest("all-the-same", "--certs", own / "node-1"), generated)
        named = self.experiment() + "  SSL:\n" + "".join(f"    {k.upper()}: pki/node-1/{k.replace('_', '.')}\n" for k in
                                                        ("ca_crt", "server_crt", "server_key", "client_crt", "client_key"))
        self.file(named, "named.yaml")
        done = self.run_it(self.dir / "named.yaml", "--out", self.dir / "named", "--json")
        self.assertEqual(json.loads(done.stdout)["nodes"][3]["model_sha256"], generated)


class NoEpochs(Run):
    def test_the_option_and_the_file_both_take_none_and_nothing_is_trained(self):
        text = dummy(nodes=2, topology="full", rounds=2, trainset=2).replace("network:\n", "network:\n  protocol: MemoryCommunicationProtocol\n")
        digests = {}
        for name, epochs, args in (("option", 1, ("--epochs", "0")), ("file", 0, ()), ("trained", 1, ())):
            done = self.run_it(self.file(text.replace("epochs: 1", f"epochs: {epochs}")), "--out", self.dir / name, "--json", *args)
            s = json.loads(done.stdout)
            self.assertTrue(s["finished"] and s["identical"], s)
            digests[name] = s["nodes"][0]["model_sha256"]
        self.assertIn("# run with --epochs 0", (self.dir / "option" / "experiment.yaml").read_text())
        self.assertEqual(digests["option"], digests["file"])
        self.assertNotEqual(digests["option"], digests["trained"])


class Examples(Run):
    def test_list_and_print(self):
        def examples(*args):
            return subprocess.run([BIN, "examples", *args], capture_output=True, text=True, timeout=20)
        self.assertIn("fashion-mnist", examples().stdout)
        self.assertIn("fashion-mnist", [r["name"] for r in json.loads(examples("--json").stdout)])
        self.assertIn("topology:", examples("mnist").stdout)
        self.assertEqual(examples("mnits").returncode, 2)
        self.assertIn("did you mean 'mnist'", examples("mnits").stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
