# SPDX-License-Identifier: Apache-2.0
"""What trains: the contract, what a node tells about itself, and arrays with two functions as the simplest of all."""
from dataclasses import dataclass, field
from typing import Callable, Dict, List, NamedTuple, Optional

import numpy as np


class Interrupted(Exception):
    """Raised by progress() when the node wants the job to end. Let it pass through."""


class Fit(NamedTuple):
    loss: float  # training loss of the last epoch
    n_samples: int  # the weight of this contribution, above 0
    n_steps: int = 0
    learning_rate: float = 0.0  # of the local optimiser; 0: not said
    normaliser: float = 0.0  # FedNova's ||a||; 0: not said


class Steer(NamedTuple):
    """What the aggregation asks of a fit."""

    proximal_mu: float = 0.0  # FedProx: mu/2 |w - start|^2 is added to the loss
    correction: Optional[Dict[str, np.ndarray]] = None  # SCAFFOLD: added to the gradient of every batch


class Evaluation(NamedTuple):
    loss: float
    accuracy: float  # share in [0, 1]
    n_samples: int = 0


@dataclass
class Config:
    """What the node's configuration says. A learner uses what it has a use for."""

    node: str = "node"
    dataset: str = ""
    dataset_path: str = ""
    partition: str = "iid"
    partition_params: Dict[str, str] = field(default_factory=dict)  # those that the partition has: {"alpha": "0.5", ...}
    part_index: int = 0  # this node's part of the data, of so many
    part_count: int = 1
    part_seed: int = 0
    reduction_factor: float = 1.0  # share of the part to use
    seed: int = 0  # of the initial parameters: the same on all nodes
    learning_rate: float = 1e-3
    batch_size: int = 128
    threads: int = 1
    hidden_sizes: List[int] = field(default_factory=list)
    params: Dict[str, str] = field(default_factory=dict)  # learner.params of the configuration

    def part(self, n):
        """The indices of this node's part of n samples: the same ones that a built-in learner with partition `iid` would have.
        ValueError for another partition: dividing for it is the learner's own affair."""
        from .parts import iid_part

        if self.partition != "iid":
            raise ValueError(f"config.part() divides for partition 'iid' alone; this node's is '{self.partition}' with {self.partition_params}")
        return iid_part(n, self.part_index, self.part_count, self.part_seed, self.reduction_factor)


Progress = Callable[[float], None]


class Learner:
    """progress(done) is to be called now and then, best after each batch, with the share that is done: it is the sign of life, and
    it raises Interrupted when the job is to end. The parameters' names, order and shapes never change."""

    name = "a learner in Python"
    steerable = False  # True: fit heeds self.steer, which is set before each one. FedProx and SCAFFOLD need that
    steer = Steer()

    def parameters(self) -> Dict[str, np.ndarray]:
        """The current parameters, in a fixed order. Floating-point arrays travel as float32, all others as int64."""
        raise NotImplementedError

    def set_parameters(self, parameters: Dict[str, np.ndarray]) -> None:
        """The arrays have the shapes and types of parameters(), and are the learner's to keep."""
        raise NotImplementedError

    def fit(self, epochs: int, seed: int, progress: Progress) -> Fit:
        """Trains from the current parameters; seed makes the order of samples reproducible."""
        raise NotImplementedError

    def evaluate(self, progress: Progress) -> Evaluation:
        """Of the current parameters, on test data."""
        raise NotImplementedError


class NumpyLearner(Learner):
    """Arrays and two functions.

    params: {name: array}, the initial ones.
    fit(params, epochs, seed, progress) changes the arrays in place and returns (loss, n_samples).
    evaluate(params) returns (loss, accuracy).
    """

    def __init__(self, params, fit, evaluate, name=f"numpy {np.__version__}"):
        self.name = name
        self._params = {k: np.array(v) for k, v in params.items()}
        self._fit, self._evaluate = fit, evaluate

    def parameters(self):
        return self._params

    def set_parameters(self, parameters):
        self._params = dict(parameters)

    def fit(self, epochs, seed, progress):
        return Fit(*self._fit(self._params, epochs, seed, progress))

    def evaluate(self, progress):
        return Evaluation(*self._evaluate(self._params))
