# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""Data of one's own: NumPy and Python's csv and json write it in every format, and every format gives the same model."""
import csv
import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import numpy as np

BIN = os.environ.get("P2PFL_BIN") or str(Path(__file__).resolve().parents[2] / "build" / "dev" / "p2pfl")

EXPERIMENT = """\
network: {{nodes: {nodes}, topology: full, protocol: {protocol}}}
experiment:
  name: own-data
  rounds: {rounds}
  epochs: 2
  trainset_size: {nodes}
  seed: 4
  dataset: {{{dataset}, batch_size: 16}}
  model: {{package: {model}, params: {{{params}}}}}
  aggregator: {{aggregator: FedAvg}}
"""


def samples(rng, n):
    """Three classes in six columns of very different sizes."""
    y = rng.integers(0, 3, n)
    x = rng.normal(size=(n, 6)) + 2.5 * np.eye(6)[y] - 2.0 * np.eye(6)[y + 3]
    return (x * np.array([1, 100, 0.01, 1, 1000, 1]) + 5).astype(np.float32), y


class Data(unittest.TestCase):
    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="pfl-data-"))
        self.addCleanup(shutil.rmtree, self.dir)
        self.n = 0

    def run_it(self, dataset, code=0, nodes=3, protocol="memory", model="mlp", params="hidden_sizes: [16], lr_rate: 0.02", rounds=2):
        self.n += 1
        self.out = self.dir / f"out-{self.n}"
        (self.dir / "e.yaml").write_text(EXPERIMENT.format(**{k: v for k, v in locals().items() if k != "self"}))
        done = subprocess.run([BIN, "run", str(self.dir / "e.yaml"), "--out", str(self.out), "--json"], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=200, cwd=self.dir)
        self.assertEqual(done.returncode, code, f"{dataset}\n{done.stdout}\n{done.stderr}")
        return json.loads(done.stdout) if code == 0 else done.stderr

    def write_all(self):
        rng = np.random.default_rng(3)
        names = np.array(["ash", "beech", "cedar"])
        for part, n in (("train", 600), ("test", 150)):
            x, y = samples(rng, n)
            np.savez(self.dir / f"{part}.npz", x=x, y=y)
            np.savez_compressed(self.dir / f"{part}-packed.npz", features=x.astype(">f8"), target=y.astype(np.uint8))
            np.save(self.dir / f"x_{part}.npy", x)
            np.save(self.dir / f"y_{part}.npy", y)
            with open(self.dir / f"{part}.csv", "w", newline="") as f:
                w = csv.writer(f)
                w.writerow(["kind"] + [f"c{i}" for i in range(6)])
                w.writerows([names[k], *[repr(float(v)) for v in row]] for row, k in zip(x, y))
            with open(self.dir / f"{part}.jsonl", "w") as f:
                f.writelines(json.dumps({"features": [float(v) for v in row], "kind": str(names[k])}) + "\n" for row, k in zip(x, y))
            with open(self.dir / f"{part}.json", "w") as f:
                json.dump([{**{f"c{i}": float(v) for i, v in enumerate(row)}, "kind": str(names[k])} for row, k in zip(x, y)], f)

    def test_every_format_gives_the_same_model(self):
        self.write_all()
        shas = {}
        for what in ("source: csv, name: train.csv, test_path: test.csv, label: kind", "source: csv, path: train.csv, test_path: test.csv, label: '0'",
                     "source: json, path: train.jsonl, test_path: test.jsonl, label: kind",
                     "source: json, path: train.json, test_path: test.json, label: kind",
                     "source: npz, path: train.npz, test_path: test.npz", "source: npy, path: x_train.npy, test_path: x_test.npy",
                     "source: npz, path: train-packed.npz, test_path: test-packed.npz, label: target"):
            s = self.run_it(what + ", normalise: standard")
            shas[what] = s["nodes"][0]["model_sha256"]
            self.assertGreater(s["nodes"][0]["accuracy"], 0.9, what)
        self.assertEqual(len(set(shas.values())), 1, shas)
        text = (self.out / "report.html").read_text()
        self.assertIn("Who got what", text)
        unscaled = self.run_it("source: npz, path: train.npz, test_path: test.npz")
        self.assertNotIn(unscaled["nodes"][0]["model_sha256"], shas.values())

    def test_processes_read_the_same_as_one_process(self):
        self.write_all()
        # one member: nothing depends on the order of addresses
        what = "source: csv, path: train.csv, test_share: 0.25, label: kind, normalise: standard"
        a = self.run_it(what, nodes=2, protocol="GrpcCommunicationProtocol", rounds=1)
        b = self.run_it(what, nodes=2, rounds=1)
        self.assertAlmostEqual(a["nodes"][0]["accuracy"], b["nodes"][0]["accuracy"], delta=0.05)
        self.assertGreater(a["nodes"][0]["accuracy"], 0.8)

    def test_each_node_reads_its_own_file(self):
        rng = np.random.default_rng(5)
        for i, n in ((1, 60), (2, 120), (3, 90)):
            x, y = samples(rng, n)
            np.savez(self.dir / f"node-{i}.npz", x=x, y=y)
        for protocol in ("memory", "grpc"):
            self.run_it("source: npz, path: '{node}.npz', test_share: 0.2", protocol=protocol,
                        model="logistic", params="optimizer: sgd, lr_rate: 0.01")
            rows = [json.loads(line) for line in (self.out / "metrics.jsonl").read_text().splitlines()]
            fits = {r["node"]: r["fit_samples"] for r in rows if r["round"] == 0 and "fit_samples" in r}
            self.assertEqual(fits, {"node-1": 48, "node-2": 96, "node-3": 72})
        self.assertNotIn("Who got what", (self.out / "report.html").read_text())

    def test_images_of_numpy_train_a_convolution(self):
        rng = np.random.default_rng(6)
        y = np.arange(300) % 4
        x = rng.integers(0, 80, (300, 16, 16, 3), dtype=np.uint8)
        for i, k in enumerate(y):
            x[i, 4 * k:4 * k + 4, :, k % 3] = 250
        np.savez(self.dir / "i.npz", x_train=x, y_train=y)
        s = self.run_it("source: npz, path: i.npz, test_share: 0.2, mean: [0.2, 0.2, 0.2], std: [0.1, 0.1, 0.1]", model="lenet5", params="lr_rate: 0.003", rounds=3)
        self.assertGreater(s["nodes"][0]["accuracy"], 0.8)

    def test_bad_files_are_named(self):
        (self.dir / "bad.csv").write_text("a,b,y\n1,2,x\n1,two,x\n")
        np.savez(self.dir / "nolabels.npz", x=np.zeros((4, 2)))
        np.save(self.dir / "objects.npy", np.array([{}, {}]), allow_pickle=True)
        whole = self.dir / "whole.npz"
        np.savez_compressed(whole, x=np.random.default_rng(1).normal(size=(50, 5)), y=np.zeros(50, dtype=int))
        data = bytearray(whole.read_bytes())
        data[len(data) // 2] ^= 0xff
        (self.dir / "damaged.npz").write_bytes(data)
        (self.dir / "cut.npz").write_bytes(data[:-40])
        for what, says in (("source: csv, path: bad.csv", "bad.csv: line 3, column 1 \\(b\\): 'two' is not a number"),
                           ("source: csv, path: nothing.csv", "experiment.dataset.path: nothing.csv"),
                           ("source: csv, path: bad.csv, label: z", "no column 'z'"),
                           ("source: npz, path: nolabels.npz", "no entry 'y.npy'; there are: x.npy"),
                           ("source: npy, path: objects.npy, label: objects.npy", "objects.npy: values of type"),
                           ("source: npz, path: damaged.npz", "damaged"),
                           ("source: npz, path: cut.npz", "not a zip file"),
                           ("source: npz", "needs 'path'"),
                           ("source: parquet, path: x", "'parquet' is not supported yet: write it as csv or npz"),
                           ("source: npz, path: whole.npz, mean: [1, 2], std: [1]", "'mean' has 2 numbers, 'std' 1"),
                           ("source: npz, path: whole.npz, mean: [1], std: [1]", "the data has 5 channels")):
            with self.subTest(what):
                self.assertRegex(self.run_it(what, code=1), says)
                self.assertFalse((self.out / "experiment.yaml").exists())  # nothing was begun


if __name__ == "__main__":
    unittest.main()
