# SPDX-License-Identifier: Apache-2.0
"""Trains a model behind a p2pfl node. A program calls serve(build); build(config) returns what trains:

    TorchLearner(model, train, test, config=config)     a PyTorch module
    SklearnLearner(estimator, train, test, ...)          a scikit-learn estimator with partial_fit
    NumpyLearner(params, fit, evaluate)                  arrays and two functions
    or a subclass of Learner
"""
from .learner import Config, Evaluation, Fit, Interrupted, Learner, NumpyLearner, Steer
from .server import serve
from .sklearn_learner import SklearnLearner
from .torch_learner import TorchLearner

__all__ = ["Config", "Evaluation", "Fit", "Interrupted", "Learner", "NumpyLearner", "SklearnLearner", "Steer", "TorchLearner", "serve"]
__version__ = "0.1.0"
