"""Whole ablations on a small sample: what they choose, what they cannot see, and how they go on after a break."""

import itertools
import math
import os
import re
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import ray
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import ConfigError, StudyError
from coldray.data.sources.sample import sample_dataset
from coldray.experiments.ablation import run as ablation
from coldray.experiments.ablation.folds import FoldPlan, FoldWorkers, _distance, as_completed
from coldray.experiments.ablation.run import (
    _CURVE_CUTOFFS,
    _stage_configurations,
    _stages,
    prepare_ablation,
    run_ablation,
)
from coldray.experiments.ablation.store import AblationStore
from coldray.experiments.evaluation import evaluate
from coldray.experiments.folds import prepare_task
from coldray.experiments.listeners import Listeners, StudyListener
from coldray.experiments.space import StudyConfig
from coldray.experiments.study import draw_splits
from coldray.models.marec.config import MARecConfig
from coldray.models.marec.model import MARec
from coldray.models.marec.plus import MARecPlus, MARecPlusConfig
from experiments.local_workers import LocalWorkers

# Workers cannot import this module by its name, so what it defines travels by value.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
pytestmark = pytest.mark.usefixtures("ray_cluster")
METRIC = "ndcg@10"
SPACE = {
    "lambda_1": {"choice": [1.0, 100.0]},
    "order": 1,
    "delta": 5.0,
    "ca_weight": {"choice": [0, 1.0, 3.0]},
    "ca_embedding_dim": 4,
    "ua_weight": {"choice": [0, 2.0]},
    "ge_weight": {"choice": [0, 1.0]},
    "ge_latent_dim": 4,
    "hidden_dim": 8,
    "profile_dim": 4,
    "batch_size": 16,
    "epochs": 3,
}


def study(**space):
    fields = {"name": "small", "model": "marec_plus", "cutoffs": [5, 10], "splits": {"n_splits": 2}}
    return StudyConfig.model_validate({**fields, "space": {**SPACE, **space}})


CONFIG = study()


class Recorder(StudyListener):
    """Keeps what it is told."""

    def __init__(self):
        self.started, self.lines, self.steps = [], [], []

    def study_started(self, config, dataset, study_id, protocol):
        self.started.append(study_id)

    def stage(self, message):
        self.lines.append(message)

    def advanced(self, step, done, total):
        self.steps.append((step, done, total))


@pytest.fixture(scope="module")
def dataset():
    return sample_dataset(0, 120, 100)


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """Where the results of the whole ablation are kept."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def recorder():
    return Recorder()


def run(study, store=None, listener=None):
    """Run an ablation whose folds are worked on in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablation, "FoldWorkers", LocalWorkers)
        return run_ablation(study, study_id="small-1", store=store, listener=listener)


@pytest.fixture(scope="module")
def result(dataset, state, recorder):
    return run(prepare_ablation(CONFIG, dataset), AblationStore(state), recorder)


@pytest.fixture(scope="module")
def tasks(dataset):
    """Return the validation and the test side of each split, made ready here."""
    splits = draw_splits(dataset, CONFIG)
    return (
        [prepare_task(split.for_tuning().fold, CONFIG.features) for split in splits],
        [prepare_task(split.test_fold, CONFIG.features) for split in splits],
    )


def findings(result):
    """Return what an ablation found, number for number, without what a clock says and how much memory was free."""
    protocol = {name: words for name, words in result.protocol.items() if name != "form"}
    clouds = {"features": result.features, **result.scores}
    return {
        "modes": [
            (
                mode.name,
                dict(mode.config),
                [(fold.seed, fold.split, dict(fold.metrics)) for fold in mode.folds],
                {name: values.tolist() for name, values in mode.per_user.items()},
                dict(mode.intervals),
                dict(mode.lifts),
            )
            for mode in result.modes
        ],
        "curves": {
            term: [(c.fold, [str(value) for value in c.values]) for c in of] for term, of in result.curves.items()
        },
        "clouds": {name: (c.points.tolist(), c.cold.tolist(), c.explained) for name, c in clouds.items()},
        "distance": result.neighbour_distance.tolist(),
        "told": (result.name, dict(result.dataset), protocol, result.cutoffs, result.correction),
    }


