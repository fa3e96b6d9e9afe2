"""Whole studies on a small sample: what is searched, what is reported, and what a study can never see."""

import contextlib
import dataclasses
import math
import pickle
import sys
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import ray
import scipy.sparse as sp

from coldray.core.errors import ConfigError, StudyError, UnknownAttributeError
from coldray.data.dataset import LabelAttribute, NumberAttribute, TextAttribute
from coldray.data.sources.sample import sample_dataset
from coldray.experiments.evaluation import evaluate
from coldray.experiments.folds import prepare_task
from coldray.experiments.listeners import StudyListener
from coldray.experiments.record.record import StudyRecord, trial_key
from coldray.experiments.results import mean_metric
from coldray.experiments.search.events import TuneEvents
from coldray.experiments.search.run import search
from coldray.experiments.selection import select
from coldray.experiments.space import StudyConfig
from coldray.experiments.study import draw_splits, prepare_study, run_study
from coldray.experiments.winner import measure_winner
from coldray.features.builder import FeatureConfig
from coldray.models.marec.config import MARecConfig
from coldray.models.marec.model import MARec

# Workers cannot import this module by its name, so what it defines travels by value.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
pytestmark = pytest.mark.usefixtures("ray_cluster")
METRIC = "ndcg@10"


def study(space, **fields):
    base = {"name": "small", "model": "marec", "cutoffs": [5, 10], "splits": {"n_splits": 2}}
    return StudyConfig.model_validate({**base, "space": {"order": 1, "delta": 5.0, **space}, **fields})


class Recorder(StudyListener):
    """Keeps every event in order."""

    def __init__(self):
        self.events = []

    def named(self, name):
        return [values for event, *values in self.events if event == name]

    def study_started(self, config, dataset, study_id, protocol):
        self.events.append(("study_started", study_id, protocol))

    def stage(self, message):
        self.events.append(("stage", message))

    def search_started(self, n_trials, n_splits, metric):
        self.events.append(("search_started", n_trials, n_splits, metric))

    def trial_started(self, trial_id, number, config):
        self.events.append(("trial_started", trial_id, number, dict(config)))

    def trial_reported(self, trial_id, folds):
        self.events.append(("trial_reported", trial_id, len(folds)))

    def trial_ended(self, trial):
        self.events.append(("trial_ended", trial))

    def shared(self, status):
        self.events.append(("shared", list(status)))

    def search_ended(self):
        self.events.append(("search_ended",))


