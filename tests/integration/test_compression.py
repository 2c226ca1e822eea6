# SPDX-License-Identifier: Apache-2.0
# once: dev
# timeout: 120
"""Each technique of compression beside the same written with NumPy, on random and on awkward models."""
import os
import struct
import subprocess
import unittest

import numpy as np

TOOL = os.path.join(os.environ["P2PFL_BUILD"], "compress")
SHAPES = [(1,), (7,), (64, 40), (1, 9), (8, 3, 10)]


def ours(steps, bases, models):
    """(rounds, values) of w and b, and the sizes of the messages. models: a list of (w, b) for each round."""
    shape = models[0][0].shape
    data = b"".join(np.concatenate([a.ravel() for a in m]).astype("<f4").tobytes() for pair in zip(bases, models) for m in pair)
    argv = [TOOL, steps, str(len(models)), str(len(shape)), *(str(s) for s in (tuple(shape) + (1, 1))[:3])]
    r = subprocess.run(argv, input=data, capture_output=True, check=False)
    if r.returncode:
        raise ValueError(r.stderr.decode().strip())
    n, out, sizes, at = int(np.prod(shape)) + 2, [], [], 0
    for _ in models:
        sizes.append(struct.unpack_from("<Q", r.stdout, at)[0])
        values = np.frombuffer(r.stdout, "<f4", n, at + 8)
        out.append((values[:-2].reshape(shape), values[-2:]))
        at += 8 + 4 * n
    assert at == len(r.stdout)
    return out, sizes


def one(steps, base, w):
    b = np.array([0.25, -0.5], np.float32)
    out, sizes = ours(steps, [(base, b)], [(w, b + np.float32(0.125))])
    return out[0][0], sizes[0]


def cases(seed):
    rng = np.random.default_rng(seed)
    for shape in SHAPES:
        for scale in (1e-6, 1e3) if seed % 2 else (1.0,):
            base = rng.standard_normal(shape).astype(np.float32)
            delta = rng.standard_normal(shape) * scale
            yield base, (base + delta).astype(np.float32)
    zero = np.zeros((4, 6), np.float32)
    yield zero, zero
    yield zero, np.full((4, 6), 3.0, np.float32)
    yield zero, np.full((4, 6), -1e-42, np.float32)
    yield zero, np.where(np.arange(24).reshape(4, 6) % 5 == 0, 1e30, 1e-30).astype(np.float32)
    yield zero, np.where(np.arange(24).reshape(4, 6) % 2 == 0, 3e38, -3e38).astype(np.float32)


def plus(base, delta):
    return (base.astype(np.float64) + delta.astype(np.float32).astype(np.float64)).astype(np.float32)


def minus(w, base):
    return (w.astype(np.float64) - base.astype(np.float64)).astype(np.float32)


def np_topk(x, share):
    flat = x.ravel()
    k = min(max(1, int(np.ceil(share * flat.size - 1e-9))), flat.size)
    order = np.argsort(-np.abs(flat), kind="stable")[:k]
    out = np.zeros_like(flat)
    out[order] = flat[order]
    return out.reshape(x.shape)


def np_quantized(x, dtype, asymmetric, axis=None):
    lo, hi = {"I8": (-128, 127), "U8": (0, 255), "I16": (-32768, 32767)}[dtype]
    over = None if axis is None or x.ndim < 2 else tuple(i for i in range(x.ndim) if i != axis)
    x64 = x.astype(np.float64)
    if asymmetric:
        low, high = np.minimum(x64.min(axis=over, keepdims=True), 0), np.maximum(x64.max(axis=over, keepdims=True), 0)
        s = ((high - low) / (hi - lo)).astype(np.float32).astype(np.float64)
        zero = np.where(s > 0, lo + np.rint(np.divide(-low, s, out=np.zeros_like(s), where=s > 0)), 0)
    else:
        s = (np.abs(x).max(axis=over, keepdims=True).astype(np.float64) / (32767 if dtype == "I16" else 127)).astype(np.float32).astype(np.float64)
        zero = np.full(s.shape, 128.0 if dtype == "U8" else 0.0)
    q = np.where(s > 0, np.rint(np.divide(x64, s, out=np.zeros_like(x64), where=s > 0)), 0)
    return ((np.clip(q + zero, lo, hi) - zero) * s).astype(np.float32)


class Lossless(unittest.TestCase):
    def test_bytes_come_back(self):
        for steps in ("zlib", "lzma", "zstd"):
            for base, w in cases(1):
                with self.subTest(steps=steps, shape=w.shape):
                    np.testing.assert_array_equal(one(steps, base, w)[0], w)

    def test_zeros_are_small(self):
        z = np.zeros((100, 1000), np.float32)
        for steps in ("zlib", "lzma", "zstd"):
            self.assertLess(one(steps, z, z)[1], 2000)