def validated(parameters, task):
    model = MARecPlus(MARecPlusConfig.model_validate({**parameters, "seed": task.seed})).fit(task.train)
    return evaluate(model, task, candidates="cold", cutoffs=(10,)).means()[METRIC]


def test_the_result_has_every_stage_tested_on_every_fold(result):
    assert [mode.name for mode in result.modes] == ["MARec", "+CA", "+CA+UA", "+CA+UA+GE"]
    assert result.cutoffs == _CURVE_CUTOFFS
    n_users = {len(values) for mode in result.modes for values in mode.per_user.values()}
    assert len(n_users) == 1
    for mode in result.modes:
        assert [(fold.seed, fold.split) for fold in mode.folds] == [(42, 0), (42, 1)]
        for fold in mode.folds:
            assert {f"{name}@{k}" for name in ("hr", "ndcg", "coverage") for k in _CURVE_CUTOFFS} <= set(fold.metrics)
            assert all(math.isfinite(value) for value in fold.metrics.values())
            assert fold.seconds > 0
        assert set(mode.lifts) == (set() if mode.name == "MARec" else {"hr@5", "ndcg@5", "hr@10", "ndcg@10"})
    assert result.dataset["synthetic"] is True
    assert result.seconds > 0


def test_the_baseline_is_marec_itself(result, tasks):
    chosen = {name: value for name, value in result.modes[0].config.items() if name in MARecConfig.model_fields}
    for fold, task in zip(result.modes[0].folds, tasks[1], strict=True):
        model = MARec(MARecConfig.model_validate(chosen)).fit(task.train)
        alone = evaluate(model, task, candidates="cold", cutoffs=_CURVE_CUTOFFS).means()
        assert dict(fold.metrics) == pytest.approx(alone, abs=1e-6)


def test_what_is_to_be_found_is_what_the_study_says(dataset):
    """The rule of positives holds on validation and test folds, and is a part of what stored results are named by."""
    ratings = dataset.interactions.copy()
    ratings.data = np.random.default_rng(0).integers(1, 6, ratings.nnz).astype(np.float32)
    fields = {**CONFIG.model_dump(mode="json"), "positives": {"rating": ">=4"}}
    fields["space"] |= {"lambda_1": 100.0, "ca_weight": 0, "ua_weight": 0, "ge_weight": 0}
    fields["selection"]["tolerance"] = 0
    config = StudyConfig.model_validate(fields)
    rated = replace(dataset, ratings=ratings)
    found = run(prepare_ablation(config, rated))
    assert "rating >= 4" in found.protocol["positives"].replace(">=4", ">= 4")
    for fold, split in zip(found.modes[0].folds, draw_splits(rated, config), strict=True):
        task = prepare_task(split.test_fold, config.features, positives=config.positives)
        every = prepare_task(split.test_fold, config.features)
        assert 0 < task.held_out.nnz < every.held_out.nnz
        model = MARec(MARecConfig(lambda_1=100.0, order=1, delta=5.0)).fit(task.train)
        alone = evaluate(model, task, candidates="cold", cutoffs=_CURVE_CUTOFFS).means()
        assert dict(fold.metrics) == pytest.approx(alone, abs=1e-6)
    plans = [
        FoldPlan("", "", config.features, "cold", (10,), METRIC, positives=rule) for rule in (None, config.positives)
    ]
    assert plans[0].key() != plans[1].key()
    assert "positives" not in plans[0].key()


