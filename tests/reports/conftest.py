"""Study results like those a search leaves behind, built without one."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from coldray.experiments.ablation.result import AblationResult, Cloud, Lift, LossCurve, ModeResult
from coldray.experiments.comparison.result import ComparisonResult, EntryResult, FailedEntry
from coldray.experiments.inspection.config import InspectionConfig
from coldray.experiments.inspection.costs import Costs
from coldray.experiments.inspection.item_facts import ItemFacts
from coldray.experiments.inspection.item_map import ItemMap
from coldray.experiments.inspection.measure import Inspection
from coldray.experiments.inspection.slices import _EMPTY, SLICES, SliceMetrics
from coldray.experiments.results import FoldMetrics, Selection, StudyResult, TrialResult, mean_metric

CUTOFFS = (10, 25, 50)
SPACE = {
    "lambda1": [1.0, 10.0, 100.0, 1000.0, 5000.0],
    "second_order": [True, False],
    "learning_rate": [1e-5, 3e-4, 1e-2],
    "n_factors": [16, 32, 48, 64],
    "zero_weight": [0.05, 0.1, 0.2, 0.5],
    "text_encoder": ["all-MiniLM-L6-v2", "tf-idf", "none at all", "characters"],
    "delta": [0, 1, 20, 100, 5000],
    "attributes": [["genres"], ["genres", "directors"], ["genres", "directors", "actors", "year"]],
    "dropout": [None, 0.1, 0.3],
}
HOSTILE = "<script>alert('x')</script> & NaN in the normal equations; " + "the matrix is singular " * 30


def fold(seed: int, split: int, level: float, cutoffs: tuple[int, ...] = CUTOFFS) -> FoldMetrics:
    metrics = {}
    for step, k in enumerate(cutoffs):
        metrics[f"ndcg@{k}"] = level + 0.021 * step
        metrics[f"hr@{k}"] = level - 0.012 + 0.034 * step
    return FoldMetrics(seed=seed, split=split, metrics=metrics, seconds=3.2)


def build_study(
    *,
    parameters: tuple[str, ...] = ("lambda1", "second_order", "zero_weight"),
    n_trials: int = 36,
    n_pruned: int = 6,
    n_failed: int = 2,
    folds: tuple[tuple[int, int], ...] = ((42, 0), (42, 1), (42, 2), (7, 0), (7, 1), (7, 2)),
    dataset: dict | None = None,
    winner_rank: int = 0,
    cutoffs: tuple[int, ...] = CUTOFFS,
    error: str = HOSTILE,
    space: dict | None = None,
) -> StudyResult:
    """Return a study whose metric peaks at the middle of each parameter's values."""
    space = space or SPACE
    draws = np.random.default_rng(5)
    trials = []
    for number in range(n_trials):
        choice = {name: int(draws.integers(len(space[name]))) for name in parameters}
        level = 0.36 - sum(0.02 * abs(c - len(space[n]) // 2) / math.sqrt(len(parameters)) for n, c in choice.items())
        noise = draws.normal(0, 0.006, len(folds))
        done = [fold(*key, level + noise[i] + 0.004 * i, cutoffs) for i, key in enumerate(folds)]
        status = "finished"
        if number >= n_trials - n_failed:
            status, done = "failed", done[:0]
        elif number >= n_trials - n_failed - n_pruned:
            status, done = "pruned", done[:1]
        trials.append(
            TrialResult(
                trial_id=f"t{number:04d}",
                number=number,
                config={**{name: space[name][c] for name, c in choice.items()}, "alpha": 1.0, "seed": 42},
                folds=tuple(done),
                status=status,
                error=error if status == "failed" else None,
                seconds=3.2 * len(done),
            )
        )
    metric = f"ndcg@{cutoffs[0]}"
    ranked = sorted((t for t in trials if t.status == "finished"), key=lambda t: (-t.mean(metric), t.number))
    winner = ranked[winner_rank]
    tolerance = ranked[0].mean(metric) - winner.mean(metric) + 0.001
    within = tuple(t for t in ranked if t.mean(metric) >= ranked[0].mean(metric) - tolerance)
    test = tuple(fold(*key, 0.3076 + 0.005 * math.sin(3 * i), cutoffs) for i, key in enumerate(folds))
    names = list(test[0].metrics)
    means = {name: float(np.mean([t.metrics[name] for t in test])) for name in names}
    return StudyResult(
        name="marec_ml1m",
        model="marec",
        dataset=dataset
        or {
            "name": "ml1m-hetrec",
            "synthetic": False,
            "n_users": 6040,
            "n_items": 3416,
            "n_interactions": 943_317,
            "density": 943_317 / (6040 * 3416),
            "fingerprint": "9f2c4e77ab0d51c8e6a1f0b3d2c49e885f7716aa",
            "attributes": ("genres", "countries", "directors", "actors", "location1", "year"),
        },
        protocol={
            "split": "item-cold, 60 / 20 / 20, permuted by RandomState(seed)",
            "candidates": "cold: only the held-out items are ranked",
            "filters": "none",
            "seeds": ", ".join(str(s) for s in dict.fromkeys(s for s, _ in folds)),
        },
        searched=parameters,
        cutoffs=cutoffs,
        trials=tuple(trials),
        selection=Selection(
            winner=winner,
            best=ranked[0],
            within_tolerance=within,
            metric=metric,
            tolerance=tolerance,
            rule=("first order before second order", "larger lambda1"),
        ),
        test=test,
        test_intervals={name: (value - 0.0094, value + 0.0087) for name, value in means.items()},
        seconds=4271.0,
    )


PUBLISHED_DATASET = {
    "name": "hetrec",
    "synthetic": False,
    "n_users": 2107,
    "n_items": 6234,
    "n_interactions": 407_000,
    "density": 0.031,
    "fingerprint": "aa11bb22cc33dd44ee55ff66",
    "attributes": ("genres", "directors"),
}


@pytest.fixture
def study() -> Callable[..., StudyResult]:
    return build_study


@pytest.fixture
def parameters() -> tuple[str, ...]:
    return tuple(SPACE)


@pytest.fixture
def published_dataset() -> dict:
    return dict(PUBLISHED_DATASET)


SHAPES = {
    "three parameters": {},
    "one parameter": {"parameters": ("lambda1",)},
    "two parameters": {"parameters": ("lambda1", "text_encoder")},
    "nine parameters": {"parameters": tuple(SPACE)},
    "single trial": {"n_trials": 1, "n_pruned": 0, "n_failed": 0},
    "single split": {"folds": ((42, 0),)},
    "twelve splits": {"folds": tuple((seed, split) for seed in (1, 2, 42) for split in range(4))},
    "winner below the top": {"winner_rank": 14},
    "odd cutoffs": {"cutoffs": (5, 100)},
    "published dataset": {"dataset": PUBLISHED_DATASET},
    "synthetic": {"dataset": {**PUBLISHED_DATASET, "name": "sample", "synthetic": True}},
}


@pytest.fixture(scope="session", params=list(SHAPES))
def any_study(request: pytest.FixtureRequest) -> StudyResult:
    """Each of the shapes that a study can have."""
    return build_study(**SHAPES[request.param])


MODES = ("MARec", "+CA", "+CA+UA", "+CA+UA+GE")
MAREC = {"lambda1": 1000.0, "order": 2, "delta": 20, "learner": "nonnegative"}
MODE_CONFIGS = {
    "MARec": MAREC,
    "+CA": {**MAREC, "ca_weight": 0.4, "ua_weight": 0.0, "ge_weight": 0.0, "ca_temperature": 0.07},
    "+CA+UA": {**MAREC, "ca_weight": 0.4, "ua_weight": 0.0, "ge_weight": 0.0, "ca_temperature": 0.07},
    "+CA+UA+GE": {**MAREC, "ca_weight": 0.4, "ua_weight": 0.0, "ge_weight": 0.15, "ge": {"kl_weight": 1.0}},
}
GAINS = {"MARec": 0.0, "+CA": 0.012, "+CA+UA": -0.001, "+CA+UA+GE": 0.019}
TERMS = {"InfoNCE": (5.8, 3.1), "Gaussian NLL": (1.4, -0.6), "reconstruction": (0.62, 0.34), "KL": (0.4, 11.5)}
LIST_LENGTHS = (5, 10, 20, 50, 100)


def mode_fold(seed: int, split: int, level: float, cutoffs: tuple[int, ...]) -> FoldMetrics:
    rise = {k: math.log(k / 10) for k in cutoffs}
    metrics = {f"hr@{k}": level - 0.014 + 0.045 * rise[k] for k in cutoffs}
    metrics |= {f"ndcg@{k}": level + 0.025 * rise[k] for k in cutoffs}
    metrics |= {f"coverage@{k}": min(0.99, 0.38 + 0.8 * (level - 0.3) + 0.17 * rise[k]) for k in cutoffs}
    return FoldMetrics(seed=seed, split=split, metrics=metrics, seconds=12.5)


def build_lift(per_user: dict, baseline: dict, metric: str) -> Lift:
    difference = float(np.mean(per_user[metric]) - np.mean(baseline[metric]))
    p = 0.0002 if abs(difference) > 0.005 else 0.31
    relative = difference / float(np.mean(baseline[metric]))
    return Lift(difference, difference - 0.004, difference + 0.005, relative, p, min(1.0, 3 * p))


def build_cloud(draws: np.random.Generator, n: int = 900, spread: float = 1.0) -> Cloud:
    cold = np.arange(n) % 5 == 0
    points = draws.normal(0, (2.0, 1.0), (n, 2)) + spread * np.column_stack([cold, cold])
    return Cloud(points, cold, (0.123, 0.071))


def build_curves(draws: np.random.Generator, folds: tuple[tuple[int, int], ...]) -> dict[str, tuple[LossCurve, ...]]:
    curves = {}
    for term, (start, end) in TERMS.items():
        lengths = draws.integers(24, 60, len(folds))
        curves[term] = tuple(
            LossCurve(
                f"{seed}/{split}",
                end
                + (start - end) * (np.exp(-np.arange(n) / 9) + 0.03 * split)
                + draws.normal(0, 0.015 * abs(start - end), n),
            )
            for (seed, split), n in zip(folds, lengths, strict=True)
        )
    return curves


def build_ablation(
    *,
    modes: tuple[str, ...] = MODES,
    folds: tuple[tuple[int, int], ...] = ((42, 0), (42, 1), (42, 2), (7, 0), (7, 1), (7, 2)),
    cutoffs: tuple[int, ...] = LIST_LENGTHS,
    gains: dict[str, float] = GAINS,
    configs: dict[str, dict] = MODE_CONFIGS,
    dataset: dict | None = None,
    without: tuple[str, ...] = (),
) -> AblationResult:
    """Return an ablation in which each mode lies its gain above the baseline; `without` leaves out loss terms."""
    draws = np.random.default_rng(11)
    spread = {key: draws.normal(0, 0.008) for key in folds}
    names = list(mode_fold(0, 0, 0.3, cutoffs).metrics)
    users = {name: draws.uniform(0.1, 0.5, 240) for name in names}
    curves = build_curves(draws, folds)
    clouds = {name: build_cloud(draws, spread=2.5) for name in dict.fromkeys((modes[0], modes[-1]))}
    found = []
    for name in modes:
        gain = gains.get(name, 0.0)
        tested = tuple(mode_fold(*key, 0.3076 + gain + spread[key], cutoffs) for key in folds)
        per_user = {metric: values + gain for metric, values in users.items() if not metric.startswith("coverage")}
        means = {metric: float(np.mean([fold.metrics[metric] for fold in tested])) for metric in per_user}
        found.append(
            ModeResult(
                name=name,
                config=configs.get(name, {}),
                folds=tested,
                per_user=per_user,
                intervals={metric: (mean - 0.0094, mean + 0.0087) for metric, mean in means.items()},
                lifts={} if name == modes[0] else {m: build_lift(per_user, found[0].per_user, m) for m in per_user},
            )
        )
    study = build_study(dataset=dataset)
    return AblationResult(
        name="marec_ablation",
        dataset=study.dataset,
        protocol=study.protocol,
        cutoffs=cutoffs,
        modes=tuple(found),
        curves={term: found for term, found in curves.items() if term not in without},
        features=build_cloud(draws),
        scores=clouds,
        neighbour_distance=draws.beta(4, 6, 683),
        correction="Holm",
        seconds=1834.0,
    )


MAPPED = np.arange(0, 60, 2, dtype=np.int32)


def build_inspections(place: int, n_folds: int, *, mapped: bool) -> tuple[Inspection, ...]:
    """Return what was measured of an entry, split by split: the entry at 0 has no map, and no warm users."""
    draws = np.random.default_rng(place)
    parts = {
        name: SliceMetrics(120 + place, 40, {"ndcg@10": 0.1 * (number + 1) + 0.01 * place, "hr@10": 0.2})
        for number, name in enumerate(SLICES)
    }
    if place == 0:
        parts["warm_users"] = _EMPTY
    near = np.array([[item for item in MAPPED if item != own][:10] for own in MAPPED], np.int32)
    drawn = ItemMap(MAPPED, draws.normal(size=(len(MAPPED), 2)).astype(np.float32), near) if mapped else None
    costs = (Costs(0.0004, 500_000, 0.00036), Costs(75.0, 1_234_000_000, 0.041), Costs(2.5, None, 0.2))[place % 3]
    return tuple(Inspection(costs, parts, drawn if fold == 0 else None) for fold in range(n_folds))


def build_facts() -> ItemFacts:
    """Return names with markup in them, and labels of which the last item has none."""
    labels = sp.csr_array(np.eye(3, dtype=np.float32)[np.arange(60) % 3] * (np.arange(60) < 58)[:, None])
    names = tuple(f"<b>Item {item}</b> with a name as long as some are" for item in range(60))
    return ItemFacts(names, "genres", np.array(["comedy", "drama", "horror"]), labels, MAPPED[:3])


@pytest.fixture
def ablation() -> Callable[..., AblationResult]:
    return build_ablation


ABLATION_SHAPES = {
    "four modes": {},
    "two modes": {"modes": MODES[:2], "without": ("Gaussian NLL", "reconstruction", "KL")},
    "the baseline alone": {"modes": MODES[:1], "without": tuple(TERMS)},
    "single fold": {"folds": ((42, 0),)},
    "twelve folds": {"folds": tuple((seed, split) for seed in (1, 2, 42) for split in range(4))},
    "one list length": {"cutoffs": (10,)},
    "odd list lengths": {"cutoffs": (5, 6, 7, 45, 50, 100, 1000)},
    "published dataset": {"dataset": PUBLISHED_DATASET},
    "synthetic": {"dataset": {**PUBLISHED_DATASET, "name": "sample", "synthetic": True}},
    "long names": {
        "modes": ("a baseline with a very long name", "+a part with a very long name"),
        "dataset": {**PUBLISHED_DATASET, "name": "a dataset whose name is far longer than a title has room for"},
    },
    "KL alone": {"without": ("reconstruction",)},
}


@pytest.fixture(scope="session", params=list(ABLATION_SHAPES))
def any_ablation(request: pytest.FixtureRequest) -> AblationResult:
    """Each of the shapes that an ablation can have."""
    return build_ablation(**ABLATION_SHAPES[request.param])


ENTRIES = {"marec": "strict", "marec_plus": "strict", "kernel_align": "strict", "kernel_align_full": "full"}
LEVELS = {"marec": 0.0, "marec_plus": 0.002, "kernel_align": 0.05, "kernel_align_full": 0.07}


def build_entry(name: str, track: str, gain: float, study: StudyResult, users: dict, rest: dict) -> EntryResult:
    """Return an entry that lies `gain` above the study's winner, on validation and on test."""
    winner = study.selection.winner

    def raised(folds: tuple[FoldMetrics, ...]) -> tuple[FoldMetrics, ...]:
        return tuple(
            dataclasses.replace(fold, metrics={m: value + gain for m, value in fold.metrics.items()}) for fold in folds
        )

    selection = dataclasses.replace(study.selection, winner=dataclasses.replace(winner, folds=raised(winner.folds)))
    moved = dataclasses.replace(study, name=name, model="marec", selection=selection, test=raised(study.test))
    per_user = {metric: values + gain for metric, values in users.items()}
    over = {m: build_lift(per_user, users, m) for m in users} if name != rest["baseline"] else {}
    return EntryResult(
        name=name,
        track=track,
        study=moved,
        attributes={"genres": "multi_hot", "year": "scalar"},
        per_user=per_user,
        intervals={m: (mean_metric(moved.test, m) - 0.0094, mean_metric(moved.test, m) + 0.0087) for m in users},
        over_baseline=over,
        rival=rest["rival"],
        over_rival={m: dataclasses.replace(lift, difference=gain / 8) for m, lift in over.items() if rest["rival"]},
        seconds=123.4,
    )


def build_comparison(
    *,
    entries: dict[str, str] = ENTRIES,
    levels: dict[str, float] = LEVELS,
    failed: tuple[str, ...] = (),
    champion: str | None = None,
    inspected: bool = False,
    held_out: str = "items",
    **shape: Any,
) -> ComparisonResult:
    """Return a comparison in which each entry lies its level above the first."""
    study = build_study(**shape)
    draws = np.random.default_rng(3)
    users = {name: draws.uniform(0.1, 0.5, 240) for name in study.test[0].metrics}
    names = list(entries)
    found = tuple(
        build_entry(
            name,
            track,
            levels.get(name, 0.0),
            study,
            users,
            {"baseline": names[0], "rival": next((n for n in names if n != name and entries[n] == track), None)},
        )
        for name, track in entries.items()
    )
    if inspected:
        found = tuple(
            dataclasses.replace(entry, inspections=build_inspections(place, len(entry.folds), mapped=place > 0))
            for place, entry in enumerate(found)
        )
    best = champion or max(names, key=lambda name: levels.get(name, 0.0))
    return ComparisonResult(
        name="coldstart",
        dataset=study.dataset,
        protocol=study.protocol,
        cutoffs=study.cutoffs,
        metric=study.selection.metric,
        baseline=names[0],
        champion=best,
        entries=found,
        failed=tuple(FailedEntry(name, "full", "kernel_align", HOSTILE) for name in failed),
        correction="Holm",
        seconds=1834.0,
        held_out=held_out,
        inspection=InspectionConfig() if inspected else None,
        shown=build_facts() if inspected and len(found) > 1 else None,
    )


@pytest.fixture
def comparison() -> Callable[..., ComparisonResult]:
    return build_comparison


COMPARISON_SHAPES = {
    "two tracks": {},
    "one entry": {"entries": {"marec": "strict"}},
    "the full track alone": {"entries": {"marec": "full", "kernel_align": "full"}},
    "a failed entry": {"failed": ("[bold]content_knn[/bold]",)},
    "single split": {"folds": ((42, 0),)},
    "twelve splits": {"folds": tuple((seed, split) for seed in (1, 2, 42) for split in range(4))},
    "odd cutoffs": {"cutoffs": (5, 100)},
    "one cutoff": {"cutoffs": (10,)},
    "published dataset": {"dataset": PUBLISHED_DATASET},
    "synthetic": {"dataset": {**PUBLISHED_DATASET, "name": "sample", "synthetic": True}},
    "inspected": {"inspected": True},
    "inspected on one split": {"inspected": True, "folds": ((42, 0),), "failed": ("svd",)},
    "one entry inspected": {"entries": {"marec": "strict"}, "inspected": True},
    "three tracks of interactions": {
        "entries": {"marec": "strict", "ease": "clicks", "text_graph": "full"},
        "held_out": "interactions",
        "inspected": True,
    },
    "long names": {"entries": {"marec": "strict", "a-learned-kernel-with-a-very-long-name": "full"}},
}


@pytest.fixture(scope="session", params=list(COMPARISON_SHAPES))
def any_comparison(request: pytest.FixtureRequest) -> ComparisonResult:
    """Each of the shapes that a comparison can have."""
    return build_comparison(**COMPARISON_SHAPES[request.param])