def workers(*titles):
    """Return the processes of this session's Ray that run an actor of one of these classes."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(title in part for part in process.cmdline() for title in titles):
                found.append(process)
    return found


@pytest.fixture(scope="module")
def dataset():
    return sample_dataset(0, 120, 100)


# A grid of which half cannot be fitted: solver users has no room for lambda_0.

GRID = study(
    {
        "lambda_1": {"choice": [1.0, 100.0]},
        "lambda_0": {"choice": [0.0, 1.0]},
        "alpha": {"choice": [1.0, 1e300]},
        "solver": "users",
    },
    search={"algorithm": "grid"},
    selection={"tolerance": 0.5, "simplest": [{"lambda_1": "high"}]},
)


@pytest.fixture(scope="module")
def recorder():
    return Recorder()


@pytest.fixture(scope="module")
def result(dataset, recorder):
    return run_study(prepare_study(GRID, dataset), study_id="small-grid", listener=recorder)


def test_a_grid_runs_each_point_once(result):
    points = [tuple(trial.config[name] for name in result.searched) for trial in result.trials]
    assert sorted(points) == [(a, b, c) for a in (1.0, 100.0) for b in (0.0, 1.0) for c in (1.0, 1e300)]
    assert [trial.number for trial in result.trials] == list(range(8))
    assert len({trial.trial_id for trial in result.trials}) == 8


def test_a_trial_keeps_its_whole_configuration(result):
    for trial in result.trials:
        assert set(trial.config) == set(MARecConfig.model_fields)
        if trial.config["lambda_0"] == 0:
            assert MARecConfig.model_validate(trial.config).model_dump(mode="json") == trial.config
        assert (trial.config["order"], trial.config["solver"], trial.config["w0"]) == (1, "users", 0.2)


def test_what_cannot_be_fitted_costs_itself_alone_and_says_why(result):
    for trial in result.trials:
        if trial.config["lambda_0"] > 0:
            assert trial.status == "failed"
            assert trial.error.startswith("ConfigError: solver='users' decomposes XXᵀ")
        elif trial.config["alpha"] > 1:
            assert trial.status == "failed"
            assert trial.error.startswith("NumericalError: A score of row 0 is NaN")
        else:
            assert (trial.status, trial.error) == ("finished", None)
        if trial.error:
            assert "Traceback" not in trial.error
            assert "ray::" not in trial.error
            assert "\n" not in trial.error
            assert trial.folds == ()


def test_the_mean_is_that_of_the_folds(result):
    finished = [trial for trial in result.trials if trial.status == "finished"]
    assert len(finished) == 2
    for trial in finished:
        assert [(fold.seed, fold.split) for fold in trial.folds] == [(42, 0), (42, 1)]
        values = [fold.metrics[METRIC] for fold in trial.folds]
        assert trial.mean(METRIC) == pytest.approx(np.mean(values))
        assert trial.std(METRIC) == pytest.approx(np.std(values, ddof=1))
        assert 0 < trial.mean(METRIC) < 1
        assert all(fold.seconds > 0 for fold in trial.folds)


def test_folds_are_what_an_evaluation_without_ray_gives(result, dataset):
    for trial in (trial for trial in result.trials if trial.status == "finished"):
        for fold, split in zip(trial.folds, draw_splits(dataset, GRID), strict=True):
            task = prepare_task(split.for_tuning().fold, GRID.features)
            model = MARec(MARecConfig.model_validate(trial.config)).fit(task.train)
            alone = evaluate(model, task, candidates="cold", cutoffs=(5, 10)).means()
            assert dict(fold.metrics) == pytest.approx(alone, abs=1e-6)


def test_the_winner_is_that_of_the_rule(result):
    again = select(result.trials, GRID.selection)
    assert again == result.selection
    assert result.selection.winner.config["lambda_1"] == 100.0
    assert result.ranked_trials()[0] == result.selection.best


def test_the_winner_is_tested_once_on_the_test_items_of_each_split(result, recorder, dataset):
    assert [(fold.seed, fold.split) for fold in result.test] == [(42, 0), (42, 1)]
    for fold, split in zip(result.test, draw_splits(dataset, GRID), strict=True):
        task = prepare_task(split.test_fold, GRID.features)
        assert task.held_out_items.tolist() == split.test_items.tolist()
        model = MARec(MARecConfig.model_validate(result.selection.winner.config)).fit(task.train)
        alone = evaluate(model, task, candidates="cold", cutoffs=(5, 10)).means()
        assert dict(fold.metrics) == pytest.approx(alone, abs=1e-6)
    tests = [message for (message,) in recorder.named("stage") if "testing" in message]
    assert tests == [f"testing the winner, trial {result.selection.winner.number}, once on each split"]


def test_intervals_enclose_the_means_of_the_test(result):
    for name in ("ndcg@10", "hr@5", "mrr@10"):
        low, high = result.test_intervals[name]
        assert low < mean_metric(result.test, name) < high


def test_the_result_tells_its_data_and_protocol(result, dataset):
    assert result.dataset["fingerprint"] == dataset.fingerprint
    assert result.dataset["synthetic"] is True
    assert (result.dataset["n_users"], result.dataset["n_items"]) == (120, 100)
    assert "60 % train" in result.protocol["split"]
    assert "42" in result.protocol["splits"]
    assert result.protocol["candidates"].startswith("cold")
    assert result.seconds > 0


def test_whoever_watches_hears_each_event_once_and_in_order(result, recorder):
    assert recorder.named("study_started")[0][0] == "small-grid"
    assert recorder.named("search_started") == [[8, 2, METRIC]]
    started = recorder.named("trial_started")
    assert sorted(number for _, number, _ in started) == list(range(8))
    assert all(set(config) == set(result.searched) for _, _, config in started)
    ended = {trial.number: trial for (trial,) in recorder.named("trial_ended")}
    assert [ended[number] for number in range(8)] == list(result.trials)
    assert len(recorder.named("trial_ended")) == 8
    for trial in result.trials:
        mine = [event[0] for event in recorder.events if trial.trial_id in event or trial in event]
        assert mine[0] == "trial_started"
        assert mine[-1] == "trial_ended"
        if trial.status == "finished":
            counts = [count for trial_id, count in recorder.named("trial_reported") if trial_id == trial.trial_id]
            assert counts == [1, 2]
    names = [event[0] for event in recorder.events]
    assert names.index("search_started") < names.index("trial_started")
    assert max(i for i, name in enumerate(names) if name == "trial_ended") < names.index("search_ended")
    assert names.count("search_ended") == 1


def test_what_trials_share_is_seen_and_named_once(recorder):
    statuses = [status for (status,) in recorder.named("shared")]
    assert statuses
    labels = [entry.label for entry in statuses[-1]]
    assert len(labels) == len(set(labels))
    assert any("seed 42 / split 0" in label for label in labels)
    assert {entry.state for entry in statuses[-1]} == {"done"}  # also those that ended after the last look
    assert max(sum("regression moments" in entry.label for entry in status) for status in statuses) <= 2


def test_no_actor_of_a_search_is_left(result):
    deadline = time.monotonic() + 10
    while (left := workers("SharedResults", "ImplicitFunc")) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []


# Promise 6: selection cannot touch test data.

CANARY = study(
    {"lambda_1": {"log_uniform": [1, 1000]}, "delta": {"choice": [2.0, 20.0]}},
    search={"algorithm": "optuna", "trials": 4, "seed": 3, "max_concurrent": 2},
    candidates="all",
)


def poisoned(split, seed):
    """Return the split with other test items: new ids, random clicks, labels, years and texts."""
    rng = np.random.default_rng(seed)
    data, test = split.dataset, split.test_items
    ids = data.item_ids.astype("U30")
    ids[test] = [f"{item}-canary" for item in ids[test]]  # still ascending
    clicks = data.interactions.tolil(copy=True)
    clicks[:, test] = rng.random((data.n_users, len(test))) < 0.5
    attributes: dict[str, Any] = {}
    for name, attribute in data.attributes.items():
        if isinstance(attribute, LabelAttribute):
            labels = np.append(attribute.labels.astype("U30"), ["zz-canary-1", "zz-canary-2"])
            matrix = sp.hstack([attribute.matrix, sp.csr_array((data.n_items, 2), dtype=np.float32)]).tolil()
            matrix[test] = rng.random((len(test), len(labels))) < 0.7
            attributes[name] = LabelAttribute(sp.csr_array(matrix, dtype=np.float32), labels)
        elif isinstance(attribute, NumberAttribute):
            values = attribute.values.copy()
            values[test] = rng.uniform(-1e6, 1e6, len(test))
            attributes[name] = NumberAttribute(values)
        else:
            texts = list(attribute.texts)
            for item in test:
                texts[item] = f"canary {rng.integers(10**6)} robot kiss"
            attributes[name] = TextAttribute(tuple(texts))
    clicks = sp.csr_array(clicks, dtype=np.float32)
    return replace(split, dataset=replace(data, item_ids=ids, interactions=clicks, attributes=attributes))


def emptied(split):
    """Return the split with as little as it may have of its test items: one click, and no attribute."""
    data, test = split.dataset, split.test_items
    clicks = data.interactions.tolil(copy=True)
    clicks[:, test] = 0
    clicks[0, test[0]] = 1
    attributes: dict[str, Any] = {}
    for name, attribute in data.attributes.items():
        if isinstance(attribute, LabelAttribute):
            matrix = attribute.matrix.tolil(copy=True)
            matrix[test] = 0
            attributes[name] = LabelAttribute(sp.csr_array(matrix), attribute.labels)
        elif isinstance(attribute, NumberAttribute):
            values = attribute.values.copy()
            values[test] = np.nan
            attributes[name] = NumberAttribute(values)
        else:
            texts = ["" if item in set(test.tolist()) else text for item, text in enumerate(attribute.texts)]
            attributes[name] = TextAttribute(tuple(texts))
    return replace(split, dataset=replace(data, interactions=sp.csr_array(clicks), attributes=attributes))


@pytest.fixture(scope="module")
def variants(dataset):
    """Splits that differ in their test items alone."""
    splits = draw_splits(dataset, CANARY)
    return {
        "as they are": splits,
        "poisoned": [poisoned(split, seed) for seed, split in enumerate(splits)],
        "emptied": [emptied(split) for split in splits],
    }


@pytest.fixture(scope="module")
def searches(variants):
    with pytest.MonkeyPatch.context() as patch:
        # Two random trials come first; the others are proposed from what these gave.
        patch.setattr("coldray.experiments.search.proposals._STARTUP_TRIALS", 2)
        yield {
            name: search(
                CANARY,
                [split.for_tuning() for split in splits],
                study_id=f"canary-{name.replace(' ', '-')}",
            )
            for name, splits in variants.items()
        }


def findings(outcome):
    """Return what a search found, without what a clock says."""
    return [
        (trial.number, dict(trial.config), trial.status, [(f.seed, f.split, dict(f.metrics)) for f in trial.folds])
        for trial in outcome.trials
    ]


@pytest.mark.parametrize("variant", ["poisoned", "emptied"])
def test_test_items_change_nothing_a_search_finds(searches, variant):
    """It is also the test that a seed decides everything: these are three runs of two concurrent trials each."""
    original = searches["as they are"]
    assert [trial.status for trial in original.trials] == ["finished"] * 4
    assert findings(searches[variant]) == findings(original)
    chosen, expected = (select(s.trials, CANARY.selection) for s in (searches[variant], original))
    assert chosen.winner.number == expected.winner.number
    assert [t.number for t in chosen.within_tolerance] == [t.number for t in expected.within_tolerance]


def test_test_items_do_change_the_test(searches, variants, dataset):
    """Without this the test above could pass because the poison has no effect at all."""
    selection = select(searches["as they are"].trials, CANARY.selection)
    study = prepare_study(CANARY, dataset)
    tested = {
        name: measure_winner(replace(study, splits=tuple(variants[name])), selection)
        for name in ("as they are", "poisoned")
    }
    again = measure_winner(study, selection)
    for first, second, same in zip(tested["as they are"].folds, tested["poisoned"].folds, again.folds, strict=True):
        assert abs(first.metrics[METRIC] - second.metrics[METRIC]) > 0.01
        assert dict(same.metrics) == dict(first.metrics)
    assert again.intervals == tested["as they are"].intervals


def contents(value, seen=None):
    """Yield every array, text and number that can be reached from `value`, the bases of views included."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    if value is None or isinstance(value, (bool, int, float, str, bytes, type)):
        yield value
    elif isinstance(value, np.ndarray):
        yield value
        yield from contents(value.base, seen)
        if value.dtype == object:
            yield from value.tolist()
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from contents(key, seen)
            yield from contents(entry, seen)
    elif isinstance(value, (tuple, list, set, frozenset)):
        for entry in value:
            yield from contents(entry, seen)
    else:
        if dataclasses.is_dataclass(value):
            for field in dataclasses.fields(value):
                yield from contents(getattr(value, field.name), seen)
        yield from contents(getattr(value, "__dict__", None), seen)


