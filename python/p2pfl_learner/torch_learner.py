# SPDX-License-Identifier: Apache-2.0
"""A PyTorch module. PyTorch is imported when one is made, so that the package needs it only then."""
import numpy as np

from .learner import Config, Evaluation, Fit, Learner


class TorchLearner(Learner):
    """model: a module whose forward takes a batch of inputs; what it returns goes to loss with the targets.

    train, test: a tuple of tensors or arrays (inputs, targets), or whatever a torch DataLoader takes.
    optimizer: called with the model's parameters at the start of each fit, so that no state of it outlives a round; default Adam with
    the configuration's learning rate. loss: default cross-entropy. accuracy(outputs, targets): how many are right; default: the
    largest output is the target's class.

    The parameters are the module's state_dict: buffers such as batch normalisation's are federated too.
    """

    steerable = True

    def __init__(self, model, train, test, config=None, optimizer=None, loss=None, accuracy=None, batch_size=None, device="cpu"):
        import torch

        config = config or Config()
        torch.set_num_threads(max(1, config.threads))
        self._torch, self._device = torch, device
        self.name = f"pytorch {torch.__version__}"
        self.model = model.to(device)
        self.batch_size = batch_size or config.batch_size
        self._optimizer = optimizer or (lambda p: torch.optim.Adam(p, lr=config.learning_rate))
        self._loss = loss or torch.nn.functional.cross_entropy
        self._accuracy = accuracy or (lambda outputs, targets: (outputs.argmax(dim=1) == targets).sum())
        self._train, self._test = self._tensors(train), self._tensors(test)

    def _tensors(self, data):
        if not (isinstance(data, tuple) and len(data) == 2):
            return data
        x, y = (self._torch.as_tensor(v).to(self._device) for v in data)
        return self._torch.utils.data.TensorDataset(x, y)

    def _batches(self, data, batch_size, generator=None):
        """Batches in order, or shuffled where there is a generator."""
        torch = self._torch
        if isinstance(data, torch.utils.data.TensorDataset):  # whole batches by index: a loader would take sample by sample
            order = torch.randperm(len(data), generator=generator) if generator else torch.arange(len(data))
            for picks in order.split(batch_size):
                yield data[picks]
            return
        for x, y in torch.utils.data.DataLoader(data, batch_size=batch_size, shuffle=generator is not None, generator=generator):
            yield x.to(self._device), y.to(self._device)

    def parameters(self):
        return {name: t.detach().cpu().numpy() for name, t in self.model.state_dict().items()}

    def set_parameters(self, parameters):
        self.model.load_state_dict({name: self._torch.from_numpy(np.ascontiguousarray(a)) for name, a in parameters.items()})

    def _pull(self):
        """What is added to the gradients of every batch: a list of functions."""
        mu, correction = self.steer
        named, torch = list(self.model.named_parameters()), self._torch
        start = {k: p.detach().clone() for k, p in named} if mu else {}
        extra = {k: torch.from_numpy(np.ascontiguousarray(correction[k])).to(self._device) for k, _ in named} if correction else {}

        def pull():
            with torch.no_grad():
                for k, p in named:
                    if p.grad is None:
                        continue
                    if mu:
                        p.grad.add_(p - start[k], alpha=mu)
                    if correction:
                        p.grad.add_(extra[k])

        return pull if mu or correction else lambda: None

    def fit(self, epochs, seed, progress):
        torch = self._torch
        torch.manual_seed(seed & (1 << 63) - 1)
        generator = torch.Generator().manual_seed(seed & (1 << 63) - 1)
        optimizer = self._optimizer(self.model.parameters())
        n, per_epoch = len(self._train), -(-len(self._train) // self.batch_size)
        steps, loss_sum, counter, normaliser = 0, 0.0, 0.0, 0.0
        group, pull = optimizer.param_groups[0], self._pull()
        is_sgd = type(optimizer) is torch.optim.SGD and not group["nesterov"] and not group["dampening"]
        self.model.train()
        for _ in range(epochs):
            loss_sum = 0.0
            for x, y in self._batches(self._train, self.batch_size, generator):
                optimizer.zero_grad()
                loss = self._loss(self.model(x), y)
                loss.backward()
                pull()
                optimizer.step()
                counter = group.get("momentum", 0.0) * counter + 1.0 if is_sgd else 0.0
                normaliser = normaliser * (1.0 - group["lr"] * self.steer.proximal_mu) + counter
                loss_sum += loss.item() * len(y)
                steps += 1
                progress(steps / (epochs * per_epoch))
        return Fit(loss_sum / n, n, steps, group["lr"], normaliser if is_sgd else 0.0)

    def evaluate(self, progress):
        loss_sum, right, n = 0.0, 0, len(self._test)
        self.model.eval()
        with self._torch.no_grad():
            done = 0
            for x, y in self._batches(self._test, max(self.batch_size, 1000)):
                outputs = self.model(x)
                loss_sum += self._loss(outputs, y).item() * len(y)
                right += int(self._accuracy(outputs, y))
                done += len(y)
                progress(done / n)
        return Evaluation(loss_sum / n, right / n, n)