class TopK(unittest.TestCase):
    def test_as_numpy_with_ties(self):
        rng = np.random.default_rng(5)
        for share in (0.01, 0.1, 0.5, 1.0):
            for base, w in cases(2):
                with self.subTest(share=share, shape=w.shape):
                    np.testing.assert_array_equal(one(f"topk:{share}", base, w)[0], plus(base, np_topk(minus(w, base), share)))
            ties = rng.integers(-2, 3, (9, 11)).astype(np.float32)
            np.testing.assert_array_equal(one(f"topk:{share}", np.zeros_like(ties), ties)[0], np_topk(ties, share))

    def test_error_feedback_over_rounds(self):
        rng = np.random.default_rng(6)
        base, residual = np.zeros((20, 30), np.float32), np.zeros((20, 30), np.float32)
        bases, models, want = [], [], []
        for _ in range(10):
            delta = rng.standard_normal((20, 30)).astype(np.float32)
            bases.append((base, np.zeros(2, np.float32)))
            models.append((delta, np.zeros(2, np.float32)))
            target = delta + residual
            sent = np_topk(target, 0.1)
            residual = target - sent
            want.append(sent)
        got, sizes = ours("topk:0.1", bases, models)
        for g, w in zip(got, want):
            np.testing.assert_allclose(g[0], w, rtol=1e-6, atol=1e-7)
        # What is left out comes later: the sum of what was sent and what is left is the sum of all.
        total = sum(m[0].astype(np.float64) for m in models)
        np.testing.assert_allclose(sum(g[0].astype(np.float64) for g in got) + residual, total, atol=1e-4)
        self.assertLess(max(sizes), 4 * 600 * 0.6)  # a tenth of the values, a bit for each position, the header
        forgetful, _ = ours("topk:0.1:forget", bases, models)
        np.testing.assert_array_equal(forgetful[3][0], np_topk(models[3][0], 0.1))


