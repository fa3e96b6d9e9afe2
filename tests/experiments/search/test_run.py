"""What a study proposes, in what order, also when it goes on; and when ASHA prunes."""

import json
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from coldray.core.errors import ConfigError
from coldray.experiments.record.record import StudyRecord
from coldray.experiments.results import FoldMetrics, TrialResult, reached
from coldray.experiments.search.proposals import (
    _MOST_AT_ONCE,
    _STARTUP_TRIALS,
    Proposals,
    _block_sizes,
    _TPEPoints,
    proposer,
)
from coldray.experiments.search.run import _remember, scheduler
from coldray.experiments.space import StudyConfig, grid_points
from coldray.models.marec.config import MARecConfig

SPACE = {
    "lambda_1": {"log_uniform": [1, 100]},
    "beta": {"uniform": [2, 5]},
    "order": {"int_uniform": [1, 2]},
    "learner": {"choice": ["regression", "nonnegative"]},
    "alpha": 1.0,
}


def study(algorithm="random", space=None, **fields):
    return StudyConfig.model_validate(
        {
            "name": "s",
            "model": "marec",
            "space": space or SPACE,
            **fields,
            "search": {"algorithm": algorithm, **fields.get("search", {})},
        }
    )


METRIC = "ndcg@10"


def all_points(config):
    source = proposer(config)
    return [source.propose(number) for number in range(config.n_trials)]


def test_a_grid_lists_each_of_its_points_once():
    space = {"order": {"choice": [1, 2]}, "delta": {"choice": [5.0, 20.0]}, "alpha": 2.0}
    assert all_points(study("grid", space)) == grid_points(space)
    assert len(grid_points(space)) == 4


@pytest.mark.parametrize("algorithm", ["optuna", "random", "grid"])
def test_fixed_values_alone_are_one_configuration(algorithm):
    config = study(algorithm, {"order": 1, "delta": {"genres": 5.0}})
    assert config.n_trials == 1
    assert all_points(config) == [config.space]


@pytest.mark.parametrize("algorithm", ["optuna", "random"])
def test_draws_lie_in_their_ranges_and_reach_both_ends_of_whole_numbers(algorithm):
    points = all_points(study(algorithm, search={"trials": 80}))
    for point in points:
        assert set(point) == set(SPACE)
        assert 1 <= point["lambda_1"] <= 100
        assert 2 <= point["beta"] <= 5
        assert point["alpha"] == 1.0
        MARecConfig.model_validate(point)
    assert {point["order"] for point in points} == {1, 2}
    assert {point["learner"] for point in points} == {"regression", "nonnegative"}


def test_a_logarithmic_range_is_drawn_evenly_in_its_logarithm():
    drawn = [point["lambda_1"] for point in all_points(study("random", search={"trials": 400}))]
    assert 150 < sum(value < 10 for value in drawn) < 250