def test_the_modes_are_tested_as_they_were_tuned(result, tasks):
    full = result.modes[-1]
    for fold, task in zip(full.folds, tasks[1], strict=True):
        model = MARecPlus(MARecPlusConfig.model_validate({**full.config, "seed": task.seed})).fit(task.train)
        metrics = evaluate(model, task, candidates="cold", cutoffs=_CURVE_CUTOFFS)
        assert dict(fold.metrics) == pytest.approx(metrics.means(), abs=1e-6)


def test_each_stage_chose_the_best_on_validation_data(result, recorder, tasks):
    chosen = {}
    for stage, mode in zip(_stages(), result.modes, strict=True):
        configurations = _stage_configurations(CONFIG, stage, chosen)
        means = [np.mean([validated(parameters, task) for task in tasks[0]]) for parameters in configurations]
        chosen = configurations[int(np.argmax(means))]
        # The seed of a training is its fold's, none of the mode's.
        assert mode.config["solver"] != "auto"  # settled once, for all folds
        expected = MARecPlusConfig.model_validate({**chosen, "solver": mode.config["solver"]})
        assert expected.model_dump(mode="json", exclude={"seed"}) == mode.config
        assert len(set(means)) > 1, "nothing was chosen here"
        (told,) = (line for line in recorder.lines if line.startswith(f"tuned {stage.name}: "))
        assert float(re.search(rf"validation {METRIC} (\S+)", told)[1]) == pytest.approx(max(means), abs=1e-4)
    assert any(chosen[f"{prefix}_weight"] > 0 for prefix in ("ca", "ua", "ge"))


def test_means_over_folds_and_users_are_of_the_same_numbers(result):
    for mode in result.modes:
        for metric in (METRIC, "hr@5"):
            low, high = mode.intervals[metric]
            assert low < mode.per_user[metric].mean() < high
            assert mode.per_user[metric].mean() == pytest.approx(
                np.mean([fold.metrics[metric] for fold in mode.folds]), abs=0.02
            )


def test_curves_and_clouds_are_of_what_was_trained(result, tasks):
    trained = {prefix for prefix in ("ca", "ua", "ge") if result.modes[-1].config[f"{prefix}_weight"] > 0}
    terms = {"InfoNCE": "ca", "Gaussian NLL": "ua", "reconstruction": "ge", "KL": "ge"}
    assert set(result.curves) == {term for term, prefix in terms.items() if prefix in trained}
    for curves in result.curves.values():
        assert [curve.fold for curve in curves] == ["seed 42 / split 0", "seed 42 / split 1"]
        assert all(1 <= len(curve.values) <= 3 for curve in curves)
    task = tasks[1][0]
    for cloud in (result.features, *result.scores.values()):
        assert cloud.points.shape == (len(task.train.warm_items) + len(task.held_out_items), 2)
        assert cloud.cold.sum() == len(task.held_out_items)
        assert 0 < sum(cloud.explained) <= 1
    assert set(result.scores) == {"MARec", "+CA+UA+GE"}
    assert len(result.neighbour_distance) == len(task.held_out_items)
    assert ((result.neighbour_distance > -1e-9) & (result.neighbour_distance <= 1)).all()


def test_whoever_watches_hears_of_every_stage_fold_and_fit(result, recorder):
    assert recorder.started == ["small-1"]
    for stage in _stages():
        assert len([line for line in recorder.lines if line.startswith(f"tuning {stage.name}: ")]) == 1
        done = [line for line in recorder.lines if line.startswith(f"{stage.name}: validation ")]
        assert [line.split(": ")[1] for line in done] == ["validation 1/2", "validation 2/2"]
        (tuned,) = (line for line in recorder.lines if line.startswith(f"tuned {stage.name}: validation {METRIC} "))
        searched = "lambda_1" if stage.prefix is None else f"{stage.prefix}_weight"
        assert f"{searched}=" in tuned
    fits = [(done, total) for step, done, total in recorder.steps if step == "+CA: validation"]
    assert fits == [(done, 6) for done in range(7)]
    assert [step for step in recorder.steps if step[0] == "test"] == [("test", 0, 2), ("test", 1, 2), ("test", 2, 2)]
    assert recorder.lines.index("testing 4 modes on 2 folds, once") > max(
        i for i, line in enumerate(recorder.lines) if line.startswith("tuned")
    )