@pytest.mark.parametrize("kind", ["tuning split", "fold", "evaluation task"])
def test_no_trace_of_a_test_item_reaches_a_trial(variants, kind):
    for split in variants["poisoned"]:
        tuning = split.for_tuning()
        given = {
            "tuning split": lambda tuning=tuning: tuning,
            "fold": lambda tuning=tuning: tuning.fold,
            "evaluation task": lambda tuning=tuning: prepare_task(tuning.fold, CANARY.features),
        }[kind]()
        n_visible = split.dataset.n_items - len(split.test_items)
        found = list(contents(given))
        assert any(isinstance(value, np.ndarray) for value in found)
        for value in found:
            if isinstance(value, str):
                assert "canary" not in value
            elif isinstance(value, np.ndarray) and value.dtype.kind == "U":
                assert not any("canary" in str(text) for text in value.ravel())
            elif isinstance(value, np.ndarray):
                assert split.dataset.n_items not in value.shape, "an array over all items, test items included"
        travels = pickle.dumps(given)
        assert b"canary" not in travels
        assert "canary".encode("utf-32-le") not in travels
        visible = np.setdiff1d(np.arange(split.dataset.n_items), split.test_items)
        expected = split.dataset.interactions[:, visible].sum()
        if kind == "evaluation task":
            assert given.train.interactions.shape[1] == given.held_out.shape[1] == n_visible
            assert given.train.interactions.sum() + given.held_out.sum() == expected
            assert given.train.features.n_items == n_visible
        else:
            assert given.dataset.item_ids.tolist() == split.dataset.item_ids[visible].tolist()
            assert given.dataset.interactions.sum() == expected