@given(low=st.floats(1e-12, 1e12), ratio=st.floats(1.0000001, 1e6), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_no_draw_leaves_a_logarithmic_range(low, ratio, seed):
    high = low * ratio
    config = study("random", {"lambda_1": {"log_uniform": [low, high]}}, search={"seed": seed, "trials": 3})
    assert all(low <= point["lambda_1"] <= high for point in all_points(config))


def worth(parameters):
    return 1 / parameters["lambda_1"]


def folds_of(parameters):
    return [FoldMetrics(1, 0, {METRIC: worth(parameters)}, 1.0)]


def ended(number, parameters, status="finished"):
    return TrialResult(f"t{number}", number, parameters, tuple(folds_of(parameters)), status, None, 1.0)


def record_of(known):
    """Return the record of a study whose trials of these numbers and parameters have ended."""
    record = StudyRecord()
    record.parameters = dict(known)
    record.ended = {number: ended(number, parameters) for number, parameters in record.parameters.items()}
    return record


def told(one):
    """Return what a worker tells of a trial that it has ended."""
    return {"number": one["number"], "folds": [asdict(fold) for fold in folds_of(one["parameters"])], "ended": True}


def given_now(searcher, first=0):
    """Return what workers are given until nothing is left for now, by the names they are given it under."""
    given = {}
    while isinstance(found := searcher.suggest(f"id{first + len(given)}"), dict):
        given[f"id{first + len(given)}"] = found["trials"]
    return given


def run(config, known=(), *, order=None, stop_after=None, workers=2):
    """Search as Ray Tune does, in whatever order trials end; return number and configuration of each that was run."""
    searcher = Proposals(config, record_of(known), workers)
    generator = np.random.default_rng(order)
    run_now, live, count = [], {}, 0
    while True:
        live |= (given := given_now(searcher, count))
        count += len(given)
        assert len(live) <= config.search.max_concurrent
        if not live:
            return run_now
        name = sorted(live)[int(generator.integers(len(live))) if order is not None else 0]
        batch = live.pop(name)
        for one in batch:
            if stop_after is not None and len(run_now) >= stop_after:
                return run_now
            searcher.on_trial_result(name, {"trials": [told(one)]})
            run_now.append((one["number"], one["parameters"]))
        searcher.on_trial_complete(name, {"trials": [told(batch[-1])]})


@pytest.mark.parametrize("algorithm", ["optuna", "random", "grid"])
def test_every_trial_is_proposed_once_whatever_order_trials_end_in(algorithm):
    space = {"order": {"choice": [1, 2]}, "delta": {"choice": [5.0, 20.0]}, "lambda_1": {"choice": [1.0, 2.0, 4.0]}}
    config = study(algorithm, space, search={"trials": 12, "max_concurrent": 3})
    first = run(config)
    assert [number for number, _ in sorted(first)] == list(range(12))
    assert sorted(run(config, order=5), key=lambda one: one[0]) == sorted(first, key=lambda one: one[0])


@pytest.mark.parametrize("algorithm", ["optuna", "random", "grid"])
@pytest.mark.parametrize("stop_after", [0, 1, 4, 13, 23])
def test_a_search_that_goes_on_proposes_what_is_missing_and_nothing_else(algorithm, stop_after):
    space = {"lambda_1": {"log_uniform": [1, 100]}, "order": {"choice": [1, 2]}}
    if algorithm == "grid":
        space = {"lambda_1": {"choice": [float(value) for value in range(1, 13)]}, "order": {"choice": [1, 2]}}
    config = study(algorithm, space, search={"trials": 24, "max_concurrent": 4})
    undisturbed = dict(run(config))
    begun = run(config, order=stop_after, stop_after=stop_after)
    later = run(config, begun)
    assert {number for number, _ in begun}.isdisjoint({number for number, _ in later})
    assert {**dict(begun), **dict(later)} == undisturbed


def test_a_trial_that_went_another_way_before_is_taken_as_it_was():
    """A lost trial is run again, so Optuna may learn more now than when the later ones were proposed."""
    config = study("optuna", {"lambda_1": {"log_uniform": [1, 100]}}, search={"trials": 24, "max_concurrent": 4})
    other = {number: {"lambda_1": 3.0 + number} for number in range(12, 20)}
    later = run(config, list(other.items()))
    assert Counter(number for number, _ in later) == Counter([*range(12), *range(20, 24)])
    points = _TPEPoints(config)
    asked = [points.propose(number) for number in range(2)]
    assert asked[0] != asked[1]


def test_the_seed_decides_what_optuna_proposes():
    def proposals(seed):
        return run(study("optuna", search={"seed": seed, "trials": 24, "max_concurrent": 2}))

    assert _STARTUP_TRIALS < 24
    assert proposals(1) == proposals(1)
    assert proposals(1) != proposals(2)


def test_what_failed_is_told_as_the_worst():
    assert reached(METRIC, [{METRIC: 0.4}, {METRIC: 0.2}]) == pytest.approx(0.3)
    assert reached(METRIC, [{METRIC: 0.4}], failed=True) == reached(METRIC, []) == 0.0
    assert reached("rmse", [], failed=True) == 1e9


def test_parameters_that_came_from_a_file_are_those_that_were_proposed():
    space = {"delta": {"choice": [5.0, {"genres": 5.0, "actors": 2.0}]}, "lambda_1": {"log_uniform": [1, 100]}}
    config = study("optuna", space, search={"trials": 16, "max_concurrent": 4})
    undisturbed = run(config)
    kept = json.loads(json.dumps(undisturbed[:8]))
    assert dict(run(config, [tuple(one) for one in kept])) == dict(undisturbed[8:])


def test_workers_are_given_several_trials_while_there_are_many_and_one_by_one_at_the_end():
    space = {"lambda_1": {"choice": [float(value) for value in range(1, 101)]}}
    searcher = Proposals(study("grid", space, search={"max_concurrent": 100}), StudyRecord(), 4)
    given = [[one["number"] for one in trials] for trials in given_now(searcher).values()]
    assert [number for trials in given for number in trials] == list(range(100))
    sizes = [len(trials) for trials in given]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 13  # half of a quarter
    assert sizes[-8:] == [1] * 8
    assert len(sizes) < 40
    many = {"lambda_1": {"choice": [float(value) for value in range(1, 1001)]}}
    first = Proposals(study("grid", many), StudyRecord(), 2).suggest("first")
    assert len(first["trials"]) == _MOST_AT_ONCE


def test_of_a_grid_a_worker_is_given_whole_blocks():
    space = {
        "lambda_1": {"choice": [float(value) for value in range(1, 11)]},
        "beta": {"choice": [1.0, 2.0, 3.0, 4.0, 5.0]},
        "order": 1,
        "alpha": {"choice": [0.5, 1.0, 2.0, 3.0]},
    }
    assert _block_sizes(space) == [1, 4, 4, 20, 200]
    given = list(given_now(Proposals(study("grid", space, search={"max_concurrent": 100}), StudyRecord(), 2)).values())
    sizes = [len(trials) for trials in given]
    assert sizes[:7] == [20] * 7
    assert sizes == sorted(sizes, reverse=True)
    assert all(len({one["parameters"]["lambda_1"] for one in trials}) == 1 for trials in given[:7])
    assert all(one[0]["number"] % 4 == 0 for one in given if len(one) >= 4)
    assert [one["number"] for trials in given for one in trials] == list(range(200))


@pytest.mark.parametrize("changes", [{"scheduler": {}}, {"search": {"max_concurrent": 2}}])
def test_a_scheduler_and_few_trials_have_each_run_by_itself(changes):
    space = {"lambda_1": {"choice": [float(value) for value in range(1, 101 if "scheduler" in changes else 5)]}}
    searcher = Proposals(study("grid", space, **changes), StudyRecord(), 4)
    assert {len(trials) for trials in given_now(searcher).values()} == {1}


def test_splits_that_are_known_are_given_with_the_trial():
    record = StudyRecord()
    record.folds[1] = folds_of({"lambda_1": 4.0})
    searcher = Proposals(study("grid", {"lambda_1": {"choice": [2.0, 4.0]}}), record)
    given = [one for trials in given_now(searcher).values() for one in trials]
    assert [one["folds"] for one in given] == [[], [asdict(fold) for fold in record.folds[1]]]


def numbers_given(searcher, name):
    found = searcher.suggest(name)
    return [one["number"] for one in found["trials"]] if isinstance(found, dict) else found


def test_what_a_lost_worker_had_is_tried_again_one_by_one_and_what_it_had_ended_is_not():
    space = {"lambda_1": {"choice": [float(value) for value in range(1, 13)]}}
    searcher = Proposals(study("grid", space, search={"max_concurrent": 1}, failures={"retries": 2}), StudyRecord(), 1)
    given = searcher.suggest("a")["trials"]
    assert [one["number"] for one in given] == [0, 1, 2, 3, 4, 5]
    searcher.on_trial_result("a", {"trials": [told(given[0])]})
    searcher.on_trial_complete("a", {"trials": [told(given[0])]}, error=True)
    assert numbers_given(searcher, "b") == [1]
    searcher.on_trial_complete("b", None, error=True)
    assert numbers_given(searcher, "c") == [1]
    searcher.on_trial_complete("c", None, error=True)  # the third time is beyond two retries
    for number in (2, 3, 4, 5):
        name = f"d{number}"
        found = searcher.suggest(name)["trials"]
        assert [one["number"] for one in found] == [number]
        searcher.on_trial_complete(name, {"trials": [told(found[0])]})
    assert numbers_given(searcher, "e") == [6, 7, 8]
    values = [proposal.value for proposal in searcher._batch[:6]]
    assert values[1] is None
    assert None not in values[:1] + values[2:]


def test_pruning_is_asked_for_in_the_study_file():
    assert isinstance(scheduler(study(), 6), FIFOScheduler)
    asha = scheduler(study(scheduler={"grace_splits": 2, "reduction_factor": 4}), 6)
    assert isinstance(asha, ASHAScheduler)
    assert asha._max_t == 6
    assert asha._reduction_factor == 4
    assert asha.metric == "ndcg@10"
    assert asha._time_attr == "splits_done"
    assert sorted(rung for rung, _ in asha._brackets[0]._rungs) == [2]


def test_one_split_cannot_be_pruned():
    assert isinstance(scheduler(study(scheduler={"grace_splits": 1}), 1), FIFOScheduler)


def test_more_grace_than_splits_prunes_nothing():
    asha = scheduler(study(scheduler={"grace_splits": 9}), 3)
    assert asha._max_t == 3


def test_a_scheduler_remembers_what_trials_reached_before():
    config = study(scheduler={"grace_splits": 1, "reduction_factor": 2})
    fresh, told = scheduler(config, 4), scheduler(config, 4)
    folds = tuple(FoldMetrics(1, split, {METRIC: 0.9}) for split in range(4))
    _remember(told, [TrialResult(f"t{i}", i, {}, folds, "finished") for i in range(5)], METRIC)

    def decision(chosen):
        weak = type("Weak", (), {"trial_id": "weak"})()
        chosen.on_trial_add(None, weak)
        return chosen.on_trial_result(None, weak, {METRIC: 0.1, "splits_done": 1})

    assert decision(fresh) == TrialScheduler.CONTINUE
    assert decision(told) == TrialScheduler.STOP
    _remember(FIFOScheduler(), [TrialResult("t", 0, {}, folds, "finished")], METRIC)


def test_the_first_configurations_are_tried_before_any_proposal():
    first = [{"beta": 3.0, "learner": "regression", "order": 1, "lambda_1": 7.0}, {"beta": 2.0}]
    config = study("optuna", search={"first": first, "trials": 3})
    proposed = all_points(config)
    defaults = {"lambda_1": 1.0, "order": 2, "learner": "regression"}
    for found, expected in zip(proposed, ({**first[0]}, {**defaults, "beta": 2.0}), strict=False):
        assert {name: found[name] for name in expected} == expected
    assert proposed[2]["beta"] not in (2.0, 3.0)


@pytest.mark.parametrize(
    ("algorithm", "first", "expected"),
    [
        ("optuna", [{"beta": 9.0}], r"beta=9\.0 is outside of uniform \[2, 5\]"),
        ("optuna", [{"learner": "correlation", "beta": 3.0}], r"learner='correlation' is outside of choice"),
        ("optuna", [{"bta": 3.0}], r"search\.first: bta.*beta"),
        ("random", [{"beta": 3.0}], r"random has an order of its own"),
    ],
)
def test_first_configurations_that_cannot_be_proposed_are_refused(algorithm, first, expected):
    with pytest.raises(ConfigError, match=expected):
        study(algorithm, search={"first": first})


def test_a_first_value_of_a_parameter_that_is_fixed_gives_way():
    space = {**SPACE, "beta": 4.0}
    config = study("optuna", space, search={"first": [{"beta": 3.0, "order": 1}]})
    assert config.first_points[0].keys() == {"lambda_1", "order", "learner"}
