"""A search that goes on, in one process: what has ended is not run again, and failures have a budget."""

import re

import pytest
import ray

from coldray.core.errors import FailureBudgetError, OutputError
from coldray.core.journal import Journal
from coldray.data.sources.sample import sample_dataset
from coldray.experiments.listeners import Listeners, StudyListener
from coldray.experiments.record.record import StudyRecord
from coldray.experiments.search.run import _parallel, _trial_resources, search
from coldray.experiments.space import FailureConfig, StudyConfig
from coldray.experiments.study import draw_splits
from coldray.models.linear.ease import EASE, EASEConfig

pytestmark = pytest.mark.usefixtures("ray_cluster")


def study(space, **fields):
    base = {"name": "small", "model": "marec", "cutoffs": [5, 10], "splits": {"n_splits": 2}}
    return StudyConfig.model_validate({**base, "space": {"order": 1, "delta": 5.0, **space}, **fields})


@pytest.fixture(scope="module")
def dataset():
    return sample_dataset(0, 120, 100)


@pytest.fixture(scope="module")
def splits(dataset):
    return [split.for_tuning() for split in draw_splits(dataset, study({"alpha": 1.0}))]


class Breaks(StudyListener):
    """Fails at the so-many-th split that is reported."""

    def __init__(self, at, error):
        self.left, self.error = at, error

    def trial_reported(self, trial_id, folds):
        self.left -= 1
        if self.left == 0:
            raise self.error


def run(config, splits, path, listener=None):
    record = StudyRecord(path, "s")
    watcher = Listeners(record, listener or StudyListener())
    return search(config, splits, study_id="s", record=record, listener=watcher)


def findings(outcome):
    return [
        (trial.number, dict(trial.config), trial.status, [dict(fold.metrics) for fold in trial.folds])
        for trial in outcome.trials
    ]


def test_a_search_goes_on_at_the_split_where_it_was_broken(splits, tmp_path):
    space = {"lambda_1": {"choice": [1.0, 10.0, 100.0]}, "alpha": {"choice": [0.5, 1.0]}}
    config = study(space, search={"algorithm": "optuna", "trials": 6, "max_concurrent": 1})
    undisturbed = run(config, splits, None)
    path = tmp_path / "events.jsonl"
    for at in (5, 4):
        with pytest.raises(OutputError, match="the disk is full"):
            run(config, splits, path, Breaks(at, OutputError("the disk is full")))
    assert findings(run(config, splits, path)) == findings(undisturbed)
    events = Journal(path).read()
    done = [(event["trial"], event["seed"], event["split"]) for event in events if event["event"] == "split"]
    assert len(done) == len(set(done)) == 12, "a split was evaluated twice"
    again = run(config, splits, path)
    assert findings(again) == findings(undisturbed)
    assert sum(event["event"] == "trial_started" for event in Journal(path).read()) == sum(
        event["event"] == "trial_started" for event in events
    )


def test_too_many_failures_stop_the_search_with_the_cause_and_more_can_be_allowed(splits, tmp_path):
    space = {"lambda_1": {"choice": [float(value) for value in range(1, 13)]}, "alpha": {"choice": [1e300]}}
    fields = {"search": {"algorithm": "grid", "max_concurrent": 1}}
    config = study(space, **fields, failures={"max_failed_trials": 2})
    path = tmp_path / "events.jsonl"
    with pytest.raises(FailureBudgetError) as caught:
        run(config, splits, path)
    told = str(caught.value)
    assert re.search(r"^3 of 12 trials failed; failures\.max_failed_trials: 2 bears 2\. 3 with NumericalError", told)
    assert "such as trial 0: NumericalError: A score of row 0 is NaN" in told
    assert "lambda_1=1.0, alpha=1e+300" in told
    assert len(StudyRecord(path).ended) == 3
    with pytest.raises(FailureBudgetError, match=r"^3 of 12"):  # at once: nothing is run for it
        run(config, splits, path)
    more = study(space, **fields, failures={"max_failed_trials": 4})
    with pytest.raises(FailureBudgetError, match=r"^5 of 12"):
        run(more, splits, path)
    assert sorted(StudyRecord(path).ended) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("value", "allowed"), [(0, 0), (3, 3), (1, 1), (1.0, 20), (0.5, 10), (0.26, 5), (0.01, 0), (50, 50)]
)
def test_a_budget_is_a_number_of_trials_or_a_share_of_them(value, allowed):
    assert FailureConfig(max_failed_trials=value).allowed(20) == allowed


@pytest.mark.parametrize("value", [-1, 0.0, 1.5, "many", True])
def test_a_budget_that_is_neither_is_refused(value):
    with pytest.raises(ValueError, match="max_failed_trials"):
        FailureConfig(max_failed_trials=value)


def test_a_trial_reserves_the_memory_of_its_fit_and_no_more_than_there_is(dataset, monkeypatch):
    space, held_out = {"regularization": {"choice": [1.0]}}, {"protocol": "holdout"}
    values = {"name": "s", "model": "ease", "space": space, "splits": held_out, "candidates": "all"}
    config = StudyConfig.model_validate(values)
    parts = [split.for_tuning() for split in draw_splits(dataset, config)]
    need = EASE(EASEConfig()).memory_bytes(dataset.n_users, dataset.n_items)
    assert need > 0
    assert _trial_resources(config, parts) == {"cpu": 1, "gpu": 0.0, "memory": need}
    monkeypatch.setattr(EASE, "memory_bytes", lambda *_: 10**18)
    most = max(node["Resources"]["memory"] for node in ray.nodes() if node["Alive"])
    assert _trial_resources(config, parts)["memory"] == int(most)


@pytest.mark.parametrize(("room", "cpus"), [(1, 4), (2, 2), (3, 1), (4, 1), (100, 1)])
def test_trials_have_the_cpus_that_memory_would_leave_idle(dataset, monkeypatch, room, cpus):
    """Of the nodes of a cluster, that with most room for trials decides; one without CPUs or dead has no say."""
    space, held_out = {"regularization": {"choice": [1.0]}}, {"protocol": "holdout"}
    values = {"name": "s", "model": "ease", "space": space, "splits": held_out, "candidates": "all"}
    config = StudyConfig.model_validate(values)
    parts = [split.for_tuning() for split in draw_splits(dataset, config)]
    monkeypatch.setattr(EASE, "memory_bytes", lambda *_: 1000)
    node = {"Alive": True, "Resources": {"CPU": 4.0, "memory": 1000.0 * room + 1}}
    bigger = {"Alive": True, "Resources": {"CPU": 64.0, "memory": 1000.0 * room}}
    no_cpus, dead = {"Alive": True, "Resources": {"memory": 10.0**9}}, {**bigger, "Alive": False}
    monkeypatch.setattr(ray, "nodes", lambda: [bigger, node, no_cpus, dead])
    found = _trial_resources(config, parts)
    assert found == {"cpu": cpus, "gpu": 0.0, "memory": 1000}
    assert _parallel(found) == min(room, 4) + min(room, 64 // cpus)
