#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Aggregation and codecs as P2PFL does them, with NumPy: the commands of bench/tools/bench_compute.c, the same values.

fedavg: an accumulator for each layer, `accum + layer * num_samples` for each model, then a division (P2PFL's FedAvg). fedmedian:
np.median over the stacked layers (its FedMedian). krum: norms of differences, layer by layer, each pair twice (its Krum).
encode, decode: pickle of the list of arrays (its P2PFLModel.encode_parameters)."""
import json
import pickle
import sys
import time

import numpy as np

TENSORS = 10


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
                self.models.append(([layer.copy() for layer in np.split(flat, TENSORS)], 1000 + 17 * k))
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


def main():
    known = Models()
    for line in sys.stdin:
        what, *args = line.split()
        if what == "aggregate":
            models = known.get(int(args[1]), int(args[2]))
            work = {"fedavg": fedavg, "fedmedian": fedmedian, "krum": krum, "krum_p2pfl": krum}[args[0]]
            begun = time.process_time()
            result = work(models)
        else:
            layers = known.get(1, int(args[0]))[0][0]
            packed = pickle.dumps(layers)
            begun = time.process_time()
            result = pickle.dumps(layers) if what == "encode" else pickle.loads(packed)
        print(json.dumps({"seconds": time.process_time() - begun}), flush=True)
        del result


if __name__ == "__main__":
    main()
