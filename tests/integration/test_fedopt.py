# SPDX-License-Identifier: Apache-2.0
# once: dev
# timeout: 120
"""FedAdagrad, FedAdam and FedYogi over 20 rounds beside the algorithm of Reddi et al. 2021 written with NumPy in float64, and nodes
that use them: equal results, and a node that was killed goes on with the same moments. What FedNova and SCAFFOLD make of contributions,
beside their papers' formulas (what they do within a training: tests/unit/test_steered.c)."""
import os
import struct
import subprocess
import tempfile
import unittest

import numpy as np

TOOL = os.path.join(os.environ["P2PFL_BUILD"], "fedopt")
MODEL = "model: {package: dummy, compression: {topk: {k: 0.5}, ptq: {dtype: int16}}}"
RULES = ("fedadagrad", "fedadam", "fedyogi")


def ours(name, base, samples, updates, eta, beta_1, beta_2, tau, split=None):
    rounds, n, d = updates.shape
    split = d // 3 if split is None else split
    data = base.astype("<f4").tobytes() + b"".join(
        struct.pack("<Q", samples[k]) + updates[r, k].astype("<f4").tobytes() for r in range(rounds) for k in range(n))
    argv = [TOOL, name, *(repr(float(v)) for v in (eta, beta_1, beta_2, tau)), str(rounds), str(n), str(d), str(split)]
    r = subprocess.run(argv, input=data, capture_output=True, check=False)
    if r.returncode:
        raise ValueError(r.stderr.decode().strip())
    return np.frombuffer(r.stdout, "<f4").reshape(rounds, 3, d)


def paper(name, base, samples, updates, eta, beta_1, beta_2, tau):
    x, m, v, out = base.astype(np.float64), 0.0 * base, 0.0 * base, []
    for round_updates in updates.astype(np.float64):
        delta = np.average(round_updates, axis=0, weights=samples)
        m = beta_1 * m + (1 - beta_1) * delta
        if name == "fedadagrad":
            v = v + delta**2
        elif name == "fedadam":
            v = beta_2 * v + (1 - beta_2) * delta**2
        else:
            v = v - (1 - beta_2) * delta**2 * np.sign(v - delta**2)
        x = x + eta * m / (np.sqrt(v) + tau)
        out.append((x, m, v))
    return np.array(out)


class TwentyRounds(unittest.TestCase):
    def compare(self, name, n, d, scale, eta, beta_1, beta_2, tau):
        rng = np.random.default_rng(d + n)
        base = rng.standard_normal(d).astype(np.float32)
        samples = [int(s) for s in rng.integers(1, 5000, n)]
        drift = rng.standard_normal(d)
        updates = ((drift + rng.standard_normal((20, n, d))) * scale).astype(np.float32)
        got = ours(name, base, samples, updates, eta, beta_1, beta_2, tau).astype(np.float64)
        want = paper(name, base, samples, updates, eta, beta_1, beta_2, tau)
        # A contribution is float32: its difference to the model carries an error of 6e-8 of the model's size.
        noise = 2e-7 * np.abs(want[:, 0]).max()
        size = np.abs(updates).max()
        self.assertLess(np.abs(got[:, 0] - want[:, 0]).max(), eta * 20 * (1e-3 if scale < 0.01 else 1e-4))
        np.testing.assert_allclose(got[:, 1], want[:, 1], rtol=1e-5, atol=noise + 1e-6 * size)
        np.testing.assert_allclose(got[:, 2], want[:, 2], rtol=1e-4, atol=20 * (noise * size + 1e-6 * size * size))

    def test_the_papers_tau(self):
        for name in RULES:
            for n, d in ((1, 1), (2, 64), (5, 1001), (8, 4096)):
                for beta_1 in (0.0, 0.9):
                    with self.subTest(name=name, n=n, d=d, beta_1=beta_1):
                        self.compare(name, n, d, 0.05, 0.1, beta_1, 0.99, 1e-3)

    def test_p2pfls_defaults(self):
        for name in RULES:
            with self.subTest(name=name):
                self.compare(name, 4, 500, 0.05, 0.1, 0.0 if name == "fedadagrad" else 0.9, 0.99, 1e-9)

    def test_large_and_small_steps(self):
        for name in RULES:
            for scale, eta in ((100.0, 1.0), (1e-3, 1e-3)):
                with self.subTest(name=name, scale=scale):
                    self.compare(name, 3, 200, scale, eta, 0.9, 0.99, 1e-3)