# Selection cannot see test items.


def scrambled(split):
    """Return the split with other clicks on its test items."""
    rng = np.random.default_rng(5)
    clicks = split.dataset.interactions.tolil(copy=True)
    clicks[:, split.test_items] = rng.random((split.dataset.n_users, len(split.test_items))) < 0.3
    return replace(split, dataset=replace(split.dataset, interactions=sp.csr_array(clicks, dtype=np.float32)))


def test_clicks_on_test_items_change_the_test_and_nothing_that_is_chosen(result, recorder, dataset):
    study = prepare_ablation(CONFIG, dataset)
    told = Recorder()
    other = run(replace(study, splits=tuple(map(scrambled, study.splits))), listener=told)
    assert [mode.config for mode in other.modes] == [mode.config for mode in result.modes]
    values = [[line for line in listener.lines if line.startswith("tuned")] for listener in (told, recorder)]
    assert values[0] == values[1]
    assert len(values[0]) == 4
    for ours, theirs in zip(result.modes, other.modes, strict=True):
        for first, second in zip(ours.folds, theirs.folds, strict=True):
            assert abs(first.metrics[METRIC] - second.metrics[METRIC]) > 0.01


# Going on after a break.


class Breaks(StudyListener):
    """Interrupts at a line."""

    def __init__(self, at):
        self.at = at

    def stage(self, message):
        if message.startswith(self.at):
            raise KeyboardInterrupt


class Counting(AblationStore):
    """Counts what is kept anew."""

    def __init__(self, folder):
        super().__init__(folder)
        self.kept = 0

    def put(self, key, values, arrays):
        self.kept += 1
        super().put(key, values, arrays)


@pytest.mark.parametrize(
    ("at", "there"),
    [("+CA: validation 1/2", 3), ("tuned +CA+UA: ", 6), ("test 1/2", 9)],
    ids=["within a stage", "between stages", "within the test"],
)
def test_an_interrupted_ablation_goes_on_and_ends_the_same(result, dataset, state, tmp_path, at, there):
    """The state before the break is that of the whole ablation, as far as it went."""
    for file in sorted(state.iterdir(), key=lambda file: file.stat().st_mtime_ns)[: there - 1]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(KeyboardInterrupt):
        run(prepare_ablation(CONFIG, dataset), AblationStore(tmp_path), Breaks(at))
    assert len(list(tmp_path.iterdir())) == there
    store, recorder = Counting(tmp_path), Recorder()
    again = run(prepare_ablation(CONFIG, dataset), store, recorder)
    assert (store.found, store.kept) == (there, 10 - there)
    assert sum(total for _, done, total in recorder.steps if done == 0) == fits_left(there)
    assert findings(again) == findings(result)


def fits_left(there):
    sizes = [2, 2, 3, 3, 2, 2, 2, 2, 1, 1]  # configurations of a stage on each fold; a test
    return sum(sizes[there:])


def test_a_finished_ablation_is_read_back_without_a_worker(result, dataset, state, monkeypatch):
    monkeypatch.setattr(LocalWorkers, "of", lambda *_: pytest.fail("a worker was started"))
    store = Counting(state)
    assert findings(run(prepare_ablation(CONFIG, dataset), store)) == findings(result)
    assert (store.found, store.kept) == (10, 0)


