# SPDX-License-Identifier: Apache-2.0
"""A scikit-learn classifier with partial_fit."""
import numpy as np

from .learner import Config, Evaluation, Fit, Learner

_KNOWN = (("coef_", "intercept_"), ("coefs_", "intercepts_"))


class SklearnLearner(Learner):
    """estimator: a classifier with partial_fit whose parameters are arrays, or lists of arrays, in attributes.

    train, test: (inputs, targets). classes: all classes of the federation; default those of the test targets. attributes: the
    parameters' names; default coef_ and intercept_ (linear models), coefs_ and intercepts_ (MLPClassifier). What else the estimator
    keeps (a step counter, moments) stays with this node. loss: log loss where the estimator has predict_proba, else the error rate.
    """

    def __init__(self, estimator, train, test, config=None, classes=None, attributes=None, batch_size=None):
        import sklearn

        config = config or Config()
        self.name = f"scikit-learn {sklearn.__version__}, {type(estimator).__name__}"
        self.estimator, self._train, self._test = estimator, train, test
        self._classes = np.unique(test[1]) if classes is None else np.asarray(classes)
        self.batch_size = batch_size or config.batch_size
        n = min(len(train[1]), self.batch_size)
        estimator.partial_fit(train[0][:n], train[1][:n], classes=self._classes)  # its arrays are made by that
        found = [names for names in _KNOWN if all(hasattr(estimator, name) for name in names)]
        if not attributes and not found:
            raise TypeError(f"{type(estimator).__name__}: say in `attributes` which ones are its parameters")
        self._attributes = tuple(attributes or found[0])
        if self._attributes == _KNOWN[0]:  # a linear model begins at zero, not at what one batch has made of it
            for name in self._attributes:
                getattr(estimator, name)[...] = 0

    def parameters(self):
        out = {}
        for name in self._attributes:
            value = getattr(self.estimator, name)
            if isinstance(value, list):
                out.update({f"{name}.{i}": np.asarray(a) for i, a in enumerate(value)})
            else:
                out[name] = np.asarray(value)
        return out

    def set_parameters(self, parameters):
        for name in self._attributes:
            old = getattr(self.estimator, name)
            if isinstance(old, list):
                for i in range(len(old)):  # in place: an optimiser may hold them
                    old[i][...] = parameters[f"{name}.{i}"]
            else:
                setattr(self.estimator, name, parameters[name])

    def fit(self, epochs, seed, progress):
        x, y = self._train
        rng = np.random.default_rng(seed)
        n, steps = len(y), 0
        total = max(1, epochs * -(-n // self.batch_size))
        for _ in range(epochs):
            order = rng.permutation(n)
            for at in range(0, n, self.batch_size):
                picks = order[at:at + self.batch_size]
                self.estimator.partial_fit(x[picks], y[picks])
                steps += 1
                progress(steps / total)
        return Fit(self._loss(x, y), n, steps)

    def _loss(self, x, y):
        if not hasattr(self.estimator, "predict_proba"):
            return float(np.mean(self.estimator.predict(x) != y))
        p = self.estimator.predict_proba(x)
        right = p[np.arange(len(y)), np.searchsorted(self._classes, y)]
        return float(-np.mean(np.log(np.clip(right, 1e-15, 1.0))))

    def evaluate(self, progress):
        x, y = self._test
        accuracy = float(np.mean(self.estimator.predict(x) == y))
        progress(0.5)
        return Evaluation(self._loss(x, y), accuracy, len(y))
