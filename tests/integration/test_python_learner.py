# SPDX-License-Identifier: Apache-2.0
# timeout: 400
# once: dev
"""The Python package: its messages against protobuf's own, its parts against the built-in ones, and its learners in federations with
real nodes: NumPy, scikit-learn and PyTorch (the latter two where Debian's packages are installed)."""
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

from node_kit import SRC, run

sys.path.insert(0, str(SRC / "python"))
from p2pfl_learner import Config, SklearnLearner, Steer, TorchLearner, parts, wire  # noqa: E402

PRELUDE = f"import sys\nsys.path.insert(0, {str(SRC / 'python')!r})\nimport numpy as np\nfrom p2pfl_learner import *\n"
NUMPY = """
def build(config):
    rng = np.random.default_rng(config.part_index)
    x = rng.normal(size=(400, 5))
    y = (x @ np.arange(5.0) > 0).astype(float)

    def fit(p, epochs, seed, progress):
        if config.params.get("fail") == config.node:
            raise RuntimeError("the data of " + config.node + " are gone")
        for e in range(epochs):
            q = 1 / (1 + np.exp(-(x @ p["w"] + p["b"])))
            p["w"] -= 0.5 * x.T @ (q - y) / len(y)
            p["b"] -= 0.5 * np.mean(q - y)
            progress((e + 1) / epochs)
        return np.mean((q - y) ** 2), len(y)

    def evaluate(p):
        q = 1 / (1 + np.exp(-(x @ p["w"] + p["b"])))
        return np.mean((q - y) ** 2), np.mean((q > 0.5) == y)

    return NumpyLearner({"w": np.zeros(5), "b": np.zeros(())}, fit, evaluate)

serve(build)
"""
SKLEARN = """
from sklearn.linear_model import SGDClassifier
from sklearn.datasets import load_iris

def build(config):
    x, y = load_iris(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    mine = config.part(len(y))
    return SklearnLearner(SGDClassifier(loss="log_loss", random_state=0), (x[mine], y[mine]), (x, y), config=config, batch_size=16)

serve(build)
"""
EXPERIMENT = """\
network: {{nodes: {nodes}, topology: full}}
experiment:
  rounds: {rounds}
  epochs: {epochs}
  trainset_size: {nodes}
  dataset: {{name: {dataset}{more}}}
  model: {{package: {model}{hidden}}}
  learner:
    command: {command}
    {which}
    params: {params}
settings:
  training: {{vote_timeout: 120, aggregation_timeout: 120}}
"""
has = importlib.util.find_spec


