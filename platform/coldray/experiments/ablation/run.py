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
from coldray.data.splits.items import Fold, Split
from coldray.experiments.ablation.folds import TERMS, Arrays, FoldPlan, FoldWorkers, as_completed
from coldray.experiments.ablation.result import AblationResult, Cloud, LossCurve
from coldray.experiments.ablation.stages import (
    BASELINE,
    Stage,
    beside_edge,
    check_stages,
    neighbours,
    stage_configurations,
    stage_edges,
    stage_of,
    stages,
)
from coldray.experiments.ablation.statistics import CORRECTION, mean_by_user, mode_results
from coldray.experiments.ablation.store import AblationStore, Stored
from coldray.experiments.description import describe_dataset, describe_protocol
from coldray.experiments.listeners import StudyListener
from coldray.experiments.record.record import StudyRecord
from coldray.experiments.results import FoldMetrics
from coldray.experiments.space import StudyConfig
from coldray.experiments.study import check_study, settle_for, tell_forms
from coldray.models.marec.plus import MARecPlusConfig

PLATEAU = 1e-3
"""Share of the metric by which the end of a list has to be better than the value beside it."""
CURVE_CUTOFFS = (5, 10, 15, 20, 25, 30, 40, 50)
"""List lengths of the curves; those of the study are measured as well."""


def check_ablation(config: StudyConfig, dataset: Dataset) -> list[Split]:
    """Find out what can be wrong before anything takes long, and return the splits; as :func:`check_study`.

    Items must be held out: the modes of an ablation are ways to score cold ones.
    """
    check_stages(config)
    if not config.splits.holds_out_items:
        raise ConfigError(
            f"An ablation is of cold items, and the protocol {config.splits.protocol!r} holds out interactions. Use "
            "splits.protocol: notebook or balanced."
        )
    return check_study(config, dataset)


def run_ablation(
    config: StudyConfig,
    dataset: Dataset,
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
    splits = check_ablation(config, dataset)
    config, settled = settle_for(config, dataset, record or StudyRecord())
    tuned = f"mean validation {config.selection.metric}, stage by stage; test items are used once, by every mode"
    protocol = {**describe_protocol(config, dataset, splits, settled.forms), "selection": tuned}
    watcher.study_started(config, dataset, study_id, protocol)
    tell_forms(settled, watcher)
    cutoffs = tuple(sorted({*CURVE_CUTOFFS, *config.cutoffs}))
    drawn = f"{config.splits.protocol}, {config.splits.n_splits} a seed"
    plan = FoldPlan(dataset.fingerprint, drawn, config.features, config.candidates, cutoffs, config.selection.metric)
    with FoldWorkers(plan, len(splits)) as workers:
        modes = _tune(config, [split.for_tuning().fold for split in splits], workers, kept, watcher)
        tested = _test([split.test_fold for split in splits], modes, workers, kept, watcher)
    return _result(config, describe_dataset(dataset, config), protocol, modes, tested, cutoffs, started)


def _tune(
    config: StudyConfig, folds: Sequence[Fold], workers: FoldWorkers, store: AblationStore, listener: StudyListener
) -> dict[str, dict[str, Any]]:
    """Return the configuration of each stage that does best on validation data, given those before it."""
    metric = workers.plan.metric
    chosen: dict[str, Any] = {}
    modes = {}
    for stage in stages():
        configurations = stage_configurations(config, stage, chosen)
        listener.stage(f"tuning {stage.name}: {len(configurations)} configurations on {len(folds)} validation folds")
        table = _validate(stage, configurations, folds, workers, store, listener)
        best, _ = _best(stage, table, listener)
        reached = _means(configurations, table)
        chosen, value = _refined(config, stage, configurations[best], reached, folds, workers, store, listener)
        words = ", ".join(f"{name}={chosen[name]}" for name in chosen if name in _tuned(config, stage))
        listener.stage(f"tuned {stage.name}: validation {metric} {value:.4f} with {words}")
        for edge in stage_edges(config, stage, chosen):
            listener.stage(f"{stage.name} is on the edge of what it tried: {edge.told}")
        found = MARecPlusConfig.model_validate(chosen)
        # The seed of a training is that of its fold.
        modes[stage.name] = found.model_dump(mode="json", exclude={"train_seed"})
    return modes


def _refined(
    config: StudyConfig,
    stage: Stage,
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
    that is no better than the value beside it, but for :data:`PLATEAU`, gives way to that one: there is nothing beyond.

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
    for edge in stage_edges(config, stage, chosen):
        inner = beside_edge(config, edge, chosen)
        if inner is not None and reached.get(repr(inner), 0.0) >= (1 - PLATEAU) * reached[repr(chosen)]:
            chosen = inner
    return chosen, reached[repr(chosen)]


def _means(points: Sequence[Mapping[str, Any]], table: Sequence[Sequence[tuple[float, str]]]) -> dict[str, float]:
    """Return the mean of each configuration over the folds, NaN where one failed."""
    means = [float(np.mean([value for value, _ in folds])) for folds in zip(*table, strict=True)]
    return {repr(point): mean for point, mean in zip(points, means, strict=True)}


def _tuned(config: StudyConfig, stage: Stage) -> set[str]:
    """Return the parameters that a stage is told by."""
    return {name for name in config.searched if stage_of(name) == stage.prefix}


def _best(stage: Stage, table: Sequence[Sequence[tuple[float, str]]], listener: StudyListener) -> tuple[int, float]:
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
    stage: Stage,
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
    metrics = [name.rpartition("/")[2] for name in arrays[0] if name.startswith(f"per_user/{BASELINE}/")]
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
    edges = {stage.name: stage_edges(config, stage, modes[stage.name]) for stage in stages()}
    return AblationResult(
        name=config.name,
        dataset=dataset,
        protocol=protocol,
        cutoffs=cutoffs,
        modes=tuple(replace(mode, edges=edges[mode.name]) for mode in found),
        curves={term: of_term for term, of_term in curves.items() if of_term},
        features=_cloud(first, "features"),
        scores={mode: _cloud(first, f"scores/{mode}") for mode in (BASELINE, list(modes)[-1])},
        neighbour_distance=first["neighbour_distance"],
        correction=CORRECTION,
        seconds=time.perf_counter() - started,
    )


def _cloud(arrays: Mapping[str, Any] | Arrays, name: str) -> Cloud:
    explained = arrays[f"{name}/explained"]
    return Cloud(arrays[f"{name}/points"], arrays["cold"], (float(explained[0]), float(explained[1])))
