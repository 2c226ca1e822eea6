#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The built-in MLP, 784-256-128-10 with Adam, in PyTorch: the same names, shapes and parts of the data, so that nodes with the one and
nodes with the other can be in one federation. Started by `p2pfl run pytorch`."""
import sys
from pathlib import Path

try:
    import p2pfl_learner  # noqa: F401 - pip install ./python
except ImportError:  # from the source tree, without installing it
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))

import torch

from p2pfl_learner import TorchLearner, serve
from p2pfl_learner.parts import load_images


class Mlp(torch.nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)


def build(config):
    train, test = load_images(config)
    torch.manual_seed(config.seed & (1 << 63) - 1)
    model = Mlp([train[0].shape[1], *config.hidden_sizes, 10])
    return TorchLearner(model, train, test, config=config)


serve(build)
