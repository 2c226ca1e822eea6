# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""Experiments with the memory protocol, P2PFL's own two experiment files among them, on small data sets made here."""
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import node_kit  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
BIN = os.environ.get("P2PFL_BIN") or str(ROOT / "build" / "dev" / "p2pfl")
CONFIGS = ROOT / "tests" / "fixtures" / "config"

SMALL = """\
network: {{nodes: 4, topology: ring, protocol: memory}}
experiment:
  name: small
  rounds: {rounds}
  epochs: 1
  trainset_size: 3
  seed: {seed}
  dataset: {{name: mnist, batch_size: 16, partitioning: {{strategy: dirichlet}}}}
  model: {{package: {model}, params: {{optimizer: sgd, lr_rate: 0.05, momentum: 0.9}}}}
"""


def mnist(folder, n_train, n_test, seed=1):
    """Images whose class shows as a bright block among noise, in MNIST's files."""
    rng = random.Random(seed)
    folder.mkdir()
    for prefix, n in (("train", n_train), ("t10k", n_test)):
        labels = bytes(i % 10 for i in range(n))
        images = bytearray()
        for label in labels:
            rows = bytearray(rng.randbytes(784))
            for k in range(784):
                rows[k] //= 3
            y, x = 4 + 10 * (label // 5), 2 + 5 * (label % 5)
            for k in range(36):
                rows[(y + k // 6) * 28 + x + k % 6] = 255
            images += rows
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, n, 28, 28) + bytes(images))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, n) + labels)


