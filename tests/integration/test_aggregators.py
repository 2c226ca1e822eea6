# SPDX-License-Identifier: Apache-2.0
# once: dev
# timeout: 180
"""Each aggregator beside the same rule written with NumPy from its paper, on random and on awkward inputs."""
import os
import struct
import subprocess
import unittest

import numpy as np

TOOL = os.path.join(os.environ["P2PFL_BUILD"], "aggregate")
AUTO = -1


def ours(name, models, samples=None, byzantine=AUTO, selected=0, trim=0.1, split=None):
    n, d = models.shape
    samples = samples or [1] * n
    data = b"".join(struct.pack("<Q", s) + m.astype("<f4").tobytes() for s, m in zip(samples, models))
    split = d // 3 if split is None else split
    r = subprocess.run([TOOL, name, str(byzantine), str(selected), str(trim), str(n), str(d), str(split)], input=data,
                       capture_output=True, check=False)
    if r.returncode:
        raise ValueError(r.stderr.decode().strip())
    return np.frombuffer(r.stdout, "<f4")


def auto(n, per_f):
    return max(0, (n - 3) // per_f)


def squared(models):
    x = models.astype(np.float64)
    return ((x[:, None, :] - x[None, :, :]) ** 2).sum(axis=2)


def krum_scores(d, f):
    n = len(d)
    nearest = max(1, n - f - 2)
    return np.array([np.sort(np.delete(d[i], i))[:nearest].sum() for i in range(n)])


def np_krum(models, f):
    return models[np.argmin(krum_scores(squared(models), f))]


def np_multi_krum(models, f, m):
    order = np.argsort(krum_scores(squared(models), f), kind="stable")
    return models[order[:m]].astype(np.float64).mean(axis=0)


def np_krum_p2pfl(models, split):
    x = models.astype(np.float64)
    parts = [x[:, :split], x[:, split:]]
    sums = [sum(np.linalg.norm(p[i] - p[j]) for p in parts for j in range(len(x)) if j != i) for i in range(len(x))]
    return models[int(np.argmin(sums))]


def np_bulyan(models, f):
    left, chosen, n = list(range(len(models))), [], len(models)
    d = squared(models)
    while len(chosen) < n - 2 * f:
        best = left[int(np.argmin(krum_scores(d[np.ix_(left, left)], f)))] if len(left) > 1 else left[0]
        chosen.append(best)
        left.remove(best)
    x = np.sort(models[chosen].astype(np.float64), axis=0)
    median = np.median(x, axis=0)
    order = np.argsort(np.abs(x - median), axis=0, kind="stable")[: n - 4 * f]
    return np.take_along_axis(x, order, axis=0).mean(axis=0)


def np_trimmed(models, trim):
    n = len(models)
    cut = int(np.floor(trim * n + 1e-9))
    return np.sort(models.astype(np.float64), axis=0)[cut:n - cut].mean(axis=0)


def distance_sum(models, z):
    return np.linalg.norm(models.astype(np.float64) - z, axis=1).sum()


class Random(unittest.TestCase):
    SHAPES = [(1, 7), (2, 1), (3, 64), (5, 1000), (8, 4097), (11, 33), (20, 257), (60, 40)]

    def cases(self):
        rng = np.random.default_rng(7)
        for n, d in self.SHAPES:
            for scale in (1.0, 1e-20, 1e15):
                with self.subTest(n=n, d=d, scale=scale):
                    yield (rng.standard_normal((n, d)) * scale).astype(np.float32), rng

    def close(self, got, want):
        want = np.asarray(want, np.float64)
        np.testing.assert_allclose(got.astype(np.float64), want, rtol=2e-6, atol=1e-7 * np.abs(want).max())

    def test_fedavg(self):
        for x, rng in self.cases():
            samples = [int(s) for s in rng.integers(1, 100000, len(x))]
            self.close(ours("fedavg", x, samples), np.average(x.astype(np.float64), axis=0, weights=samples))

    def test_median(self):
        for x, _ in self.cases():
            self.close(ours("FedMedian", x), np.median(x.astype(np.float64), axis=0))

    def test_trimmed_mean(self):
        for x, _ in self.cases():
            for trim in (0.0, 0.1, 0.25, 0.49):
                self.close(ours("trimmed_mean", x, trim=trim), np_trimmed(x, trim))

    def test_krum(self):
        for x, _ in self.cases():
            np.testing.assert_array_equal(ours("krum", x), np_krum(x, auto(len(x), 2)) if len(x) > 1 else x[0])

    def test_krum_with_a_stated_f(self):
        x = np.random.default_rng(3).standard_normal((9, 50)).astype(np.float32)
        for f in range(4):
            np.testing.assert_array_equal(ours("krum", x, byzantine=f), np_krum(x, f))

    def test_multi_krum(self):
        for x, _ in self.cases():
            n = len(x)
            if n > 1:
                f = auto(n, 2)
                self.close(ours("multi_krum", x), np_multi_krum(x, f, n - f))
                self.close(ours("multi_krum", x, selected=1), np_krum(x, f))

    def test_krum_p2pfl(self):
        for x, _ in self.cases():
            if len(x) > 2:
                np.testing.assert_array_equal(ours("krum_p2pfl", x), np_krum_p2pfl(x, x.shape[1] // 3))

    def test_bulyan(self):
        for x, _ in self.cases():
            if len(x) > 2:
                self.close(ours("bulyan", x), np_bulyan(x, auto(len(x), 4)))

    def test_geometric_median(self):
        for x, _ in self.cases():
            z = ours("geometric_median", x).astype(np.float64)
            best = distance_sum(x, z)
            start = distance_sum(x, x.astype(np.float64).mean(axis=0))
            self.assertLessEqual(best, start * (1 + 1e-6))
            scale = np.abs(x).max()
            for step in np.random.default_rng(1).standard_normal((20, x.shape[1])):
                self.assertLessEqual(best, distance_sum(x, z + 0.01 * scale * step) * (1 + 1e-6))


class Edges(unittest.TestCase):
    NAMES = ["fedavg", "fedmedian", "trimmed_mean", "krum", "multi_krum", "krum_p2pfl", "bulyan", "geometric_median"]

    def test_one_model_is_the_result(self):
        x = np.array([[1.5, -2.25, 0.0, 1e30]], np.float32)
        for name in self.NAMES:
            with self.subTest(name=name):
                np.testing.assert_array_equal(ours(name, x), x[0])

    def test_equal_models_and_zeros(self):
        for value in (0.0, 3.25):
            x = np.full((7, 5), value, np.float32)
            for name in self.NAMES:
                with self.subTest(name=name, value=value):
                    np.testing.assert_array_equal(ours(name, x), x[0])

    def test_the_largest_and_the_smallest_numbers(self):
        """No sum or square of what float32 can hold overflows, and none is lost."""
        rng = np.random.default_rng(13)
        for size in (3e38, 1e-38, 3e-45):
            x = (np.sign(rng.standard_normal((7, 40))) * rng.uniform(0.3, 1, (7, 40)) * size).astype(np.float32)
            exact = {"fedavg": x.astype(np.float64).mean(axis=0), "fedmedian": np.median(x.astype(np.float64), axis=0),
                     "trimmed_mean": np_trimmed(x, 0.2), "krum": np_krum(x, 2), "multi_krum": np_multi_krum(x, 2, 5),
                     "krum_p2pfl": np_krum_p2pfl(x, 13), "bulyan": np_bulyan(x, 1)}
            for name, want in exact.items():
                with self.subTest(name=name, size=size):
                    np.testing.assert_allclose(ours(name, x, trim=0.2).astype(np.float64), want, rtol=1e-6, atol=1e-6 * size + 1.5e-45)
            z = ours("geometric_median", x).astype(np.float64)
            self.assertLessEqual(distance_sum(x, z), distance_sum(x, x.astype(np.float64).mean(axis=0)) * (1 + 1e-6) + 1e-43)

    def test_half_of_each_kind_and_signed_zeros(self):
        x = np.array([[1.0, -0.0, 5.0], [1.0, 0.0, 5.0], [3.0, 0.0, -5.0], [3.0, -0.0, -5.0]], np.float32)
        for name in ("fedavg", "fedmedian", "trimmed_mean"):
            np.testing.assert_array_equal(ours(name, x, trim=0.25), [2, 0, 0])

    def test_ties_take_the_first(self):
        x = np.array([[0.0], [2.0], [0.0], [2.0]], np.float32)
        self.assertEqual(ours("krum", x, split=0)[0], 0.0)
        self.assertEqual(ours("krum", x[::-1], split=0)[0], 2.0)

    def test_an_attacker_moves_the_mean_and_none_of_the_others(self):
        rng = np.random.default_rng(11)
        good = rng.standard_normal((9, 200)).astype(np.float32)
        for attack in (np.full((2, 200), 1e6, np.float32), rng.standard_normal((2, 200)).astype(np.float32) * 1e4):
            x = np.vstack([good[:4], attack, good[4:]])
            self.assertGreater(np.abs(ours("fedavg", x)).max(), 100)
            for name in self.NAMES[1:]:
                with self.subTest(name=name):
                    self.assertLess(np.abs(ours(name, x, trim=0.2)).max(), 6)

    def test_a_hostile_sample_count_moves_none_but_the_mean(self):
        x = np.array([[0.0], [0.1], [0.2], [0.3], [0.4], [0.5], [100.0]], np.float32)
        samples = [10] * 6 + [2**40]
        self.assertGreater(ours("fedavg", x, samples, split=0)[0], 99)
        for name in self.NAMES[1:]:
            with self.subTest(name=name):
                self.assertLess(ours(name, x, samples, trim=0.2, split=0)[0], 1)

    def refused(self, reason, name, x, **kw):
        with self.assertRaisesRegex(ValueError, reason):
            ours(name, x, **kw)

    def test_too_few_for_the_stated_f(self):
        x = np.zeros((6, 3), np.float32)
        self.refused("krum against 2 hostile contributions needs at least 7, 6 came", "krum", x, byzantine=2)
        self.refused("multi_krum against 2 hostile .* at least 7", "multi_krum", x, byzantine=2)
        self.refused("bulyan against 1 hostile contributions needs at least 7, 6 came", "bulyan", x, byzantine=1)
        self.refused("averages 9 contributions, only 6 came", "multi_krum", x, selected=9)
        self.refused("nothing to aggregate", "krum", np.zeros((0, 3), np.float32))
        self.refused("trim is 0.5: from 0 to less than 0.5", "trimmed_mean", x, trim=0.5)
        self.refused("no aggregator 'fedsomething'", "fedsomething", x)


if __name__ == "__main__":
    unittest.main()