# What can go wrong, and the edges.


def test_pruned_trials_have_fewer_folds_and_cannot_win(dataset, tmp_path):
    config = study(
        {"lambda_1": {"choice": [10.0]}, "delta": {"log_uniform": [1, 1e5]}, "w0": {"uniform": [0.001, 1]}},
        splits={"n_splits": 3},
        search={"algorithm": "random", "trials": 6, "seed": 1, "max_concurrent": 1},
        scheduler={"grace_splits": 1, "reduction_factor": 2},
    )
    outcome = search(config, [split.for_tuning() for split in draw_splits(dataset, config)], study_id="asha")
    by_status = {status: [t for t in outcome.trials if t.status == status] for status in ("finished", "pruned")}
    assert len(by_status["finished"]) + len(by_status["pruned"]) == 6
    assert by_status["pruned"]
    assert all(1 <= len(trial.folds) < 3 for trial in by_status["pruned"])
    assert all(len(trial.folds) == 3 for trial in by_status["finished"])
    assert len({trial.config["delta"] for trial in outcome.trials}) == 6
    selection = select(outcome.trials, config.selection)
    assert selection.winner.status == "finished"
    first = {trial.number: trial.folds[0].metrics[METRIC] for trial in outcome.trials}
    assert min(first, key=first.get) in {trial.number for trial in by_status["pruned"]}