@pytest.mark.parametrize("change", ["dataset", "candidates", "features"])
def test_another_ablation_finds_nothing_in_the_same_store(dataset, state, result, tmp_path, change):
    data = sample_dataset(1, 120, 100) if change == "dataset" else dataset
    update = {"candidates": {"candidates": "all"}, "features": {"features": {"attributes": ["genres"]}}}
    config = StudyConfig.model_validate({**CONFIG.model_dump(exclude_unset=True), **update.get(change, {})})
    store = AblationStore(shutil.copytree(state, tmp_path / "copy"))
    with pytest.raises(KeyboardInterrupt):
        run(prepare_ablation(config, data), store, Breaks("tuning +CA: "))
    assert store.found == 0


# What can go wrong.


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_a_configuration_that_fails_costs_itself_alone(dataset):
    config = study(alpha={"choice": [1e300, 1.0]}, lambda_1=100.0)
    recorder = Recorder()
    with pytest.raises(KeyboardInterrupt):
        run(prepare_ablation(config, dataset), listener=Listeners(recorder, Breaks("tuning +CA: ")))
    (line,) = (line for line in recorder.lines if "failed" in line)
    assert line.startswith("MARec: 1 of 2 configurations failed. The first: NumericalError: A score of row 0 is NaN")
    assert any(line.startswith("tuned MARec") and line.endswith("alpha=1.0") for line in recorder.lines)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_a_stage_in_which_all_fails_is_named_with_the_reason(dataset):
    recorder = Recorder()
    with pytest.raises(StudyError, match=r"^No configuration of the stage MARec .* NumericalError: A score") as raised:
        run(prepare_ablation(study(alpha=1e300), dataset), listener=recorder)
    assert "\n" not in str(raised.value)
    assert not [line for line in recorder.lines if line.startswith("tuning +CA")]


def test_a_refinement_that_cannot_be_trained_is_no_refinement_that_does_not_help(dataset):
    expected = r"^No configuration of the stage \+CA could .* ConfigError: .*batch_size is 5,000"
    with pytest.raises(StudyError, match=expected):
        run(prepare_ablation(study(batch_size=5000), dataset))


def test_a_study_that_cannot_be_tuned_by_stages_is_refused_before_anyone_hears_of_it(dataset):
    recorder = Recorder()
    with pytest.raises(ConfigError, match=r"space\.delta"):
        run(prepare_ablation(study(delta={"log_uniform": [1, 10]}), dataset), listener=recorder)
    assert recorder.started == recorder.lines == []


# On the cluster.


class Killer(Recorder):
    """Kills a worker once, while it works."""

    def __init__(self, workers):
        super().__init__()
        self.workers, self.killed = workers, []

    def advanced(self, step, done, total):
        super().advanced(step, done, total)
        if step == "+CA: validation" and done == 1 and not self.killed:
            self.killed = self.workers[0].actors[:1]
            ray.kill(self.killed[0], no_restart=False)


def same(value, expected):
    """Compare findings where only the last digits may differ, as numbers of other threads do."""
    if isinstance(expected, dict):
        assert list(value) == list(expected)
        value, expected = list(value.values()), list(expected.values())
    if isinstance(expected, (list, tuple)):
        assert len(value) == len(expected)
        for ours, theirs in zip(value, expected, strict=True):
            same(ours, theirs)
    elif isinstance(expected, float):
        assert value == pytest.approx(expected, abs=1e-5, nan_ok=True)
    else:
        assert value == expected


def test_on_a_cluster_that_loses_a_worker_the_result_is_the_same(result, dataset, monkeypatch):
    made = []

    class Watched(FoldWorkers):
        def __init__(self, *given):
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(ablation, "FoldWorkers", Watched)
    killer = Killer(made)
    other = run_ablation(prepare_ablation(CONFIG, dataset), study_id="killed", listener=killer)
    (workers,) = made
    assert len(workers.actors) == 2
    assert killer.killed == workers.actors[:1]
    ours, theirs = findings(other), findings(result)
    for name in ("modes", "distance", "told"):  # the direction of a component is the solver's choice
        same(ours[name], theirs[name])
    with pytest.raises(ray.exceptions.RayActorError):  # none is left
        ray.get(workers.actors[1].validate.remote(None, {}), timeout=30)