class Federations(unittest.TestCase):
    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="pfl-"))
        self.addCleanup(shutil.rmtree, self.dir)

    def learn(self, program, nodes=3, rounds=3, epochs=20, dataset="dummy", more="", model="dummy", hidden="", which="", **params):
        (self.dir / "train.py").write_text(PRELUDE + program)
        command = json.dumps([sys.executable, "train.py"])
        (self.dir / "e.yaml").write_text(EXPERIMENT.format(**{**locals(), "params": json.dumps(params)}))
        done = run("run", "e.yaml", "--out", "out", "--json", timeout=300, cwd=self.dir)
        self.logs = {p.parent.name: p.read_text() for p in self.dir.glob("out/nodes/*/log.txt")}
        self.assertEqual(done.returncode, 0, done.stderr + "".join(self.logs.values())[-6000:])
        return [self.events(n, "learning_finished")[0] for n in sorted(self.logs)]

    def events(self, node, kind):
        lines = (self.dir / "out/nodes" / node / "events.jsonl").read_text().splitlines()
        return [e for e in map(json.loads, lines) if e["event"] == kind]

    def test_numpy(self):
        ended = self.learn(NUMPY)
        self.assertEqual(len({e["digest"] for e in ended}), 1)
        for e in ended:
            self.assertGreater(e["accuracy"], 0.97)

    def test_the_partition_s_parameters_are_told(self):
        program = NUMPY.replace("def build(config):\n", """def build(config):
    print(config.partition, sorted(config.partition_params.items()))
    try:
        config.part(100)
    except ValueError as e:
        print(e)
""")
        self.learn(program, nodes=2, rounds=1, more=", partitioning: {strategy: dirichlet, params: {alpha: 0.25}}")
        for log in self.logs.values():
            self.assertIn("dirichlet [('alpha', '0.25'), ('min_partition_size', '10'), ('self_balancing', 'false')]", log)
            self.assertIn("config.part() divides for partition 'iid' alone; this node's is 'dirichlet'", log)

    def test_an_exception_in_fit__is_told_and_the_others_go_on(self):
        self.learn(NUMPY, rounds=2, fail="node-2")
        self.assertIn("failed in Fit: INTERNAL: RuntimeError: the data of node-2 are gone", self.logs["node-2"])
        self.assertIn("node-2: learner: Traceback (most recent call last):", self.logs["node-2"])
        self.assertEqual([len(self.events(n, "fit")) for n in ("node-1", "node-2", "node-3")], [2, 0, 2])

    @unittest.skipUnless(has("sklearn"), "needs python3-sklearn")
    def test_scikit_learn(self):
        for e in self.learn(SKLEARN, epochs=5, rounds=4):
            self.assertGreater(e["accuracy"], 0.85)

    @unittest.skipUnless(has("torch"), "needs python3-torch")
    def test_pytorch_beside_the_built_in_learner(self):
        """The same MLP on the same parts: what the nodes agree on is one model, and each learner's fits lower the loss alike."""
        self.small_fashion(2000, 500)
        program = (SRC / "examples/pytorch/fashion_mlp.py").read_text()
        ended = self.learn(program, nodes=4, rounds=4, epochs=3, dataset="fashion-mnist", more=f", path: {self.dir / 'data'}, batch_size: 32",
                           model="mlp", hidden=", params: {hidden_sizes: [64]}", which="nodes: [0, 2]")
        self.assertEqual(len({e["digest"] for e in ended}), 1)
        for e in ended:
            self.assertAlmostEqual(e["accuracy"], ended[0]["accuracy"], delta=0.005)  # each node's own evaluation of the same model
            self.assertAlmostEqual(e["loss"], ended[0]["loss"], delta=0.01)
            self.assertGreater(e["accuracy"], 0.8)
        torch = [f["loss"] for n in ("node-1", "node-3") for f in self.events(n, "fit")]
        ours = [f["loss"] for n in ("node-2", "node-4") for f in self.events(n, "fit")]
        self.assertEqual((len(torch), len(ours)), (8, 8))
        self.assertAlmostEqual(sum(torch) / 8, sum(ours) / 8, delta=0.1)

    def small_fashion(self, n_train, n_test):
        """Ten classes of noisy stripes, in the files of Fashion-MNIST."""
        rng, folder = np.random.default_rng(1), self.dir / "data"
        folder.mkdir()
        for kind, n in (("train", n_train), ("t10k", n_test)):
            labels = rng.integers(0, 10, n).astype(np.uint8)
            images = rng.integers(0, 120, (n, 28, 28)).astype(np.uint8)
            for image, label in zip(images, labels):
                image[2 * label:2 * label + 8] += 60
            for name, a, magic in (("images-idx3", images, 0x803), ("labels-idx1", labels, 0x801)):
                head = b"".join(int(v).to_bytes(4, "big") for v in (magic, *a.shape))
                (folder / f"{kind}-{name}-ubyte").write_bytes(head + a.tobytes())