class Killer(Recorder):
    """Kills the worker of the second trial once and that of the third as often as it has a split, as a kernel does."""

    def trial_reported(self, trial_id, folds):
        super().trial_reported(trial_id, folds)
        number = next(number for started, number, _ in self.named("trial_started") if started == trial_id)
        if number == 2 or (number == 1 and [1] not in self.named("killed")):
            for process in workers("ImplicitFunc"):
                process.kill()
            self.events.append(("killed", number))


def test_a_lost_worker_costs_nothing_if_its_trial_may_be_tried_again_and_else_that_trial_alone(dataset):
    config = study(
        {"lambda_1": {"choice": [1.0, 10.0, 100.0]}},
        search={"algorithm": "grid", "max_concurrent": 1},
        scheduler={"grace_splits": 3},  # each split of a trial is reported by itself
        splits={"n_splits": 3},
        failures={"retries": 1, "max_failed_trials": 1},
    )
    killer = Killer()
    outcome = search(
        config,
        [split.for_tuning() for split in draw_splits(dataset, config)],
        study_id="killed",
        listener=killer,
    )
    assert {1, 2} == {number for (number,) in killer.named("killed")}
    assert len(killer.named("trial_ended")) == len(killer.named("trial_started")) == 3
    assert [trial.status for trial in outcome.trials] == ["finished", "finished", "failed"]
    assert [(fold.seed, fold.split) for fold in outcome.trials[1].folds] == [(42, split) for split in range(3)]
    lost = outcome.trials[2]
    assert lost.lost
    assert "lambda_1=100.0" in lost.error
    assert "Traceback" not in lost.error
    assert select(outcome.trials, config.selection).winner.number in (0, 1)


@ray.remote(num_cpus=0)
def break_unexpectedly():
    raise ZeroDivisionError("by [zero]")