def cifar(folder, n):
    rng = random.Random(2)
    folder.mkdir()
    for name in ("data_batch_1", "data_batch_2", "test_batch"):
        records = b"".join(bytes([i % 10]) + bytes([25 * (i % 10)]) * 1024 + rng.randbytes(2048) for i in range(n))
        (folder / f"{name}.bin").write_bytes(records)


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Memory(unittest.TestCase):
    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="pfl-memory-"))
        self.addCleanup(shutil.rmtree, self.dir)
        self.n = 0

    def file(self, text):
        path = self.dir / "experiment.yaml"
        path.write_text(text)
        return path

    def run_it(self, *args, code=0):
        self.n += 1
        self.out = self.dir / f"out-{self.n}"
        done = subprocess.run([BIN, "run", *map(str, args), "--out", str(self.out), "--json"], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=250, cwd=self.dir)
        self.assertEqual(done.returncode, code, f"{args}\n{done.stdout}\n{done.stderr}")
        return done

    def test_p2pfl_s_mnist_yaml_runs_as_it_stands(self):
        mnist(self.dir / "mnist", 1600, 200)
        text = (CONFIGS / "p2pfl_mnist.yaml").read_text()
        done = self.run_it(CONFIGS / "p2pfl_mnist.yaml", "--data", self.dir / "mnist")
        s = json.loads(done.stdout)
        self.assertEqual([n["rounds"] for n in s["nodes"]], [10] * 8)
        self.assertEqual(len({n["model_sha256"] for n in s["nodes"]}), 1)
        self.assertGreater(s["nodes"][0]["accuracy"], 0.9)
        self.assertIn("8 nodes in one process (memory protocol), ring topology, 10 rounds", done.stderr)
        self.assertEqual((self.out / "experiment.yaml").read_text().split("# run with")[0], text)
        for name in ("metrics.jsonl", "summary.json", "report.html", "run.log", "model.safetensors"):
            self.assertTrue((self.out / name).stat().st_size, name)
        head = (self.out / "model.safetensors").read_bytes()
        names = json.loads(head[8:8 + int.from_bytes(head[:8], "little")])
        self.assertEqual(names["layers.0.weight"]["shape"], [256, 784])
        self.assertIn("one process", (self.out / "report.html").read_text())
        self.assertFalse((self.out / "nodes").exists())

    def test_the_same_seed_gives_the_same_bytes(self):
        mnist(self.dir / "mnist", 800, 100)
        shas = []
        for seed in (1, 1, 2):
            s = json.loads(self.run_it(self.file(SMALL.format(rounds=2, seed=seed, model="lenet5")), "--data", self.dir / "mnist").stdout)
            shas.append({n["model_sha256"] for n in s["nodes"]})
            self.assertEqual(len(shas[-1]), 1)
        self.assertEqual(shas[0], shas[1])
        self.assertNotEqual(shas[0], shas[2])

    def test_every_model_trains(self):
        mnist(self.dir / "mnist", 800, 100)
        for model in ("mlp", "logistic", "lenet5"):
            with self.subTest(model):
                s = json.loads(self.run_it(self.file(SMALL.format(rounds=4, seed=3, model=model)), "--data", self.dir / "mnist").stdout)
                self.assertGreater(s["nodes"][0]["accuracy"], 0.6)

    def test_p2pfl_s_cifar10_yaml_says_what_is_missing_and_runs_on_a_folder(self):
        done = self.run_it(CONFIGS / "p2pfl_cifar10.yaml", code=1)
        self.assertRegex(done.stderr, r"data set 'cifar10': .*data/cifar10/data_batch_1.bin: not there.*cifar-10-binary.tar.gz.*--data DIR")
        cifar(self.dir / "cifar", 100)
        done = self.run_it(CONFIGS / "p2pfl_cifar10.yaml", "--data", self.dir / "cifar", "--rounds", 2)
        self.assertIn("in place of P2PFL's ResNet-18 trains resnet8", done.stderr)
        s = json.loads(done.stdout)
        self.assertEqual(len({n["model_sha256"] for n in s["nodes"]}), 1)
        (self.dir / "cifar" / "data_batch_2.bin").write_bytes(b"\x01" * 5000)
        done = self.run_it(CONFIGS / "p2pfl_cifar10.yaml", "--data", self.dir / "cifar", code=1)
        self.assertIn("a whole number of records of 3073 bytes", done.stderr)

    def test_a_warm_start_goes_on_where_the_file_ends(self):
        mnist(self.dir / "mnist", 800, 100)
        small = SMALL.format(rounds=2, seed=1, model="mlp")
        first = json.loads(self.run_it(self.file(small), "--data", self.dir / "mnist").stdout)
        (self.out / "model.safetensors").rename(self.dir / "start.safetensors")
        warm = small.replace("model: {", "model: {warm_start: start.safetensors, ")
        untrained = json.loads(self.run_it(self.file(warm.replace("epochs: 1", "epochs: 0")), "--data", self.dir / "mnist").stdout)
        self.assertEqual({n["model_sha256"] for n in untrained["nodes"]}, {n["model_sha256"] for n in first["nodes"]})
        other = self.run_it(self.file(warm.replace("params: {", "params: {hidden_sizes: [20], ")), "--data", self.dir / "mnist", code=1)
        self.assertRegex(other.stderr, r"warm_start: .*start.safetensors: .*6 tensors, 4 are expected")
        missing = self.run_it(self.file(warm.replace("start.safe", "stop.safe")), "--data", self.dir / "mnist", code=1)
        self.assertIn("experiment.model.warm_start: stop.safetensors", missing.stderr)

    def test_an_interrupt_ends_the_fit_that_is_under_way(self):
        mnist(self.dir / "mnist", 4000, 100)
        out = self.dir / "out"
        text = SMALL.format(rounds=1, seed=1, model="mlp").replace("epochs: 1", "epochs: 10000")  # some hours
        p = subprocess.Popen([BIN, "run", str(self.file(text)), "--data", str(self.dir / "mnist"), "--out", str(out)], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(p.stdout.close)
        node_kit.wait_until("training", lambda: cpu_seconds(p.pid) > 3, 120)
        p.send_signal(signal.SIGINT)
        said = p.stdout.read()
        self.assertEqual(p.wait(60), 130, said)
        done = json.loads((out / "summary.json").read_text())
        self.assertTrue(done["interrupted"])
        self.assertGreater(done["learning_s"], 0)
        self.assertNotIn("learning 0.0 s", said)
        self.assertNotIn("warning", said)

    def test_interrupted_it_leaves_a_report(self):
        mnist(self.dir / "mnist", 4000, 100)
        out = self.dir / "out"
        p = subprocess.Popen([BIN, "run", str(self.file(SMALL.format(rounds=100000, seed=1, model="mlp"))), "--data", str(self.dir / "mnist"),
                              "--out", str(out)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(p.stdout.close)
        for line in p.stdout:
            if line.startswith("round 2 "):
                break
        p.send_signal(signal.SIGINT)
        p.stdout.read()
        self.assertEqual(p.wait(60), 130)
        self.assertTrue((out / "report.html").stat().st_size)
        self.assertFalse(json.loads((out / "summary.json").read_text())["finished"])

    def test_what_needs_processes_is_refused(self):
        for flag in (["--impostor"], ["--certs", "/tmp"], ["--keep-going"]):
            done = self.run_it(self.file(SMALL.format(rounds=1, seed=1, model="mlp")), *flag, code=1)
            self.assertIn(f"{flag[0]} is for nodes that are processes", done.stderr)


if __name__ == "__main__":
    unittest.main()