class Messages(unittest.TestCase):
    """Against the code that protoc makes of proto/learner.proto."""

    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="pfl-")
        cls.addClassCleanup(shutil.rmtree, cls.dir)
        subprocess.run(["protoc", f"-I{SRC / 'proto'}", f"--python_out={cls.dir}", "learner.proto"], check=True)
        sys.path.insert(0, cls.dir)
        cls.pb = __import__("learner_pb2")

    ROWS = [
        ("Job", wire.JOB, {"id": 2**64 - 1, "epochs": 3, "seed": 1 << 63, "proximal_mu": 0.5, "correction": []}),
        ("Result", wire.RESULT, {"loss": 0.25, "accuracy": 1.0, "n_samples": 12345, "n_steps": 0, "learning_rate": 0.1, "normaliser": 9.5}),
        ("Progress", wire.PROGRESS, {"beat": 300, "done": 0.5}),
        ("ProgressRequest", wire.PROGRESS_REQUEST, {"job": 1, "seen": 2, "wait_ms": 30000}),
        ("Parameters", wire.PARAMETERS, {"file": "to-learner", "bytes": 1 << 40}),
        ("Nothing", wire.NOTHING, {}),
        ("Description", wire.DESCRIPTION, {"name": "ü", "steerable": 1, "tensors": [{"name": "w", "dtype": "F32", "shape": [3, 300]},
                                                                   {"name": "s", "dtype": "I64", "shape": []}]}),
        ("DescribeRequest", wire.DESCRIBE_REQUEST, {
            "version": 1, "node": "n", "folder": "/f", "dataset": "d", "dataset_path": "", "partition": "iid", "part_index": 1,
            "part_count": 4, "part_seed": 2**64 - 1, "reduction_factor": 0.5, "seed": 666, "learning_rate": 1e-3, "batch_size": 128,
            "threads": 1, "hidden_sizes": [256, 128], "params": [{"key": "a", "value": "b"}, {"key": "c", "value": ""}],
            "partition_params": [{"key": "alpha", "value": "0.5"}]}),
    ]

    def theirs(self, name, message):
        m = getattr(self.pb, name)()
        for key, value in message.items():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                for item in value:
                    getattr(m, key).add(**item)
            elif isinstance(value, list) and value:
                getattr(m, key).extend(value)
            elif not isinstance(value, list):
                setattr(m, key, value)
        return m

    def test_the_same_bytes_and_back(self):
        for name, spec, message in self.ROWS:
            with self.subTest(name):
                data = self.theirs(name, message).SerializeToString()
                self.assertEqual(wire.encode(spec, message), data)
                self.assertEqual(wire.decode(spec, data), message)

    def test_a_correction_is_one_message(self):
        job = self.pb.Job(id=3, correction=self.pb.Parameters(file="correction", bytes=32))
        self.assertEqual(wire.decode(wire.JOB, job.SerializeToString())["correction"], [{"file": "correction", "bytes": 32}])

    def test_what_is_no_message__is_a_value_error(self):
        rng = random.Random(7)
        for name, spec, message in self.ROWS:
            data = wire.encode(spec, message)
            for _ in range(300):
                bad = bytearray(data)
                for _ in range(rng.randint(1, 4)):
                    if bad:
                        bad[rng.randrange(len(bad))] = rng.randrange(256)
                try:
                    wire.decode(spec, bytes(bad[:rng.randint(0, len(bad))]))
                except ValueError:
                    pass


class Parts(unittest.TestCase):
    def test_as_the_built_in_learners_have_them(self):
        """The same rows as in tests/unit/test_partition.c."""
        self.assertEqual(list(parts.iid_part(103, 1, 4, 666))[:8], [79, 39, 14, 54, 43, 5, 6, 47])
        self.assertEqual(list(parts.iid_part(103, 0, 1, 666, 0.1)), [58, 74, 82, 67, 45, 42, 75, 0, 96, 91])

    def test_they_cover_all_without_overlap(self):
        every = np.concatenate([parts.iid_part(1001, k, 7, 5) for k in range(7)])
        self.assertEqual(sorted(every), list(range(1001)))
        self.assertEqual(list(parts.iid_part(10, 0, 1, 5)), list(range(10)))