def test_an_unexpected_error_is_told_in_one_line(tmp_path):
    """Such an error ends the trial's function, and reaches the driver wrapped in Ray's own."""
    with pytest.raises(ray.exceptions.RayTaskError) as raised:
        ray.get(break_unexpectedly.remote())
    assert "break_unexpectedly" in str(raised.value)
    recorder = Recorder()
    config = study({"lambda_1": {"choice": [2.0]}}, search={"algorithm": "grid"}, failures={"retries": 1})
    events = TuneEvents(recorder, config, 2, StudyRecord())
    (tmp_path / "error.txt").write_text(f"Failure # 1 (occurred at noon)\nolder\nFailure # 2 (now)\n{raised.value}\n")
    trial = SimpleNamespace(
        trial_id="t1",
        config={"trials": [{"number": 1, "parameters": {"lambda_1": 2.0}}]},
        last_result={},
        error_file=str(tmp_path / "error.txt"),
    )
    events.on_trial_start(0, [trial], trial)
    events.on_trial_error(0, [trial], trial)
    assert recorder.named("trial_ended") == []
    events.on_trial_start(0, [trial], trial)
    events.on_trial_error(0, [trial], trial)
    assert len(recorder.named("trial_started")) == 1
    (ended,) = recorder.named("trial_ended")[0]
    assert (ended.number, ended.status, ended.lost) == (1, "failed", True)
    assert ended.error == "ZeroDivisionError: by [zero] (lambda_1=2.0)"


def test_what_breaks_a_trial_reaches_its_result(dataset, monkeypatch):
    """With Ray's own files, whose place and form the result depends on."""
    config = study(
        {"lambda_1": {"choice": [1.0]}},
        search={"algorithm": "grid"},
        splits={"n_splits": 1},
        failures={"max_failed_trials": 1},
    )
    splits = [split.for_tuning() for split in draw_splits(dataset, config)]
    monkeypatch.setattr("coldray.experiments.search.run.TrialPlan", lambda *_: None)  # run_trials reads its fields
    outcome = search(config, splits, study_id="broken")
    told = "AttributeError: 'NoneType' object has no attribute 'metric' (lambda_1=1.0)"
    assert [trial.error for trial in outcome.trials] == [told]


def test_trials_are_numbered_as_they_were_proposed_whichever_starts_first():
    recorder = Recorder()
    config = study({"lambda_1": {"choice": [1.0, 2.0, 3.0]}}, search={"algorithm": "grid"})
    events = TuneEvents(recorder, config, 1, StudyRecord())
    trials = [worker_of(number) for number in range(3)]
    for trial in reversed(trials):
        events.on_trial_start(0, trials, trial)
    for trial in (trials[1], trials[0], trials[2]):
        (one,) = trial.config["trials"]
        events.on_trial_result(0, trials, trial, {"trials": [ended_trial(one)]})
        events.on_trial_complete(0, trials, trial)
    keys = {number: trial_key(number, {"lambda_1": 1.0 + number}) for number in range(3)}
    started = [(trial_id, number) for trial_id, number, _ in recorder.named("trial_started")]
    assert started == [(keys[number], number) for number in (2, 1, 0)]
    assert {number: trial.trial_id for number, trial in events.ended.items()} == keys


def worker_of(*numbers):
    """Return a worker of Ray Tune that is given trials, as far as its events tell of it."""
    given = [{"number": number, "parameters": {"lambda_1": 1.0 + number}} for number in numbers]
    return SimpleNamespace(trial_id=f"w{numbers}", config={"trials": given}, last_result=None)


def ended_trial(one, **changes):
    fold = {"seed": 42, "split": 0, "metrics": {METRIC: 0.5}, "seconds": 1.0}
    return {"number": one["number"], "folds": [fold], "ended": True, "seconds": 2.0, **changes}