class LowRank(unittest.TestCase):
    def test_the_energy_is_kept(self):
        rng = np.random.default_rng(8)
        for m, n, r in ((40, 30, 3), (30, 40, 1), (200, 50, 8)):
            base = rng.standard_normal((m, n)).astype(np.float32)
            delta = rng.standard_normal((m, r)) @ rng.standard_normal((r, n)) + 0.01 * rng.standard_normal((m, n))
            w = (base + delta).astype(np.float32)
            for share in (0.5, 0.9, 0.999):
                got, size = one(f"low_rank:{share}", base, w)
                s = np.linalg.svd(minus(w, base).astype(np.float64), compute_uv=False)
                energy = np.cumsum(s**2) / np.sum(s**2)
                rank = int(np.argmax(energy >= share)) + 1
                lost = np.sum((minus(w, base) - minus(got, base)).astype(np.float64) ** 2) / np.sum(s**2)
                self.assertAlmostEqual(lost, 1 - energy[rank - 1], delta=2e-6)
                self.assertLess(size, 4 * rank * (m + n) + 1000)

    def test_zeros_ties_and_the_ends_of_the_range(self):
        rng = np.random.default_rng(15)
        thin = rng.standard_normal((40, 2)) @ rng.standard_normal((2, 30))
        zero = np.zeros((40, 30), np.float32)
        np.testing.assert_array_equal(one("low_rank:0.95", zero, zero)[0], zero)
        for size in (1e-35, 1.0, 1e30):
            w = (thin / np.abs(thin).max() * size).astype(np.float32)
            got, bytes_sent = one("low_rank:0.999999", zero, w)
            np.testing.assert_allclose(got, w, rtol=0, atol=2e-3 * size)
            self.assertLess(bytes_sent, 4 * 2 * 70 + 1000)
        ties = np.zeros((40, 30), np.float32)
        ties[:4, :4] = np.eye(4)  # four equal singular values: 0.7 of the energy needs three of them, whichever
        got, _ = one("low_rank:0.7", zero, ties)
        self.assertAlmostEqual(np.sum(got.astype(np.float64) ** 2), 3.0, delta=1e-4)

    def test_what_would_not_be_smaller_stays(self):
        for base, w in cases(9):
            if w.ndim == 1 or min(w.shape[0], w.size // w.shape[0]) == 1:
                np.testing.assert_array_equal(one("low_rank:0.9", base, w)[0], plus(base, minus(w, base)))
        w = np.random.default_rng(3).standard_normal((10, 10)).astype(np.float32)
        np.testing.assert_array_equal(one("low_rank:1.0", np.zeros_like(w), w)[0], w)


class Quantized(unittest.TestCase):
    def test_float16(self):
        for base, w in cases(10):
            d = np.clip(minus(w, base), -65504, 65504).astype(np.float16).astype(np.float32)
            np.testing.assert_array_equal(one("ptq:F16", base, w)[0], plus(base, d))

    def test_every_float16_value(self):
        h = np.arange(0x7c00, dtype=np.uint16).view(np.float16).astype(np.float32)
        w = np.concatenate([h, -h, (h[:-1] + h[1:]) / 2, np.nextafter((h[:-1] + h[1:]) / 2, np.float32(np.inf))])
        z = np.zeros_like(w)
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(one("ptq:F16", z, w)[0], np.clip(w, -65504, 65504).astype(np.float16).astype(np.float32))

    def test_bfloat16(self):
        for base, w in cases(11):
            u = minus(w, base).view(np.uint32).astype(np.uint64)
            d = (((u + 0x7fff + (u >> 16 & 1)) >> 16) << 16).astype(np.uint32).view(np.float32)
            np.testing.assert_array_equal(one("ptq:BF16", base, w)[0], plus(base, d))

    def test_integers(self):
        for dtype in ("I8", "U8", "I16"):
            for mode in ("", ":asymmetric"):
                for axis, suffix in ((None, ""), (0, ":channel"), (1, ":channel:axis1")):
                    for base, w in cases(12):
                        with self.subTest(dtype=dtype, mode=mode, axis=axis, shape=w.shape):
                            got = one(f"ptq:{dtype}{mode}{suffix}", base, w)[0]
                            d = minus(w, base)
                            want = plus(base, np_quantized(d, dtype, bool(mode), axis))
                            # A value half way between two steps may go either way.
                            step = 1.01 * 2 * np.abs(d).max() / (65535 if dtype == "I16" else 255) if got.size else 0
                            self.assertLessEqual(np.mean(got != want), 0.02)
                            self.assertLessEqual(np.abs(got.astype(np.float64) - want).max(), step + 1e-6 * np.abs(want).max())

    def test_int8_is_a_quarter(self):
        w = np.random.default_rng(0).standard_normal((200, 300)).astype(np.float32)
        self.assertLess(one("ptq:I8", np.zeros_like(w), w)[1], w.nbytes / 3.9)


class Together(unittest.TestCase):
    def test_in_order(self):
        rng = np.random.default_rng(4)
        base = rng.standard_normal((60, 50)).astype(np.float32)
        w = base + rng.standard_normal((60, 50)).astype(np.float32)
        kept = np_topk(minus(w, base), 0.2)
        values = kept[kept != 0]
        want = kept.copy()
        want[kept != 0] = np_quantized(values, "I8", False)
        for bytes_step in ("", ",zlib", ",lzma", ",zstd"):
            got, size = one(f"topk:0.2:forget,ptq:I8{bytes_step}", base, w)
            np.testing.assert_allclose(minus(got, base), want, atol=0.03)
            self.assertLess(size, w.nbytes / 6)

    def test_topk_of_factors(self):
        w = np.outer(np.arange(1, 61), np.arange(1, 51)).astype(np.float32) / 3000
        got, size = one("low_rank:0.999,topk:1.0,ptq:I16,zstd", np.zeros_like(w), w)
        np.testing.assert_allclose(got, w, atol=2e-4)
        self.assertLess(size, w.nbytes / 8)

    def test_what_cannot_be(self):
        x = np.zeros((2, 2), np.float32)
        for steps, reason in (("ptq,topk", "topk comes behind ptq"), ("zlib,ptq", "ptq comes behind zlib"), ("zlib,zstd", "zstd comes behind zlib"),
                              ("topk,topk", "topk comes twice"), ("topk,dp", "dp must come first"), ("topk:0", "k is 0"), ("ptq:I64", "float16, bfloat16")):
            with self.assertRaisesRegex(ValueError, reason):
                one(steps, x, x)


class Privacy(unittest.TestCase):
    def test_clipped_and_noisy(self):
        rng = np.random.default_rng(1)
        base = np.zeros((300, 400), np.float32)
        for kind, sigma in (("", 0.5), (":laplace", 0.01)):
            for scale in (1e-5, 10.0):
                w = (rng.standard_normal(base.shape) * scale).astype(np.float32)
                got = one(f"dp:{sigma}{kind}", base, w)[0].astype(np.float64)
                norm = np.abs(w.astype(np.float64)).sum() + 0.25 if kind else np.sqrt((w.astype(np.float64) ** 2).sum() + 2 * 0.125**2)
                noise = got - w * min(1.0, 1.0 / norm)
                std = sigma * (np.sqrt(2) if kind else 1.0)
                self.assertAlmostEqual(noise.std(), std, delta=0.02 * std)
                self.assertAlmostEqual(noise.mean(), 0, delta=5 * std / np.sqrt(noise.size))
                tail = np.mean(np.abs(noise) > 2 * std)
                self.assertAlmostEqual(tail, 0.0591 if kind else 0.0455, delta=0.004)

    def test_never_the_same_noise(self):
        w = np.zeros((10, 10), np.float32)
        self.assertTrue(np.any(one("dp:1.0", w, w)[0] != one("dp:1.0", w, w)[0]))


if __name__ == "__main__":
    unittest.main()
