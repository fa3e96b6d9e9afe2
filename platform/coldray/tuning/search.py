"""From a study file to the search space, the search algorithm and the scheduler of Ray Tune."""

from __future__ import annotations

from typing import Any, Literal

import optuna
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import BasicVariantGenerator, ConcurrencyLimiter, Searcher
from ray.tune.search.optuna import OptunaSearch
from ray.tune.search.search_algorithm import SearchAlgorithm

from coldray.evaluation.ratings import is_error
from coldray.tuning.space import StudyConfig, is_range

STARTUP_TRIALS = 10
"""Random trials before TPE has enough to model."""


def search_space(config: StudyConfig) -> dict[str, Any]:
    """Return the parameters as Ray Tune domains."""
    return {name: _domain(spec, grid=config.search.algorithm == "grid") for name, spec in config.space.items()}


def _domain(spec: Any, *, grid: bool) -> Any:
    if not is_range(spec):
        return spec
    kind, values = next(iter(spec.items()))
    if kind == "choice":
        return tune.grid_search(values) if grid else tune.choice(values)
    low, high = values
    if kind == "int_uniform":
        return tune.randint(int(low), int(high) + 1)  # both ends belong to the range
    return tune.loguniform(low, high) if kind == "log_uniform" else tune.uniform(low, high)


def search_algorithm(config: StudyConfig) -> Searcher | SearchAlgorithm:
    """Return the search algorithm, seeded.

    Optuna proposes `max_concurrent` configurations together and waits for all of them, so that its proposals depend
    neither on which of them was the fastest nor on the number of CPUs.
    """
    if config.search.algorithm != "optuna" or config.enumerated:  # Optuna refuses a space without a range
        return BasicVariantGenerator(max_concurrent=config.search.max_concurrent, random_state=config.search.seed)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(
        seed=config.search.seed, n_startup_trials=min(STARTUP_TRIALS, config.search.trials), constant_liar=True
    )
    searcher = OptunaSearch(
        metric=config.selection.metric,
        mode=_mode(config),
        sampler=sampler,
        points_to_evaluate=config.first_points or None,
    )
    return ConcurrencyLimiter(searcher, max_concurrent=config.search.max_concurrent, batch=True)


def scheduler(config: StudyConfig, n_splits: int) -> TrialScheduler:
    """Return ASHA over splits if the study asks for it, else let every trial run to its end."""
    if config.scheduler is None or n_splits == 1:
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    return ASHAScheduler(
        time_attr="splits_done",
        metric=config.selection.metric,
        mode=_mode(config),
        max_t=n_splits,
        grace_period=min(config.scheduler.grace_splits, n_splits),
        reduction_factor=config.scheduler.reduction_factor,
    )


def _mode(config: StudyConfig) -> Literal["min", "max"]:
    return "min" if is_error(config.selection.metric) else "max"
