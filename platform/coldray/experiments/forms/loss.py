"""What an approximate form costs: it and the exact one, fitted to the same draw of items, on validation data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
import scipy.sparse as sp

from coldray.core.errors import ColdrayError, ConfigError, EmptyDatasetError
from coldray.core.memory import most_that_fit
from coldray.evaluation.ratings import is_error
from coldray.experiments.evaluation import EvaluationFold, evaluate
from coldray.experiments.folds import prepare_tasks
from coldray.experiments.forms.settled import fit_memory
from coldray.experiments.listeners import StudyListener
from coldray.experiments.prepared import PreparedStudy
from coldray.experiments.space import StudyConfig
from coldray.models.base import ModelConfig, Recommender, TrainingSet
from coldray.models.forms import Form

_MOST_ITEMS = 5000
"""Items of the draw: as many as the exact form is quick on."""


def with_losses(study: PreparedStudy, parameters: Mapping[str, Any], listener: StudyListener) -> tuple[Form, ...]:
    """Return the forms of a study with the loss of the approximate ones, measured for `parameters` on the first split.

    A loss that cannot be measured costs nothing but itself: the form says why.
    """
    config, forms = study.config, study.settled.forms
    chosen = config.kind.config_type.model_validate(dict(parameters))
    if all(form.exact or form.loss is not None for form in forms) or config.kind.compared_forms(chosen, 1.0) is None:
        return forms
    listener.stage("measuring what the approximate form costs, on validation data of the first split")
    try:
        (task,) = prepare_tasks([study.tuning[0].fold], config).values()
        on_worker = _compared.options(num_gpus=config.search.gpus_per_trial)
        found = ray.get(on_worker.remote(task, config, dict(parameters), fit_memory()))
    except (ColdrayError, ray.exceptions.RayError) as error:
        cause = getattr(error, "cause", None) or error
        told = tuple(form if form.exact else replace(form, measured=f"not measured: {cause}") for form in forms)
    else:
        metric = config.selection.metric
        how = f"{metric} {found.approximate:.4f} against {found.exact:.4f} on a draw of {found.n_items:,} items"
        told = tuple(form if form.exact else replace(form, loss=found.loss(metric), measured=how) for form in forms)
    for form in told:
        if not form.exact:
            listener.stage(form.told)
    return told


@dataclass(frozen=True)
class _Compared:
    """The validation metric of both forms."""

    exact: float
    approximate: float
    n_items: int

    def loss(self, metric: str) -> float:
        """Return the share of the metric that is lost; below 0 where the approximation does better."""
        if self.exact == 0:
            return 0.0
        lost = 1 - self.approximate / self.exact
        return -lost if is_error(metric) else lost


@ray.remote(num_cpus=1, max_retries=0)
def _compared(task: EvaluationFold, config: StudyConfig, parameters: dict[str, Any], memory: int) -> _Compared:
    return _compare_forms(task, config, parameters, memory)


def _compare_forms(task: EvaluationFold, config: StudyConfig, parameters: dict[str, Any], memory: int) -> _Compared:
    """Fit both forms to a draw of the items, as many as the exact one fits for, and measure them.

    Raises
    ------
    EmptyDatasetError
        If no user of the draw has a known and a held-out click.
    """
    kind, n_items = config.kind, task.train.features.n_items
    chosen = kind.config_type.model_validate(parameters)
    n_users, exact = task.train.interactions.shape[0], kind(_both_forms(kind, chosen, 1.0)[0])
    most = min(n_items + 1, _MOST_ITEMS + 1)
    drawn = _draw_items(task, most_that_fit(lambda n: exact.memory_bytes(n_users, n), memory, most) / n_items)
    pair = _both_forms(kind, chosen, drawn.train.features.n_items / n_items)
    metric = config.selection.metric
    asked: dict[str, Any] = {"candidates": config.candidates, "cutoffs": config.cutoffs}
    options = config.fit.model_copy(update={"workers": 1}).options()  # for the exact form may have no more
    values = [evaluate(kind(one).fit(drawn.train, options=options), drawn, **asked).means()[metric] for one in pair]
    return _Compared(values[0], values[1], drawn.train.features.n_items)


def _both_forms(kind: type[Recommender[Any]], chosen: ModelConfig, share: float) -> tuple[ModelConfig, ModelConfig]:
    pair = kind.compared_forms(chosen, share)
    if pair is None:
        raise ConfigError(f"The model {kind.name!r} names no exact form to hold this one against.")
    return pair


def _draw_items(task: EvaluationFold, share: float) -> EvaluationFold:
    """Return a task on a `share` of the items, the same of those with train clicks, of the held-out and of the rest.

    Raises
    ------
    EmptyDatasetError
        If no user is left with a known and a held-out click.
    """
    train, generator = task.train, np.random.default_rng(task.seed)
    sides = np.zeros(train.features.n_items, np.int8)
    sides[train.warm_items], sides[task.held_out_items] = 1, 2
    kept = np.sort(np.concatenate([_some(np.flatnonzero(sides == side), share, generator) for side in range(3)]))
    place = np.full(len(sides), -1, np.int32)
    place[kept] = np.arange(len(kept))
    smaller = TrainingSet(
        _columns(train.interactions, kept), train.features.take(kept), f"{train.key}, a draw of items"
    )
    held_out = _columns(task.held_out, kept)
    given = None if task.given is None else _columns(task.given, kept)
    known = np.diff((smaller.interactions if given is None else given).indptr) > 0
    users = task.users[(known & (np.diff(held_out.indptr) > 0))[task.users]]
    if len(users) == 0:
        raise EmptyDatasetError(f"of {len(kept):,} items drawn, no user has both known and held-out ones")
    held = place[task.held_out_items]
    return replace(
        task,
        train=smaller,
        held_out=held_out,
        held_out_items=held[held >= 0],
        users=users,
        given=given,
        warming=None,
        is_mixed=False,
        unranked=None,
    )


def _some(items: npt.NDArray[np.intp], share: float, generator: np.random.Generator) -> npt.NDArray[np.intp]:
    return generator.choice(items, min(len(items), int(np.ceil(share * len(items)))), replace=False)


def _columns(matrix: sp.csr_array, items: npt.NDArray[np.intp]) -> sp.csr_array:
    return sp.csr_array(sp.csc_array(matrix)[:, items])
