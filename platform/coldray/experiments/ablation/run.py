"""An ablation: a baseline and what is added to it, tuned stage by stage on validation data, tested on equal folds."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray

from coldray.core.errors import ConfigError, SelectionError
from coldray.data.dataset import Dataset
from coldray.data.splits.items import Fold
from coldray.experiments.ablation.folds import TERMS, Arrays, FoldPlan, FoldWorkers, as_completed
from coldray.experiments.ablation.result import AblationResult, Cloud, LossCurve
from coldray.experiments.ablation.statistics import CORRECTION, mean_by_user, mode_results
from coldray.experiments.ablation.store import AblationStore, Stored
from coldray.experiments.edges import Edge, found_edges
from coldray.experiments.listeners import StudyListener
from coldray.experiments.prepared import PreparedStudy, describe_dataset
from coldray.experiments.record.record import StudyRecord
from coldray.experiments.results import FoldMetrics
from coldray.experiments.space import StudyConfig, drawn_points, grid_points, is_range
from coldray.experiments.study import prepare_study
from coldray.models.marec.config import MARecConfig
from coldray.models.marec.plus import REFINEMENTS, MARecPlus, MARecPlusConfig

_BASELINE = "MARec"


@dataclass(frozen=True)
class _Stage:
    """One row of the ablation."""

    name: str
    """``MARec``, ``+CA``, …"""
    prefix: str | None
    """Prefix of the parameters that it adds; None for the baseline, which has all others."""


def _stages() -> tuple[_Stage, ...]:
    """Return the stages in order: the baseline, then one refinement more each time."""
    added = list(REFINEMENTS)
    refined = tuple(
        _Stage("".join(f"+{prefix.upper()}" for prefix in added[: i + 1]), prefix) for i, prefix in enumerate(added)
    )
    return (_Stage(_BASELINE, None), *refined)


def _stage_of(name: str) -> str | None:
    """Return the prefix of a parameter, None for those of the baseline."""
    return next((prefix for prefix in REFINEMENTS if name.startswith(f"{prefix}_")), None)


def _check_stages(config: StudyConfig) -> None:
    """Find out whether a study file can be tuned stage by stage.

    Raises
    ------
    ConfigError
        If it is of another model, a parameter has a range instead of listed values or is none that a stage could
        choose, a field says what no stage reads, or too few configurations are asked for to try a refinement.
    """
    if config.model != MARecPlus.name:
        raise ConfigError(
            f"An ablation is of the model {MARecPlus.name!r}; the study {config.name!r} tunes {config.model!r}."
        )
    for name, spec in config.space.items():
        if is_range(spec) and "choice" not in spec:
            raise ConfigError(
                f"space.{name}: an ablation tries listed values, {{choice: […]}}, not {next(iter(spec))}. List them."
            )
        if name == "seed":
            raise ConfigError("space.seed: an ablation trains with the seed of each split. Leave it out.")
        if name in _of_training() and is_range(spec) and len(spec["choice"]) > 1:
            raise ConfigError(
                f"space.{name}: it belongs to the training of all refinements, and the baseline, tuned first, cannot "
                f"choose among {spec['choice']!r}. Give one value."
            )
    selection = config.selection
    unread = {
        "scheduler": config.scheduler,
        "search.first": config.search.first,
        "selection.simplest": selection.simplest,
        "selection.tolerance": "tolerance" in selection.model_fields_set and selection.tolerance,
    }
    for name in (name for name, value in unread.items() if value):
        raise ConfigError(f"{name}: an ablation tries all of a stage and takes the best. Leave it out.")
    if config.splits.users is not None:
        raise ConfigError("splits.users: an ablation measures all users of a split. Leave it out.")
    if config.search.trials < 2:
        raise ConfigError(
            "search.trials: 1 leaves a stage no room but for the weight 0, without its refinement. Use 2 or more."
        )


def _of_training() -> set[str]:
    """Return the parameters that all refinements are trained with, none of which the baseline depends on."""
    own = set(MARecPlusConfig.model_fields) - set(MARecConfig.model_fields)
    return {name for name in own if _stage_of(name) is None}


def _stage_configurations(config: StudyConfig, stage: _Stage, chosen: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the configurations a stage is tuned over.

    What earlier stages chose stays; refinements of later stages have the weight 0. There are at most `search.trials`
    of them, drawn from all combinations with the study's seed. Those of a refinement begin with its weight 0, so a
    stage that does not help on validation data is left out.

    Parameters
    ----------
    chosen
        Parameters that earlier stages chose.
    """
    prefixes = list(REFINEMENTS)
    reached = prefixes.index(stage.prefix) if stage.prefix else -1
    later = {f"{prefix}_weight": 0.0 for prefix in prefixes[reached + 1 :]}
    own = {name: spec for name, spec in config.space.items() if _stage_of(name) == stage.prefix}
    kept = {name: value for name, value in chosen.items() if _stage_of(name) != stage.prefix}  # without the weight 0
    points = [{**kept, **point, **later} for point in grid_points(own)]
    left_out = [{**kept, **later, f"{stage.prefix}_weight": 0.0}] if stage.prefix else []
    trained = [point for point in points if not stage.prefix or point.get(f"{stage.prefix}_weight", 1) > 0]
    return [*left_out, *drawn_points(trained, config.search.trials - len(left_out), config.search.seed)]