class Edges(unittest.TestCase):
    def test_no_change_is_no_step(self):
        base = np.array([1.5, 0.0, -3.0], np.float32)
        for name in RULES:
            got = ours(name, base, [5], np.zeros((20, 1, 3)), 0.1, 0.9, 0.99, 1e-9)
            np.testing.assert_array_equal(got[-1, 0], base)
            self.assertFalse(got[-1, 1:].any())

    def test_equal_contributions_are_one(self):
        rng = np.random.default_rng(2)
        base, u = rng.standard_normal(50).astype(np.float32), rng.standard_normal((20, 1, 50)) * 0.1
        for name in RULES:
            one = ours(name, base, [7], u, 0.1, 0.9, 0.99, 1e-3)
            three = ours(name, base, [7, 9, 4], np.repeat(u, 3, axis=1), 0.1, 0.9, 0.99, 1e-3)
            np.testing.assert_allclose(one, three, rtol=1e-6, atol=1e-9)

    def test_what_overflows_is_refused(self):
        base = np.zeros(4, np.float32)
        with self.assertRaisesRegex(ValueError, "fedadagrad with eta 0.1: tensor '@v.a': value 0 is not finite"):
            ours("fedadagrad", base, [1], np.full((1, 1, 4), 1e30), 0.1, 0.0, 0.99, 1e-9)

    def test_parameters_are_checked(self):
        base, u = np.zeros(2, np.float32), np.zeros((1, 1, 2))
        for args, reason in (((0.0, 0.9, 0.99, 1e-3), "eta is 0: more than 0"), ((0.1, 1.0, 0.99, 1e-3), "beta_1 is 1: from 0 to less than 1"),
                             ((0.1, 0.9, 1.5, 1e-3), "beta_2 is 1.5"), ((0.1, 0.9, 0.99, 0.0), "tau is 0")):
            with self.assertRaisesRegex(ValueError, reason):
                ours("fedadam", base, [1], u, *args)


class Steered(unittest.TestCase):
    ROUNDS = 20

    def rounds(self, name, base, samples, updates, beside, lr=1.0):
        """(rounds, values): what the rule made, as float64. beside: (rounds, n, values), what a contribution says more."""
        rounds, n, d = updates.shape
        data = base.astype("<f4").tobytes() + b"".join(
            struct.pack("<Q", samples[k]) + updates[r, k].astype("<f4").tobytes() + beside[r, k].astype("<f4").tobytes()
            for r in range(rounds) for k in range(n))
        r = subprocess.run([TOOL, name, repr(lr), "0", "0.9", "1", str(rounds), str(n), str(d), str(d // 3)], input=data, capture_output=True, check=False)
        self.assertEqual(r.returncode, 0, r.stderr)
        return np.frombuffer(r.stdout, "<f4").reshape(rounds, -1).astype(np.float64)

    def cases(self):
        rng = np.random.default_rng(21)
        for n, d in ((1, 1), (2, 7), (5, 1000), (9, 65)):
            for scale in (0.0, 1e-30, 0.05, 1e25):
                size = scale if scale > 1 else 1.0
                base = (rng.standard_normal(d) * size).astype(np.float32)
                updates = ((rng.standard_normal(d) + rng.standard_normal((self.ROUNDS, n, d))) * scale).astype(np.float32)
                with self.subTest(n=n, d=d, scale=scale):
                    yield rng, base, [int(s) for s in rng.integers(1, 5000, n)], updates

    def close(self, got, want):
        # A contribution is float32: each round's difference to the model carries an error of 6e-8 of the model's size.
        np.testing.assert_allclose(got, want, rtol=0, atol=self.ROUNDS * 3e-7 * np.abs(want).max())

    def test_fednova(self):
        for rng, base, samples, updates in self.cases():
            steps = rng.integers(1, 400, (*updates.shape[:2], 1)).astype(np.float32)
            x, want, p = base.astype(np.float64), [], np.array(samples) / sum(samples)
            for u, a in zip(updates.astype(np.float64), steps[..., 0].astype(np.float64)):
                x = x + (p @ a) * ((p / a) @ u)
                want.append(x)
            self.close(self.rounds("fednova", base, samples, updates, steps), np.array(want))

    def test_fednova_with_equal_steps_is_fedavg(self):
        for _, base, samples, updates in self.cases():
            x = base.astype(np.float64) + np.cumsum(np.average(updates.astype(np.float64), axis=1, weights=samples), axis=0)
            self.close(self.rounds("fednova", base, samples, updates, np.full((*updates.shape[:2], 1), 7.0)), x)

    def test_scaffold(self):
        for rng, base, samples, updates in self.cases():
            change = rng.standard_normal(updates.shape).astype(np.float32)
            for lr in (1.0, 0.5):
                x = base.astype(np.float64) + lr * np.cumsum(np.average(updates.astype(np.float64), axis=1, weights=samples), axis=0)
                c = np.cumsum(change.astype(np.float64).mean(axis=1), axis=0)
                got = self.rounds("scaffold", base, samples, updates, change, lr)
                self.close(got[:, :base.size], x)
                self.close(got[:, base.size:], c)


class Nodes(unittest.TestCase):
    """Under faults: the simulator's checkers want one result of each round on all nodes, whoever was away or came late."""

    def test_one_result_whoever_was_in_the_train_set(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "fedadam.yaml")
            for rule in ("FedAdam", "FedAdagrad"):
                with open(path, "w", encoding="utf-8") as f:
                    f.write(f"""
network: {{nodes: 8}}
experiment:
  {{name: adaptive, rounds: 5, epochs: 1, trainset_size: 3, {MODEL}, aggregator: {{aggregator: {rule}, params: {{eta: 0.3, tau: 0.001}}}}}}
settings: {{training: {{vote_timeout: 20, aggregation_timeout: 40}}}}
simulation: {{nodes: [6, 10], topologies: [full, ring, star], mix: default}}
""")
                r = subprocess.run([os.environ["P2PFL_BIN"], "simulate", path, "--seeds", "1..12"], capture_output=True, text=True,
                                   check=False, timeout=100)
                self.assertEqual(r.returncode, 0, r.stdout + r.stderr)


if __name__ == "__main__":
    unittest.main()
