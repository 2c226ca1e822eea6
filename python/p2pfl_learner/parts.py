# SPDX-License-Identifier: Apache-2.0
"""The parts of a data set as the nodes themselves draw them, and the files that MNIST and its kind come in. With the same
part_seed, a learner in Python and a built-in one beside it never have a sample in common."""
import gzip
import os

import numpy as np

_MASK = (1 << 64) - 1


class _Rng:
    """xoshiro256** seeded by splitmix64 (Blackman and Vigna 2018), as src/base/rng.c."""

    def __init__(self, seed, name):
        h = 0xCBF29CE484222325
        for byte in name.encode():
            h = (h ^ byte) * 0x100000001B3 & _MASK
        x = self._split(seed & _MASK)[0] ^ h
        self.s = []
        for _ in range(4):
            value, x = self._split(x)
            self.s.append(value)

    @staticmethod
    def _split(x):
        x = x + 0x9E3779B97F4A7C15 & _MASK
        z = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK
        return z ^ z >> 31, x

    def u64(self):
        s = self.s
        r = s[1] * 5 & _MASK
        result = (r << 7 & _MASK | r >> 57) * 9 & _MASK
        t = s[1] << 17 & _MASK
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = s[3] << 45 & _MASK | s[3] >> 19
        return result

    def below(self, n):
        reject = (1 << 64) % n
        while True:
            x = self.u64()
            if x >= reject:
                return x % n

    def shuffle(self, items):
        for i in range(len(items), 1, -1):
            j = self.below(i)
            items[i - 1], items[j] = items[j], items[i - 1]


def iid_part(n, part_index, part_count, part_seed, reduction_factor=1.0):
    """Indices of an equal part of n shuffled samples."""
    if not 0 <= part_index < part_count:
        raise ValueError(f"part {part_index} of {part_count}")
    order = list(range(n))
    if part_count > 1 or reduction_factor < 1.0:
        _Rng(part_seed, "partition").shuffle(order)
    start, end = n * part_index // part_count, n * (part_index + 1) // part_count
    return np.array(order[start:start + int((end - start) * reduction_factor)], dtype=np.int64)


_FOLDERS = {"fashion-mnist": "/usr/share/datasets/fashion-mnist", "mnist": "data/mnist"}


def read_idx(path):
    """An IDX file of bytes, plain or with .gz behind its name."""
    opener = open if os.path.exists(path) else gzip.open
    with opener(path if opener is open else path + ".gz", "rb") as f:
        data = f.read()
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is no IDX file of bytes")
    shape = np.frombuffer(data, ">u4", data[3], 4).astype(np.int64)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def load_images(config):
    """((x, y), (x, y)): this node's part of the training set, and the whole test set, of config.dataset. x is (n, pixels) float32 in
    [0, 1], y is int64."""
    folder = config.dataset_path or _FOLDERS.get(config.dataset)
    if not folder:
        raise ValueError(f"no folder is known for the data set {config.dataset!r}: set dataset_path")
    sets = []
    for kind in ("train", "t10k"):
        images = read_idx(os.path.join(folder, f"{kind}-images-idx3-ubyte"))
        labels = read_idx(os.path.join(folder, f"{kind}-labels-idx1-ubyte"))
        picks = config.part(len(images)) if kind == "train" else slice(None)
        x = images[picks].reshape(-1, images.shape[1] * images.shape[2]).astype(np.float32) / np.float32(255)
        sets.append((x, labels[picks].astype(np.int64)))
    return tuple(sets)
