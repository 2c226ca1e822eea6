#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Aggregation and codecs as P2PFL does them, with NumPy: the commands of bench/tools/bench_compute.c, the same values.

fedavg: an accumulator for each layer, `accum + layer * num_samples` for each model, then a division (P2PFL's FedAvg). fedmedian:
np.median over the stacked layers (its FedMedian). krum: norms of differences, layer by layer, each pair twice (its Krum).
encode, decode: pickle of the list of arrays (its P2PFLModel.encode_parameters).
compress, decompress: its techniques (float16 and symmetric int8 by rounding to a scale, the largest tenth, a truncated SVD, zlib and
lzma of the pickle), on the difference to another model where p2pfl takes one."""
import json
import lzma
import pickle
import sys
import time
import zlib

import numpy as np

TENSORS, COLUMNS = 10, 100


def values(seed, n):
    """bench_compute.c's generator, vectorised: state_i = a^i * state_0 + c * (a^i - 1) / (a - 1) modulo 2^32, by doubling."""
    a, c = np.ones(1, np.uint32), np.zeros(1, np.uint32)
    step_a, step_c = np.uint32(1664525), np.uint32(1013904223)
    with np.errstate(over="ignore"):
        while len(a) < n + 1:
            a, c = np.concatenate([a, a * step_a]), np.concatenate([c, c * step_a + step_c])
            step_a, step_c = step_a * step_a, step_a * step_c + step_c
        state = a[1:n + 1] * np.uint32((seed * 2654435761 + 1) % 2**32) + c[1:n + 1]
    return (state / 4294967296.0 - 0.5).astype(np.float32)


class Models:
    def __init__(self):
        self.key, self.models = None, []

    def get(self, n, d):
        if self.key != (n, d):
            self.models = []
            for k in range(n):
                flat = values(k + 1, d // TENSORS * TENSORS)
                self.models.append(([layer.reshape(-1, COLUMNS).copy() for layer in np.split(flat, TENSORS)], 1000 + 17 * k))
            self.key = (n, d)
        return self.models


def fedavg(models):
    accum = [np.zeros_like(layer) for layer in models[0][0]]
    for layers, n_samples in models:
        for i, layer in enumerate(layers):
            accum[i] = np.add(accum[i], layer * n_samples)
    total = sum(n for _, n in models)
    return [np.divide(layer, total) for layer in accum]


def fedmedian(models):
    return [np.median(np.array([layers[i] for layers, _ in models]), axis=0) for i in range(TENSORS)]


def krum(models):
    distances = [[0.0] * len(models) for _ in models]
    for i, (a, _) in enumerate(models):
        for j, (b, _) in enumerate(models):
            if i != j:
                distances[i][j] = sum(np.linalg.norm(x - y) for x, y in zip(a, b))
    return models[int(np.argmin(np.sum(distances, axis=1)))][0]


def pack_int8(x):
    scale = np.abs(x).max() / 127 or 1.0
    return np.clip(np.round(x / scale), -127, 127).astype(np.int8), scale


def pack_topk(x):
    flat = x.ravel()
    at = np.argpartition(np.abs(flat), -max(1, flat.size // 10))[-max(1, flat.size // 10):].astype(np.int32)
    return flat[at], at


def unpack_topk(packed, like):
    out = np.zeros(like.size, np.float32)
    out[packed[1]] = packed[0]
    return out.reshape(like.shape)


def pack_low_rank(x):
    u, s, v = np.linalg.svd(x, full_matrices=False)
    r = int(np.searchsorted(np.cumsum(s * s) / np.sum(s * s), 0.5)) + 1
    return u[:, :r] * s[:r], v[:r]


LOSSY = {"float16": (lambda x: x.astype(np.float16), lambda p, like: p.astype(np.float32)),
         "int8": (pack_int8, lambda p, like: p[0].astype(np.float32) * np.float32(p[1])),
         "topk": (pack_topk, unpack_topk), "low_rank": (pack_low_rank, lambda p, like: p[0] @ p[1])}
BYTES = {"zlib": (lambda b: zlib.compress(b, 6), zlib.decompress), "lzma": (lambda b: lzma.compress(b, preset=6), lzma.decompress)}


def compress(name, base, layers):
    if name in BYTES:
        return BYTES[name][0](pickle.dumps(layers))
    return pickle.dumps([LOSSY[name][0](x - b) for x, b in zip(layers, base)])


def decompress(name, base, packed):
    if name in BYTES:
        return pickle.loads(BYTES[name][1](packed))
    return [b + LOSSY[name][1](p, b) for p, b in zip(pickle.loads(packed), base)]


def main():
    known = Models()
    for line in sys.stdin:
        what, *args = line.split()
        if what == "aggregate":
            models = known.get(int(args[1]), int(args[2]))
            work = {"fedavg": fedavg, "fedmedian": fedmedian, "krum": krum, "krum_p2pfl": krum}[args[0]]
            begun = time.process_time()
            result = work(models)
        elif what in ("compress", "decompress"):
            (base, _), (layers, _) = known.get(2, int(args[1]))
            packed = compress(args[0], base, layers) if what == "decompress" else None
            begun = time.process_time()
            result = compress(args[0], base, layers) if what == "compress" else decompress(args[0], base, packed)
        else:
            layers = known.get(1, int(args[0]))[0][0]
            packed = pickle.dumps(layers)
            begun = time.process_time()
            result = pickle.dumps(layers) if what == "encode" else pickle.loads(packed)
        print(json.dumps({"seconds": time.process_time() - begun}), flush=True)
        del result


if __name__ == "__main__":
    main()