def test_the_trials_of_one_worker_start_and_end_one_after_the_other():
    recorder = Recorder()
    config = study({"lambda_1": {"choice": [1.0, 2.0, 3.0, 4.0]}}, search={"algorithm": "grid"})
    events = TuneEvents(recorder, config, 1, StudyRecord())
    worker = worker_of(0, 1, 2, 3)
    given = worker.config["trials"]
    events.on_trial_start(0, [worker], worker)
    events.on_trial_result(0, [worker], worker, {"trials": [ended_trial(given[0]), ended_trial(given[1])]})
    assert [number for _, number, _ in recorder.named("trial_started")] == [0, 1, 2]
    assert [trial.number for (trial,) in recorder.named("trial_ended")] == [0, 1]
    failed = {**ended_trial(given[2], error="NumericalError: NaN"), "folds": []}
    worker.last_result = {"trials": [failed]}
    events.on_trial_result(0, [worker], worker, worker.last_result)
    events.on_trial_complete(0, [worker], worker)  # as when the search is stopped
    assert [(trial.number, trial.status) for (trial,) in recorder.named("trial_ended")][2:] == [(2, "failed")]
    assert events.ended[2].error == "NumericalError: NaN (lambda_1=3.0)"
    assert events.ended[0].seconds == 2.0


def test_a_trial_that_the_scheduler_stops_is_pruned_and_one_that_the_search_stops_has_no_end():
    config = study({"lambda_1": {"choice": [1.0, 2.0]}}, search={"algorithm": "grid"}, scheduler={})
    events = TuneEvents(Recorder(), config, 3, StudyRecord())
    for number in range(2):
        worker = worker_of(number)
        worker.last_result = {"trials": [ended_trial(worker.config["trials"][0], ended=False)]}
        events.on_trial_start(0, [worker], worker)
        events.on_trial_result(0, [worker], worker, worker.last_result)
        events.on_trial_complete(0, [worker], worker)
        events.stopping = True
    assert {number: trial.status for number, trial in events.ended.items()} == {0: "pruned"}


def test_a_study_in_which_all_fails_names_the_first_reason(dataset, tmp_path):
    recorder = Recorder()
    config = study(
        {"alpha": {"choice": [1e300, 1e301]}},
        search={"algorithm": "grid", "max_concurrent": 1},
        splits={"n_splits": 1},
    )
    with pytest.raises(StudyError, match=r"None of the 2 trials.*A score of row 0 is NaN") as caught:
        run_study(prepare_study(config, dataset), study_id="hopeless", listener=recorder)
    assert "Traceback" not in str(caught.value)
    assert len(recorder.named("search_ended")) == 1
    assert not [message for (message,) in recorder.named("stage") if "testing" in message]


def test_one_trial_on_one_split_is_a_study(dataset, tmp_path):
    config = study(
        {"lambda_1": {"log_uniform": [1, 100]}},
        search={"algorithm": "random", "trials": 1},
        splits={"n_splits": 1, "seeds": [5], "protocol": "balanced"},
        candidates="all",
        features={"attributes": ["year", "genres"]},
    )
    result = run_study(prepare_study(config, dataset), study_id="single")
    assert len(result.trials) == len(result.test) == 1
    assert result.selection.winner == result.selection.best == result.trials[0]
    assert result.trials[0].std(METRIC) == 0.0
    assert math.isfinite(result.trials[0].mean(METRIC))
    assert result.dataset["attributes"] == ["year", "genres"]
    (split,) = draw_splits(dataset, config)
    task = prepare_task(split.test_fold, config.features)
    model = MARec(MARecConfig.model_validate(result.selection.winner.config)).fit(task.train)
    alone = evaluate(model, task, candidates="all", cutoffs=(5, 10)).means()
    assert dict(result.test[0].metrics) == pytest.approx(alone, abs=1e-6)


def test_seeds_and_splits_multiply(dataset):
    config = study({"order": {"choice": [1, 2]}}, splits={"n_splits": 2, "seeds": [1, 7]})
    splits = draw_splits(dataset, config)
    assert [(split.seed, split.split) for split in splits] == [(1, 0), (1, 1), (7, 0), (7, 1)]
    assert len({tuple(split.test_items) for split in splits}) == 4


