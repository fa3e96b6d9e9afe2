"""Small tasks whose optimum, or whose gradient, is known."""

import os
import signal
from pathlib import Path

import numpy as np
import torch

from coldray.training.task import Loss, TrainingTask


class Regression(TrainingTask):
    """A noiseless linear regression: the loss can go to zero, and the weights to those planted."""

    name = "regression"
    metric = "fit"

    def __init__(self, n_examples=53, n_validation_users=7, *, dropout=0.0, batch_noise=0.0, kill=None):
        generator = np.random.default_rng(3)
        self.planted = np.array([1.0, -2.0, 3.0], np.float32)
        self.inputs = generator.normal(size=(n_examples, 3)).astype(np.float32)
        self.targets = self.inputs @ self.planted
        self.test_inputs = generator.normal(size=(n_validation_users, 3)).astype(np.float32)
        self.dropout, self.batch_noise = dropout, batch_noise
        self.kill = kill
        """A file: worker 1 kills itself in the middle of epoch 3 and leaves it behind, so that it does so once."""

    @property
    def n_examples(self):
        return len(self.inputs)

    @property
    def n_validation_users(self):
        return len(self.test_inputs)

    def build(self):
        return torch.nn.Sequential(torch.nn.Dropout(self.dropout), torch.nn.Linear(3, 1))

    def batch(self, examples, generator):
        inputs = torch.from_numpy(self.inputs.copy())[examples]
        noise = torch.randn(inputs.shape, generator=generator) * self.batch_noise
        return {"inputs": inputs + noise, "targets": torch.from_numpy(self.targets.copy())[examples]}

    def loss(self, module, batch, step):
        self._maybe_die(step)
        squared = (module(batch["inputs"])[:, 0] - batch["targets"]) ** 2
        return Loss(squared, {"half": squared / 2, "epoch": torch.full_like(squared, step.epoch)})

    def validate(self, module, users):
        inputs = torch.from_numpy(self.test_inputs[users])
        errors = module(inputs)[:, 0].numpy() - self.test_inputs[users] @ self.planted
        return {"fit": -(errors**2), "close": np.abs(errors) < 0.5}

    def _maybe_die(self, step):
        if self.kill is None or step.workers.rank != 1 or step.progress < 3.5 or Path(self.kill).exists():
            return
        Path(self.kill).touch()
        os.kill(os.getpid(), signal.SIGKILL)


class Telling(Regression):
    """Tells as a metric how many threads its worker may use, and diverges on worker 1 alone if asked to."""

    def __init__(self, *, diverges=False, **options):
        super().__init__(**options)
        self.diverges = diverges

    def loss(self, module, batch, step):
        loss = super().loss(module, batch, step)
        if self.diverges and step.progress > 2.5 and step.workers.rank == 1:
            return Loss(loss.per_example * float("nan"), loss.parts)
        return loss

    def validate(self, module, users):
        threads = np.full(users.stop - users.start, torch.get_num_threads())
        return {**super().validate(module, users), "threads": threads}


class Matching(TrainingTask):
    """Each example's two halves belong together; the loss of one looks at the second halves of all workers."""

    name = "matching"
    metric = "hit"

    def __init__(self, n_examples=23):
        generator = np.random.default_rng(8)
        self.left = generator.normal(size=(n_examples, 6)).astype(np.float32)
        self.right = (self.left @ generator.normal(size=(6, 6))).astype(np.float32)

    @property
    def n_examples(self):
        return len(self.left)

    @property
    def n_validation_users(self):
        return len(self.left)

    def build(self):
        return torch.nn.ModuleDict({"left": torch.nn.Linear(6, 6), "right": torch.nn.Linear(6, 6)}).double()

    def batch(self, examples, generator):
        return {
            "left": torch.from_numpy(self.left.copy())[examples].double(),
            "right": torch.from_numpy(self.right.copy())[examples].double(),
        }

    def loss(self, module, batch, step):
        others, start = step.workers.gather(module["right"](batch["right"]))
        scores = module["left"](batch["left"]) @ others.T
        mine = torch.arange(start, start + len(scores))
        return Loss(torch.nn.functional.cross_entropy(scores, mine, reduction="none"))

    def validate(self, module, users):
        scores = (
            module["left"](torch.from_numpy(self.left[users]).double())
            @ module["right"](torch.from_numpy(self.right).double()).T
        )
        return {"hit": (scores.argmax(1).numpy() == np.arange(len(self.left))[users]).astype(np.float64)}


class Awkward(Matching):
    """The same with a buffer that every worker would change in its own way, and parameters few batches touch."""

    def __init__(self, n_examples=23, *, diverges=False):
        super().__init__(n_examples)
        self.diverges = diverges

    def build(self):
        module = super().build()
        module.register_buffer("seen", torch.zeros(()))
        module.register_parameter("rare", torch.nn.Parameter(torch.ones((), dtype=torch.float64)))
        module.register_parameter("never", torch.nn.Parameter(torch.ones(3, dtype=torch.float64)))
        return module

    def loss(self, module, batch, step):
        loss = super().loss(module, batch, step).per_example
        if len(loss):
            module.seen.add_(float(step.workers.rank + 1))
            loss = loss + module.rare**2
        if self.diverges and step.workers.rank == 1 and step.progress > 0.6:
            loss = loss + float("nan") * module.rare
        return Loss(loss)
