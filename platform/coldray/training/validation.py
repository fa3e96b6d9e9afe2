"""Validation metrics over users that several workers share.

Notation used for shapes: n users of one worker, U users of all workers, m metrics.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from coldray.core.errors import ModelError, NumericalError
from coldray.core.spelling import choices
from coldray.training.batches import share
from coldray.training.cluster.workers import WorkerGroup
from coldray.training.row_random import Purpose, derived_seed, seed_default_generator
from coldray.training.task import TrainingTask


@dataclass(frozen=True)
class Evaluation:
    """How well a module does on the validation users."""

    metrics: Mapping[str, float]
    """Means over all users."""
    per_user: Mapping[str, npt.NDArray[np.float64]]
    """Metrics of each user ``[U]``, in the task's order."""


def evaluate_module(
    task: TrainingTask, module: torch.nn.Module, workers: WorkerGroup, device: torch.device, seed: int = 0
) -> Evaluation:
    """Return the metrics of all validation users, on every worker.

    Each worker computes its share; the users' values are gathered and only then averaged, so that the mean does not
    depend on who computed what. What a task draws is the same in every validation.

    Raises
    ------
    ModelError
        If the task returns other shapes, or other metrics on one worker than on another.
    NumericalError
        If the metric of a user is not finite: every user counts, none is left out of a mean.
    """
    users = share(task.n_validation_users, workers.rank, workers.size)
    training = module.training
    module.eval()
    seed_default_generator(derived_seed(seed, Purpose.VALIDATION, rank=workers.rank), device)
    try:
        with torch.no_grad():
            mine = task.validate(module, users) if users.stop > users.start else {}
    finally:
        module.train(training)
    names: list[str] = json.loads(workers.text_of_first(json.dumps(sorted(mine)), device))
    values = _table(task, mine, names, users.stop - users.start)
    gathered, _ = workers.gather(torch.from_numpy(values).to(device))
    per_user = dict(zip(names, gathered.cpu().numpy().T.copy(), strict=True))
    _require_finite(per_user)
    return Evaluation({name: float(column.mean()) for name, column in per_user.items()}, per_user)


def _table(
    task: TrainingTask, metrics: Mapping[str, npt.NDArray[Any]], names: list[str], n: int
) -> npt.NDArray[np.float64]:
    """Return one row a user ``[n, m]``."""
    if n and sorted(metrics) != names:
        raise ModelError(f"{task.name} validates {choices(metrics)} on one worker and {choices(names)} on another.")
    if task.metric not in names:
        raise ModelError(f"{task.name} stops by {task.metric!r}, but validates only {choices(names)}.")
    for name, column in metrics.items():
        if np.shape(column) != (n,):
            raise ModelError(
                f"{task.name}: metric {name!r} of {n} users has shape {list(np.shape(column))}; it must be [{n}]."
            )
    return (
        np.stack([np.asarray(metrics[name], np.float64) for name in names], axis=1) if n else np.empty((0, len(names)))
    )


def _require_finite(per_user: Mapping[str, npt.NDArray[np.float64]]) -> None:
    for name, column in per_user.items():
        bad = np.flatnonzero(~np.isfinite(column))
        if len(bad):
            raise NumericalError(
                f"Metric {name!r} is {column[bad[0]]} for {len(bad)} of {len(column)} validation users, user {bad[0]} "
                "first. Leave users whose metric is not defined out of the validation."
            )