def test_an_unknown_attribute_is_refused_before_anything_starts(dataset, tmp_path):
    recorder = Recorder()
    config = study({"order": {"choice": [1, 2]}}, features={"attributes": ["genre"]})
    with pytest.raises(UnknownAttributeError, match="Did you mean 'genres'"):
        run_study(prepare_study(config, dataset), study_id="unknown", listener=recorder)
    assert recorder.events == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        ({"genre": 5.0, "actors": 2.0}, [r"{'genre': 5.0, 'actors': 2.0} is not valid", "Did you mean 'genres'?"]),
        ({"genres": 5.0}, ["leaves out", "Give one for each of"]),
        ({"choice": [20.0, {"genre": 5.0}]}, [r"{'genre': 5.0} is not valid", "Used: "]),
        ({"choice": [{"genres": 5.0}, 20.0]}, [r"{'genres': 5.0} is not valid", "leaves out"]),
    ],
    ids=str,
)
def test_a_delta_that_does_not_go_with_the_attributes_is_refused_before_anything_starts(
    dataset, tmp_path, delta, expected
):
    recorder = Recorder()
    config = study({"lambda_1": {"log_uniform": [1, 100]}, "delta": delta})
    with pytest.raises(ConfigError, match=r"^space\.delta: ") as caught:
        run_study(prepare_study(config, dataset), study_id="delta", listener=recorder)
    for part in (*expected, *sample_vectors(dataset)):
        assert part in str(caught.value)
    assert recorder.events == []


def sample_vectors(dataset):
    """Return the default attributes that are compared by a cosine."""
    return [n for n in dataset.default_attributes if not isinstance(dataset.attributes[n], NumberAttribute)]


def test_a_delta_for_every_attribute_of_the_study_is_accepted(dataset):
    every = dict.fromkeys(sample_vectors(dataset), 5.0)
    prepare_study(study({"delta": {"choice": [every, 20.0]}}), dataset)
    narrow = {"attributes": ["year", "genres"]}
    prepare_study(study({"delta": {"genres": 5.0}}, features=narrow), dataset)
    with pytest.raises(ConfigError, match=r"Used: genres, year\."):
        prepare_study(study({"delta": every}, features=narrow), dataset)


def test_weights_may_name_a_count_where_there_are_counts(dataset):
    config = StudyConfig(
        name="small", model="content_knn", space={"weights": {"number of actors": 2.0}}, features={"counts": True}
    )
    prepare_study(config, dataset)
    with pytest.raises(ConfigError, match=r"'number of actors', which is not used"):
        prepare_study(config.model_copy(update={"features": FeatureConfig()}), dataset)


def test_attributes_that_leave_nothing_to_compare_are_refused_before_a_trial_starts(dataset, tmp_path):
    recorder = Recorder()
    attributes = {name: a for name, a in dataset.attributes.items() if name != "year"}
    attributes["year"] = NumberAttribute(np.full(dataset.n_items, np.nan))
    features = {"attributes": ["genres", "year"], "min_items": 99, "max_share": 0.5}
    config = study({"order": {"choice": [1, 2]}}, features=features, splits={"n_splits": 1})
    with pytest.raises(ConfigError, match="nothing to compare items by") as caught:
        run_study(prepare_study(config, replace(dataset, attributes=attributes)), study_id="nothing", listener=recorder)
    message = str(caught.value)
    assert "\n" not in message
    for part in ("items of seed 42 / split 0", "'genres' has no columns", "at least 99", "50%", "'year' has no values"):
        assert part in message
    assert not recorder.named("search_started")


def test_one_attribute_that_tells_items_apart_is_enough(dataset):
    features = FeatureConfig(attributes=("genres", "year"), min_items=99)
    (split, _) = draw_splits(dataset, CANARY)
    assert prepare_task(split.test_fold, features).train.features.features["genres"].matrix.shape[1] == 0
    with pytest.raises(ConfigError, match="nothing to compare"):
        prepare_task(split.test_fold, FeatureConfig(attributes=("genres",), min_items=99))


def test_folds_that_cannot_be_prepared_fail_as_what_they_are(dataset, tmp_path):
    config = study({"order": {"choice": [1, 2]}}, features={"text": {"genres": "tfidf"}}, splits={"n_splits": 1})
    with pytest.raises(ConfigError, match="`text` names 'genres'") as caught:
        run_study(prepare_study(config, dataset), study_id="unprepared")
    assert "Traceback" not in str(caught.value)