def neighbours(config: StudyConfig, stage: _Stage, best: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the configurations of a stage that differ from `best` in one of its own parameters.

    Of a refinement that was left out, with the weight 0, there are none: it has nothing else to choose.
    """
    weight = f"{stage.prefix}_weight"
    if stage.prefix and best.get(weight, 1.0) == 0:
        return []
    own = {name: spec for name, spec in config.space.items() if _stage_of(name) == stage.prefix and is_range(spec)}
    return [
        {**best, name: value}
        for name, spec in own.items()
        for value in spec["choice"]
        if value != best[name] and not (name == weight and value == 0)
    ]


def _beside_edge(config: StudyConfig, edge: Edge, chosen: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the configuration with the value next to an end of a list; None where that is the other end."""
    values = sorted(config.space[edge.parameter]["choice"])
    if len(values) < 3:
        return None
    return {**chosen, edge.parameter: values[1] if edge.end == "low" else values[-2]}


def _stage_edges(config: StudyConfig, stage: _Stage, chosen: Mapping[str, Any]) -> tuple[Edge, ...]:
    """Return which of the parameters that a stage chose are on the edge of what it tried.

    Those of a refinement that was left out, with the weight 0, are no choice.
    """
    if stage.prefix and chosen.get(f"{stage.prefix}_weight", 1.0) == 0:
        return ()
    own = {name: spec for name, spec in config.space.items() if _stage_of(name) == stage.prefix}
    return found_edges(own, chosen, MARecPlusConfig)


_PLATEAU = 1e-3
"""Share of the metric by which the end of a list has to be better than the value beside it."""
_CURVE_CUTOFFS = (5, 10, 15, 20, 25, 30, 40, 50)
"""List lengths of the curves; those of the study are measured as well."""


def prepare_ablation(config: StudyConfig, dataset: Dataset) -> PreparedStudy:
    """Find out what can be wrong before anything takes long; as :func:`~coldray.experiments.study.prepare_study`.

    Items must be held out: the modes of an ablation are ways to score cold ones.
    """
    _check_stages(config)
    if not config.splits.holds_out_items:
        raise ConfigError(
            f"An ablation is of cold items, and the protocol {config.splits.protocol!r} holds out interactions. Use "
            "splits.protocol: notebook or balanced."
        )
    return prepare_study(config, dataset)


def run_ablation(
    study: PreparedStudy,
    *,
    study_id: str,
    store: AblationStore | None = None,
    listener: StudyListener | None = None,
    record: StudyRecord | None = None,
) -> AblationResult:
    """Tune stage by stage on validation data, then test every stage once on the test items of each split.

    Parameters
    ----------
    study_id
        Name of the ablation.
    store
        Where results of folds are kept, and looked for before they are computed.
    record
        Where the forms of its fits are recorded, or known from. If its other events are to be, it is a listener too.

    Raises
    ------
    SelectionError
        If no configuration of a stage can be fitted on all folds.
    """
    started = time.perf_counter()
    watcher, kept = listener or StudyListener(), store or AblationStore(None)
    study = study.begun(record or StudyRecord())
    config, dataset, splits = study.config, study.dataset, study.splits
    tuned = f"mean validation {config.selection.metric}, stage by stage; test items are used once, by every mode"
    protocol = {**study.protocol(), "selection": tuned}
    watcher.study_started(config, dataset, study_id, protocol)
    for form in study.settled.forms:
        watcher.stage(f"form of every fit: {form.told}")
    cutoffs = tuple(sorted({*_CURVE_CUTOFFS, *config.cutoffs}))
    drawn = f"{config.splits.protocol}, {config.splits.n_splits} a seed"
    metric, rules = config.selection.metric, (config.fit, config.positives)
    plan = FoldPlan(dataset.fingerprint, drawn, config.features, config.candidates, cutoffs, metric, *rules)
    with FoldWorkers(plan, len(splits)) as workers:
        modes = _tune(config, [split.fold for split in study.tuning], workers, kept, watcher)
        tested = _test([split.test_fold for split in splits], modes, workers, kept, watcher)
    return _result(config, describe_dataset(dataset, config), protocol, modes, tested, cutoffs, started)


def _tune(
    config: StudyConfig, folds: Sequence[Fold], workers: FoldWorkers, store: AblationStore, listener: StudyListener
) -> dict[str, dict[str, Any]]:
    """Return the configuration of each stage that does best on validation data, given those before it."""
    metric = workers.plan.metric
    chosen: dict[str, Any] = {}
    modes = {}
    for stage in _stages():
        configurations = _stage_configurations(config, stage, chosen)
        listener.stage(f"tuning {stage.name}: {len(configurations)} configurations on {len(folds)} validation folds")
        table = _validate(stage, configurations, folds, workers, store, listener)
        best, _ = _best(stage, table, listener)
        reached = _means(configurations, table)
        chosen, value = _refined(config, stage, configurations[best], reached, folds, workers, store, listener)
        words = ", ".join(f"{name}={chosen[name]}" for name in chosen if name in _tuned(config, stage))
        listener.stage(f"tuned {stage.name}: validation {metric} {value:.4f} with {words}")
        for edge in _stage_edges(config, stage, chosen):
            listener.stage(f"{stage.name} is on the edge of what it tried: {edge.told}")
        found = MARecPlusConfig.model_validate(chosen)
        # The seed of a training is that of its fold.
        modes[stage.name] = found.model_dump(mode="json", exclude={"seed"})
    return modes


def _refined(
    config: StudyConfig,
    stage: _Stage,
    chosen: dict[str, Any],
    reached: dict[str, float],
    folds: Sequence[Fold],
    workers: FoldWorkers,
    store: AblationStore,
    listener: StudyListener,
) -> tuple[dict[str, Any], float]:
    """Return a configuration that no other value of one parameter betters on validation data, and what it reaches.

    Where a stage lists more combinations than it tries, the best of those tried is a draw: a stage with many parameters
    would be tuned worse than one with few. It therefore goes on from there, one parameter at a time. An end of a list
    that is no better than the value beside it, but for :data:`_PLATEAU`, gives way to that one: there is nothing
    beyond.

    Parameters
    ----------
    chosen
        The best of those tried.
    reached
        The mean of each configuration that was tried; those tried here are added.
    """
    while near := [point for point in neighbours(config, stage, chosen) if repr(point) not in reached]:
        listener.stage(f"tuning {stage.name}: {len(near)} configurations beside the best")
        table = _validate(stage, near, folds, workers, store, listener)
        reached |= _means(near, table)
        better = [point for point in near if reached[repr(point)] > reached[repr(chosen)]]  # NaN, of a failure, is not
        chosen = max(better, key=lambda point: reached[repr(point)], default=chosen)
    for edge in _stage_edges(config, stage, chosen):
        inner = _beside_edge(config, edge, chosen)
        if inner is not None and reached.get(repr(inner), 0.0) >= (1 - _PLATEAU) * reached[repr(chosen)]:
            chosen = inner
    return chosen, reached[repr(chosen)]


def _means(points: Sequence[Mapping[str, Any]], table: Sequence[Sequence[tuple[float, str]]]) -> dict[str, float]:
    """Return the mean of each configuration over the folds, NaN where one failed."""
    means = [float(np.mean([value for value, _ in folds])) for folds in zip(*table, strict=True)]
    return {repr(point): mean for point, mean in zip(points, means, strict=True)}


def _tuned(config: StudyConfig, stage: _Stage) -> set[str]:
    """Return the parameters that a stage is told by."""
    return {name for name in config.searched if _stage_of(name) == stage.prefix}


def _best(stage: _Stage, table: Sequence[Sequence[tuple[float, str]]], listener: StudyListener) -> tuple[int, float]:
    """Return the configuration with the best mean over folds, the first of equals.

    A refinement that cannot be trained is an error: its weight 0, which always can, would say that it does not help.
    """
    means = [float(np.mean([value for value, _ in folds])) for folds in zip(*table, strict=True)]
    usable = [i for i, mean in enumerate(means) if math.isfinite(mean)]
    reasons = [reason for folds in table for _, reason in folds if reason]
    left_out = {0} if stage.prefix and len(means) > 1 else set()
    if not set(usable) - left_out:
        raise SelectionError(
            f"No configuration of the stage {stage.name} could be fitted on every fold. The first: {reasons[0]}"
        )
    if reasons:
        n_failed = len(means) - len(usable)
        listener.stage(f"{stage.name}: {n_failed} of {len(means)} configurations failed. The first: {reasons[0]}")
    best = max(usable, key=lambda i: (means[i], -i))
    return best, means[best]


def _validate(
    stage: _Stage,
    configurations: Sequence[Mapping[str, Any]],
    folds: Sequence[Fold],
    workers: FoldWorkers,
    store: AblationStore,
    listener: StudyListener,
) -> list[list[tuple[float, str]]]:
    """Return value and reason by fold and configuration; folds that are stored are not computed again."""
    keys = {
        fold.name: {**workers.plan.key(), "fold": fold.name, "stage": stage.name, "tried": list(configurations)}
        for fold in folds
    }
    found: dict[str, list[tuple[float, str]]] = {}
    fitted: dict[str, dict[int, tuple[float, str]]] = {}
    running: dict[Any, tuple[str, int]] = {}
    for position, fold in enumerate(folds):
        stored = store.get(keys[fold.name])
        if stored is not None:
            found[fold.name] = [(float(value), reason) for value, reason in stored.values["validated"]]
            continue
        worker, reference = workers.of(position), ray.put(fold)
        fitted[fold.name] = {}
        running |= {
            worker.validate.remote(reference, parameters): (fold.name, i) for i, parameters in enumerate(configurations)
        }
    for name, i, outcome in as_completed(running, f"{stage.name}: validation", listener):
        fitted[name][i] = outcome
        if len(fitted[name]) == len(configurations):
            found[name] = [fitted[name][j] for j in range(len(configurations))]
            store.put(keys[name], {"validated": found[name]}, {})
            listener.stage(f"{stage.name}: validation {len(found)}/{len(folds)}: {name} done")
    return [found[fold.name] for fold in folds]


@dataclass(frozen=True, eq=False)
class _Tested:
    """The test of all modes on one fold."""

    fold: Fold
    stored: Stored


def _test(
    folds: Sequence[Fold],
    modes: Mapping[str, Mapping[str, Any]],
    workers: FoldWorkers,
    store: AblationStore,
    listener: StudyListener,
) -> list[_Tested]:
    """Test every mode on every fold, once; folds that are stored are not computed again."""
    listener.stage(f"testing {len(modes)} modes on {len(folds)} folds, once")
    keys = {
        fold.name: {**workers.plan.key(), "fold": fold.name, "tested": dict(modes), "diagnosed": i == 0}
        for i, fold in enumerate(folds)
    }
    found: dict[str, Stored] = {}
    running = {}
    for position, fold in enumerate(folds):
        stored = store.get(keys[fold.name])
        if stored is None:
            running[workers.of(position).test.remote(fold, dict(modes), position == 0)] = (fold.name, None)
        else:
            found[fold.name] = stored
    for name, _, (means, arrays) in as_completed(running, "test", listener):
        store.put(keys[name], means, arrays)
        found[name] = Stored(means, arrays)
        listener.stage(f"test {len(found)}/{len(folds)}: {name} done")
    return [_Tested(fold, found[fold.name]) for fold in folds]


def _result(
    config: StudyConfig,
    dataset: Mapping[str, Any],
    protocol: Mapping[str, str],
    modes: Mapping[str, Mapping[str, Any]],
    tested: Sequence[_Tested],
    cutoffs: tuple[int, ...],
    started: float,
) -> AblationResult:
    folds = {
        mode: tuple(
            FoldMetrics(
                one.fold.seed, one.fold.split, one.stored.values[mode]["metrics"], one.stored.values[mode]["seconds"]
            )
            for one in tested
        )
        for mode in modes
    }
    arrays = [one.stored.arrays for one in tested]
    metrics = [name.rpartition("/")[2] for name in arrays[0] if name.startswith(f"per_user/{_BASELINE}/")]
    per_user = {
        mode: {
            metric: mean_by_user([(of_fold["users"], of_fold[f"per_user/{mode}/{metric}"]) for of_fold in arrays])
            for metric in metrics
        }
        for mode in modes
    }
    compared = [f"{base}@{k}" for k in config.cutoffs for base in ("hr", "ndcg")]
    curves = {
        term: tuple(
            LossCurve(one.fold.name, one.stored.arrays[f"curve/{term}"])
            for one in tested
            if f"curve/{term}" in one.stored.arrays
        )
        for term in TERMS
    }
    first = arrays[0]
    found = mode_results(modes, folds, per_user, compared, config.search.seed)
    edges = {stage.name: _stage_edges(config, stage, modes[stage.name]) for stage in _stages()}
    return AblationResult(
        name=config.name,
        dataset=dataset,
        protocol=protocol,
        cutoffs=cutoffs,
        modes=tuple(replace(mode, edges=edges[mode.name]) for mode in found),
        curves={term: of_term for term, of_term in curves.items() if of_term},
        features=_cloud(first, "features"),
        scores={mode: _cloud(first, f"scores/{mode}") for mode in (_BASELINE, list(modes)[-1])},
        neighbour_distance=first["neighbour_distance"],
        correction=CORRECTION,
        seconds=time.perf_counter() - started,
    )


def _cloud(arrays: Mapping[str, Any] | Arrays, name: str) -> Cloud:
    explained = arrays[f"{name}/explained"]
    return Cloud(arrays[f"{name}/points"], arrays["cold"], (float(explained[0]), float(explained[1])))