@unittest.skipUnless(has("torch"), "needs python3-torch")
class Torch(unittest.TestCase):
    def learner(self, model, n=64, **kwargs):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(n, 4)).astype(np.float32)
        y = (x.sum(axis=1) > 0).astype(np.int64)
        return TorchLearner(model, (x, y), (x, y), config=Config(batch_size=16, learning_rate=0.01), **kwargs)

    def test_the_same_seed_gives_the_same_parameters(self):
        import torch
        found = []
        for _ in range(2):
            torch.manual_seed(1)
            learner = self.learner(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)))
            learner.fit(3, 2**64 - 1, lambda done: None)
            found.append(np.concatenate([a.ravel() for a in learner.parameters().values()]))
        self.assertTrue(np.array_equal(*found))

    def test_steered__one_step_of_sgd_is_as_the_papers_say(self):
        """FedProx's gradient at the second step is g + mu (w - w0); SCAFFOLD's is g + c."""
        import torch

        def fit(mu=0.0, c=None, epochs=2):
            model = torch.nn.Linear(4, 2)
            with torch.no_grad():
                model.weight.fill_(0.1)
                model.bias.fill_(0.0)
            learner = self.learner(model, n=16, optimizer=lambda p: torch.optim.SGD(p, lr=0.5, momentum=0.9))
            learner.steer = Steer(mu, c)
            result = learner.fit(epochs, 1, lambda done: None)
            return learner.parameters(), result

        zero, _ = fit(epochs=1)
        plain, result = fit()
        self.assertEqual((result.learning_rate, result.n_steps), (0.5, 2))
        self.assertAlmostEqual(result.normaliser, 1.0 + 1.9)
        pulled, _ = fit(mu=0.3)
        start = {"weight": np.full((2, 4), 0.1, np.float32), "bias": np.zeros(2, np.float32)}
        for k, w in plain.items():  # the first steps are the same; the second one's gradient has mu (w1 - w0) more
            np.testing.assert_allclose(pulled[k], w - 0.5 * 0.3 * (zero[k] - start[k]), rtol=1e-5, atol=1e-6)
        c = {k: np.full(v.shape, 0.01, np.float32) for k, v in start.items()}
        corrected, _ = fit(c=c, epochs=1)
        for k, w in zero.items():
            np.testing.assert_allclose(corrected[k], w - 0.5 * 0.01, rtol=1e-5, atol=1e-6)

    def test_buffers_and_half_precision_go_there_and_back(self):
        import torch
        learner = self.learner(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)))
        learner.fit(1, 0, lambda done: None)
        before = {k: v.copy() for k, v in learner.parameters().items()}
        self.assertEqual(before["1.num_batches_tracked"].dtype, np.int64)
        learner.set_parameters(before)
        for k, v in learner.parameters().items():
            self.assertTrue(np.array_equal(v, before[k]), k)

    def test_a_dataset_of_single_samples(self):
        import torch
        x = torch.randn(50, 4)
        data = [(x[i], int(x[i].sum() > 0)) for i in range(50)]
        learner = TorchLearner(torch.nn.Linear(4, 2), data, data, config=Config(batch_size=8))
        done = []
        fit = learner.fit(2, 3, done.append)
        self.assertEqual((fit.n_samples, fit.n_steps, done[-1]), (50, 14, 1.0))
        self.assertEqual(learner.evaluate(done.append).n_samples, 50)


@unittest.skipUnless(has("sklearn"), "needs python3-sklearn")
class Sklearn(unittest.TestCase):
    def test_linear_and_network(self):
        from sklearn.linear_model import SGDClassifier
        from sklearn.neural_network import MLPClassifier
        rng = np.random.default_rng(0)
        x = rng.normal(size=(300, 4))
        y = (x.sum(axis=1) > 0).astype(int) + (x[:, 0] > 1)
        for estimator in (SGDClassifier(random_state=0), MLPClassifier((16,), random_state=0, learning_rate_init=0.01)):
            learner = SklearnLearner(estimator, (x, y), (x, y), config=Config(batch_size=20))
            before = {k: v.copy() for k, v in learner.parameters().items()}
            fit = learner.fit(10, 1, lambda done: None)
            self.assertEqual((fit.n_samples, fit.n_steps), (300, 150))
            self.assertGreater(learner.evaluate(lambda done: None).accuracy, 0.8)
            learner.set_parameters(before)
            self.assertTrue(all(np.array_equal(v, before[k]) for k, v in learner.parameters().items()))


class Package(unittest.TestCase):
    @unittest.skipUnless(has("setuptools") and has("pip"), "needs python3-pip and python3-setuptools")
    def test_pip_installs_it(self):
        with tempfile.TemporaryDirectory() as folder:
            copy = shutil.copytree(SRC / "python", Path(folder) / "src")
            done = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target",
                                   f"{folder}/site", str(copy)], capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            found = subprocess.run([sys.executable, "-c", "import p2pfl_learner; print(p2pfl_learner.__file__)"], capture_output=True, text=True,
                                   env={**os.environ, "PYTHONPATH": f"{folder}/site"}, cwd="/", check=False)
            self.assertEqual(found.stdout.strip(), f"{folder}/site/p2pfl_learner/__init__.py", found.stderr)

    def test_without_a_node__says_what_it_is(self):
        done = subprocess.run([sys.executable, "-c", PRELUDE + "serve(None)"], capture_output=True, text=True, check=False,
                              env={k: v for k, v in os.environ.items() if k != "P2PFL_LEARNER_SOCKET"})
        self.assertEqual(done.returncode, 1)
        self.assertIn("a p2pfl node starts it", done.stderr)


if __name__ == "__main__":
    unittest.main()