def test_there_are_no_more_workers_than_folds_and_a_fold_has_always_the_same(monkeypatch):
    monkeypatch.setattr("coldray.experiments.ablation.folds._FoldWorker.remote", lambda _: object())
    monkeypatch.setattr("coldray.experiments.ablation.folds.ray.cluster_resources", lambda: {"CPU": 3.0})
    for n_folds, expected in ((1, 1), (2, 2), (7, 3)):
        workers = FoldWorkers(FoldPlan("", "", CONFIG.features, "cold", (10,), METRIC), n_folds)
        assert workers.actors == []
        given = [workers.of(i) for i in range(7)]
        assert len(workers.actors) == expected
        assert given == [workers.actors[i % expected] for i in range(7)]
        workers.actors = []


@ray.remote(num_cpus=0)
class Doomed:
    def die(self):
        os._exit(1)

    def refuse(self):
        raise ConfigError("seed 42 / split 0: nothing to compare [items] by")


def test_what_breaks_a_worker_is_one_line_with_the_name_of_the_fold():
    actor = Doomed.remote()
    with pytest.raises(StudyError) as told:
        list(as_completed({actor.refuse.remote(): ("a fold", None)}, "MARec: validation", StudyListener()))
    assert str(told.value) == "MARec: validation on a fold failed: seed 42 / split 0: nothing to compare [items] by"
    with pytest.raises(StudyError, match=r"^test on a fold failed: its worker was lost 4 times") as told:
        list(as_completed({actor.die.remote(): ("a fold", None)}, "test", StudyListener()))
    assert "\n" not in str(told.value)


def test_a_stage_that_lists_more_than_it_tries_goes_on_from_the_best_of_them(dataset, tasks):
    """No other value of one parameter of the baseline is better on validation data, whatever was drawn at first."""
    space = {"lambda_1": {"choice": [1.0, 10.0, 100.0, 1000.0, 10000.0]}, "delta": {"choice": [0.5, 5.0, 50.0]}}
    config = study(**space, ca_weight=0, ua_weight=0, ge_weight=0)
    config = config.model_copy(update={"search": config.search.model_copy(update={"trials": 2})})
    recorder = Recorder()
    chosen = run(prepare_ablation(config, dataset), AblationStore(None), recorder).modes[0].config
    grid = {
        (lambda_1, delta): np.mean(
            [validated({**chosen, "lambda_1": lambda_1, "delta": delta}, task) for task in tasks[0]]
        )
        for lambda_1, delta in itertools.product(space["lambda_1"]["choice"], space["delta"]["choice"])
    }
    own = grid[chosen["lambda_1"], chosen["delta"]]
    near = [
        value for (lambda_1, delta), value in grid.items() if chosen["lambda_1"] == lambda_1 or chosen["delta"] == delta
    ]
    assert own >= (1 - ablation._PLATEAU) * max(near) - 1e-6
    assert any("configurations beside the best" in line for line in recorder.lines)


@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
@settings(max_examples=15, deadline=None)
def test_the_distance_of_a_cold_item_is_the_mean_to_the_five_nearest(seed, n_warm):
    generator = np.random.default_rng(seed)
    rows = generator.random((n_warm + 4, 6)) * (generator.random((n_warm + 4, 6)) < 0.5)
    warm, cold = np.split(generator.permutation(n_warm + 4).astype(np.int32), [n_warm])
    found = _distance(sp.csr_array(rows), warm, cold)
    for value, item in zip(found, cold, strict=True):
        lengths = [np.linalg.norm(rows[item]) * np.linalg.norm(rows[other]) for other in warm]
        alike = [
            rows[item] @ rows[other] / length if length else 0 for other, length in zip(warm, lengths, strict=True)
        ]
        assert value == pytest.approx(1 - np.mean(sorted(alike)[-5:]), abs=1e-9)
