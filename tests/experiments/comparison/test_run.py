"""Whole comparisons: what decides, what is shared, what a failure costs, and what a search can never see."""

from dataclasses import replace

import numpy as np
import pytest
import ray

from coldray.core.errors import ConfigError, NumericalError, SearchInterruptedError, StudyError
from coldray.data.sources.sample import sample_dataset
from coldray.evaluation.metrics import RankingMetrics
from coldray.evaluation.significance import adjust_p_values, bootstrap_interval, paired_interval, paired_p_value
from coldray.experiments.comparison import run as module
from coldray.experiments.comparison.config import Comparison, ComparisonConfig, Entry
from coldray.experiments.comparison.differences import TestedEntry, _check_same_users, entry_results
from coldray.experiments.comparison.run import (
    _choose_champion,
    _TunedEntry,
    check_comparison,
    comparison_protocol,
    run_comparison,
)
from coldray.experiments.listeners import StudyListener
from coldray.experiments.results import FoldMetrics, Selection, StudyResult, TrialResult, mean_metric
from coldray.experiments.search.run import SearchOutcome
from coldray.experiments.space import StudyConfig
from coldray.experiments.winner import WinnerMetrics

METRIC = "ndcg@10"
SPACES = {
    "marec": {"lambda_1": {"choice": [10.0, 1000.0]}, "order": 1, "delta": 5.0},
    "kernel_align": {"alpha": {"choice": [0.0, 0.3]}, "steps": 3, "n_factors": 8},
}


def comparison_of(tracks, baseline=None, **shared):
    """Return a comparison of entries named model or model:suffix."""
    shared = {"splits": {"n_splits": 2}, "cutoffs": [5, 10], **shared}
    config = ComparisonConfig.model_validate(
        {
            "name": "small",
            "baseline": baseline or next(iter(tracks)).replace(":", "-"),
            "entries": {name.replace(":", "-"): {"study": "x.yaml", "track": track} for name, track in tracks.items()},
            **shared,
        }
    )
    entries = []
    for name, track in tracks.items():
        model = name.partition(":")[0]
        study = {"name": name.replace(":", "-"), "model": model, "space": SPACES[model], **shared}
        study |= {"search": {"algorithm": "grid", "max_concurrent": 1}}
        entries.append(Entry(study["name"], track, StudyConfig.model_validate(study)))
    return Comparison(config, tuple(entries))


class Recorder(StudyListener):
    def __init__(self):
        self.stages, self.steps = [], []

    def stage(self, message):
        self.stages.append(message)

    def advanced(self, step, done, total):
        self.steps.append((step, done, total))


def compare(comparison, dataset, storage, listener=None, checked=None):
    checked = checked or check_comparison(comparison, dataset)
    protocol = comparison_protocol(comparison, checked)
    return run_comparison(
        comparison, checked, comparison_id=f"small-{storage.name}", protocol=protocol, listener=listener
    )


@pytest.fixture(scope="module")
def dataset():
    return sample_dataset(0, 120, 100)


# A real comparison of two models.

REAL = comparison_of({"marec": "strict", "kernel_align": "strict"})


@pytest.fixture(scope="module")
def recorder():
    return Recorder()


@pytest.fixture(scope="module")
def result(dataset, recorder, ray_cluster, tmp_path_factory):
    return compare(REAL, dataset, tmp_path_factory.mktemp("real"), recorder)


def test_entries_are_tuned_and_tested_on_the_same_folds_and_users(result):
    assert [entry.name for entry in result.entries] == ["marec", "kernel_align"]
    for entry in result.entries:
        for folds in (entry.validation, entry.folds):
            assert [(fold.seed, fold.split) for fold in folds] == [(42, 0), (42, 1)]
        assert len(entry.study.trials) == 2
        assert dict(entry.attributes)["description"] == "tfidf"
        assert entry.seconds > entry.study.seconds
    lengths = {len(values) for entry in result.entries for values in entry.per_user.values()}
    assert len(lengths) == 1
    assert 100 < lengths.pop() <= 120
    assert result.failed == ()


def searched(result):
    """Return a search that finds what it found before."""
    return lambda config, *_, **__: SearchOutcome(result.entry(config.name).study.trials, 1.0)


def test_users_and_folds_of_every_test_are_those_of_the_first(dataset, ray_cluster, result, monkeypatch, tmp_path):
    """The pairs of the differences are users; here they are seen where they come from."""
    seen = []
    real = module.measure_winner
    monkeypatch.setattr(
        module, "search", lambda config, *_, **__: SearchOutcome(result.entry(config.name).study.trials, 1)
    )
    monkeypatch.setattr(module, "measure_winner", lambda *given: seen.append(real(*given)) or seen[-1])
    compare(REAL, dataset, tmp_path)
    for one, other in zip(seen[0].measured, seen[1].measured, strict=True):
        assert one.users.tolist() == other.users.tolist()
        assert len(np.unique(one.users)) == len(one.users) > 50


def test_the_champion_is_chosen_on_validation(result):
    best = max(result.entries, key=lambda entry: mean_metric(entry.validation, METRIC))
    assert result.champion == best.name


def test_differences_are_paired_and_agree_with_the_means(result):
    marec, kernel = result.entries
    assert marec.over_baseline == {}
    assert (marec.rival, kernel.rival) == ("kernel_align", "marec")
    for metric in ("hr@5", "ndcg@5", "hr@10", "ndcg@10"):
        lift, back = kernel.over_baseline[metric], marec.over_rival[metric]
        assert lift.difference == pytest.approx(np.mean(kernel.per_user[metric] - marec.per_user[metric]), abs=1e-12)
        assert lift.low < lift.difference < lift.high
        assert back.difference == pytest.approx(-lift.difference, abs=1e-12)
        assert kernel.over_rival[metric] == lift


def test_the_protocol_tells_how_the_champion_was_chosen(result, dataset):
    assert "the champion" in result.protocol["selection"]
    assert result.protocol["tracks"].startswith("strict: exactly the dataset's default attributes")
    assert result.dataset["fingerprint"] == dataset.fingerprint
    assert result.dataset["attributes"] == list(dataset.default_attributes)


def test_tests_come_after_all_searches_and_tell_how_far_they_are(recorder):
    begun = recorder.stages.index("testing 2 winners on 2 test folds, once")
    assert [stage for stage in recorder.stages if stage.startswith("tested ")] == recorder.stages[begun + 1 :]
    assert len(recorder.stages[begun + 1 :]) == 2
    assert [step for step in recorder.steps if step[1] == 2] == [
        (f"test of {n}", 2, 2) for n in ("marec", "kernel_align")
    ]


# Test data do not enter what is chosen.


def poisoned(split, seed):
    """Return the split with other clicks of its test items."""
    rng = np.random.default_rng(seed)
    clicks = split.dataset.interactions.tolil(copy=True)
    clicks[:, split.test_items] = rng.random((split.dataset.n_users, len(split.test_items))) < 0.5
    return replace(split, dataset=replace(split.dataset, interactions=clicks.tocsr().astype(np.float32)))


def test_other_test_items_change_the_test_and_not_the_choice(dataset, ray_cluster, result, tmp_path):
    checked = check_comparison(REAL, dataset)
    splits = tuple(poisoned(split, i) for i, split in enumerate(checked.splits))
    studies = {name: replace(study, splits=splits) for name, study in checked.studies.items()}
    changed = replace(checked, splits=splits, studies=studies)
    other = compare(REAL, dataset, tmp_path, checked=changed)
    assert other.champion == result.champion
    for ours, theirs in zip(other.entries, result.entries, strict=True):
        assert ours.config == theirs.config
        assert [dict(fold.metrics) for fold in ours.validation] == [dict(fold.metrics) for fold in theirs.validation]
        for one, two in zip(ours.folds, theirs.folds, strict=True):
            assert abs(one.metrics[METRIC] - two.metrics[METRIC]) > 0.01


# What a search finds and a test says, put in their places.


def trial(value, status="finished", error=None):
    folds = tuple(FoldMetrics(42, split, {METRIC: value + 0.01 * split}) for split in range(2))
    return TrialResult("t0", 0, {"order": 1}, folds if status == "finished" else (), status, error, 1.0)


USERS = (np.arange(30), np.arange(10, 40))


def measured(level, users=USERS):
    rng = np.random.default_rng(0)
    found = []
    for of_fold in users:
        values = {name: np.float32(level + 0.1 * rng.random(len(of_fold))) for name in (METRIC, "hr@10")}
        found.append(RankingMetrics(of_fold, values, {"coverage@10": 0.5}))
    folds = tuple(FoldMetrics(42, split, one.means(), 0.5) for split, one in enumerate(found))
    return WinnerMetrics(folds, {}, tuple(found))


@pytest.fixture
def staged(monkeypatch, dataset, tmp_path):
    """Return a function that compares entries whose validation and test values are given."""

    def run(values, tracks=None, baseline=None, listener=None):
        tracks = tracks or {f"marec:{name}": "strict" for name in values}
        names = {f"marec-{name}": pair for name, pair in values.items()}

        def search(config, *_, **__):
            validation = names[config.name][0]
            if isinstance(validation, Exception):
                raise validation
            return SearchOutcome((validation if isinstance(validation, TrialResult) else trial(validation),), 1.0)

        def measure(study, *_):
            level = names[study.config.name][1]
            if isinstance(level, Exception):
                raise level
            return level if isinstance(level, WinnerMetrics) else measured(level)

        monkeypatch.setattr(module, "search", search)
        monkeypatch.setattr(module, "measure_winner", measure)
        return compare(comparison_of(tracks, baseline), dataset, tmp_path, listener)

    return run


def test_the_best_on_validation_wins_though_another_is_better_on_test(staged):
    result = staged({"a": (0.2, 0.5), "b": (0.4, 0.1), "c": (0.3, 0.9)})
    assert result.champion == "marec-b"
    assert {entry.name: entry.rival for entry in result.entries} == {
        "marec-a": "marec-b",
        "marec-b": "marec-c",  # by validation as well: c is 0.3 there, a only 0.2
        "marec-c": "marec-b",
    }


def test_of_equals_the_earlier_is_the_champion(staged):
    assert staged({"a": (0.2, 0.1), "b": (0.4, 0.2), "c": (0.4, 0.9)}).champion == "marec-b"


def test_rivals_are_of_the_same_track(staged):
    tracks = {"marec:a": "strict", "marec:b": "full", "marec:c": "strict"}
    result = staged({"a": (0.2, 0.2), "b": (0.9, 0.3), "c": (0.3, 0.4)}, tracks)
    assert [entry.rival for entry in result.entries] == ["marec-c", None, "marec-a"]
    assert result.entry("marec-b").over_rival == {}
    assert result.entry("marec-b").over_baseline[METRIC].difference == pytest.approx(0.1, abs=1e-6)
    assert [entry.name for entry in result.of_track("strict")] == ["marec-a", "marec-c"]


def test_no_finished_trial_costs_the_entry_alone_and_says_why(staged):
    hopeless = trial(0.0, "failed", "NumericalError: a score is NaN")
    recorder = Recorder()
    result = staged({"a": (0.2, 0.2), "b": (hopeless, 0.9), "c": (0.3, 0.3)}, listener=recorder)
    assert [entry.name for entry in result.entries] == ["marec-a", "marec-c"]
    (failed,) = result.failed
    assert (failed.name, failed.track, failed.model) == ("marec-b", "strict", "marec")
    assert failed.reason.startswith("SelectionError: None of the 1 trials finished")
    assert "a score is NaN" in failed.reason
    assert any(stage.startswith("marec-b failed, the others go on: SelectionError") for stage in recorder.stages)


def test_a_winner_that_cannot_be_tested_is_no_champion(staged):
    result = staged({"a": (0.2, 0.2), "b": (0.9, StudyError("The winner could not be tested")), "c": (0.3, 0.3)})
    assert result.champion == "marec-c"
    assert [failed.name for failed in result.failed] == ["marec-b"]
    assert result.entry("marec-c").rival == "marec-a"


def test_without_the_baseline_entries_are_held_against_each_other(staged):
    result = staged({"a": (NumericalError("singular"), 0), "b": (0.4, 0.2), "c": (0.3, 0.3)})
    assert [entry.over_baseline for entry in result.entries] == [{}, {}]
    assert result.entry("marec-b").over_rival[METRIC].difference == pytest.approx(-0.1, abs=1e-6)


def test_if_all_fail_the_first_reason_is_told(staged):
    with pytest.raises(StudyError, match=r"Every entry failed\. The first, marec-a: NumericalError: singular"):
        staged({"a": (NumericalError("singular"), 0), "b": (0.4, StudyError("lost"))})


def test_an_interrupted_search_begins_no_other_entry(staged):
    with pytest.raises(SearchInterruptedError):
        staged({"a": (SearchInterruptedError("stopped"), 0), "b": (AssertionError("another entry was begun"), 0)})


def test_an_error_that_is_no_entrys_own_stops_the_comparison(staged):
    with pytest.raises(OSError, match="no space left"):
        staged({"a": (OSError("no space left"), 0), "b": (0.4, 0.2)})


def test_entries_tested_on_other_users_are_never_paired(staged):
    others = measured(0.3, users=(np.arange(30), np.arange(11, 41)))
    with pytest.raises(StudyError, match=r"marec-b and marec-a were tested on different users of seed 42 / split 1"):
        staged({"a": (0.2, 0.2), "b": (0.4, others)})
    fewer = measured(0.3, users=(np.arange(30),))
    with pytest.raises(StudyError, match="marec-b was tested on 1 folds, marec-a on 2"):
        staged({"a": (0.2, 0.2), "b": (0.4, fewer)})


def test_a_strict_entry_that_reads_the_title_is_refused_before_anything_starts(dataset):
    comparison = comparison_of({"marec": "strict", "marec:wide": "strict"})
    features = comparison.entries[1].study.features.model_copy(update={"attributes": ("genres", "title")})
    wide = replace(comparison.entries[1], study=comparison.entries[1].study.model_copy(update={"features": features}))
    with pytest.raises(ConfigError, match="The entry 'marec-wide' is on the strict track"):
        check_comparison(Comparison(comparison.config, (comparison.entries[0], wide)), dataset)


def test_an_attribute_that_the_dataset_lacks_costs_its_entry_alone(dataset, staged):
    comparison = comparison_of({"marec": "strict", "marec:wide": "full"})
    features = comparison.entries[1].study.features.model_copy(update={"attributes": ("genres", "plot")})
    wide = replace(comparison.entries[1], study=comparison.entries[1].study.model_copy(update={"features": features}))
    comparison = Comparison(comparison.config, (comparison.entries[0], wide))
    checked = check_comparison(comparison, dataset)
    assert [failed.name for failed in checked.failed] == ["marec-wide"]
    assert checked.failed[0].reason.startswith("UnknownAttributeError")
    assert len(checked.splits) == 2
    with pytest.raises(StudyError, match="Every entry failed"):
        check_comparison(Comparison(comparison.config, (wide,)), dataset)


# Statistics, against direct calls.


def one_tested(name, validation, test):
    selection = Selection(trial(validation), trial(validation), (), METRIC, 0.0, ())
    entry = Entry(name, "strict", comparison_of({"marec": "strict"}).entries[0].study)
    study = StudyResult(name, "marec", {}, {}, (), (10,), (), selection, test.folds)
    return TestedEntry(entry, study, {}, test.measured, 1.0)


def test_intervals_differences_and_corrections_are_those_of_direct_calls():
    ones = [
        one_tested("a", 0.1, measured(0.1)),
        one_tested("b", 0.3, measured(0.2)),
        one_tested("c", 0.2, noisy(0.102)),
    ]
    results = {entry.name: entry for entry in entry_results(ones, "a", METRIC, [10], seed=5)}
    values = {name: entry.per_user for name, entry in results.items()}
    assert len(values["a"][METRIC]) == 40
    by_hand = np.zeros(40)
    for user in range(40):
        of_user = [one.per_user[METRIC][one.users == user] for one in ones[2].measured]
        by_hand[user] = np.mean(np.concatenate(of_user))
    np.testing.assert_allclose(values["c"][METRIC], by_hand, rtol=1e-6)
    # Three unordered pairs (b–a, c–a, c–b) in two metrics are all that was compared.
    pairs = [("b", "a"), ("c", "a"), ("b", "c")]
    raw = {
        (pair, m): paired_p_value(values[pair[0]][m], values[pair[1]][m]) for pair in pairs for m in (METRIC, "hr@10")
    }
    adjusted = dict(zip(raw, adjust_p_values(np.array(list(raw.values()))), strict=True))
    for name in ("b", "c"):
        for metric in (METRIC, "hr@10"):
            lift = results[name].over_baseline[metric]
            ours, theirs = values[name][metric], values["a"][metric]
            interval = paired_interval(ours, theirs, share=1.0, generator=np.random.default_rng(5))
            assert (lift.low, lift.high) == interval
            assert lift.p_value == pytest.approx(raw[((name, "a"), metric)], rel=1e-9)
            assert lift.p_adjusted == pytest.approx(adjusted[((name, "a"), metric)], rel=1e-9)
            drawn = bootstrap_interval(ours, generator=np.random.default_rng(5))
            assert results[name].intervals[metric] == drawn
    assert results["a"].rival == "b"
    assert results["c"].over_rival[METRIC].difference == pytest.approx(-results["b"].over_rival[METRIC].difference)
    assert results["c"].over_rival[METRIC].p_adjusted == pytest.approx(adjusted[(("b", "c"), METRIC)], rel=1e-9)
    assert results["c"].over_baseline[METRIC].p_adjusted > results["c"].over_baseline[METRIC].p_value


def noisy(level):
    """A test whose values differ from those of `measured` by more than a constant."""
    rng = np.random.default_rng(9)
    found = measured(level)
    changed = tuple(
        replace(one, per_user={n: v + np.float32(rng.normal(0, 0.02, len(v))) for n, v in one.per_user.items()})
        for one in found.measured
    )
    return replace(found, measured=changed)


def test_one_entry_alone_is_compared_with_nothing():
    (entry,) = entry_results([one_tested("a", 0.1, measured(0.1))], "a", METRIC, [10], seed=0)
    assert (entry.over_baseline, entry.rival, entry.over_rival) == ({}, None, {})
    _check_same_users([one_tested("a", 0.1, measured(0.1))])


def test_the_choice_needs_no_test():
    """It is given what a search found, which has no test side."""
    entries = comparison_of({"marec:a": "strict", "marec:b": "strict"}).entries
    tuned = [
        _TunedEntry(entry, None, SearchOutcome((), 1.0), Selection(trial(v), trial(v), (), METRIC, 0.0, ()), None)
        for entry, v in zip(entries, (0.1, 0.2), strict=True)
    ]
    assert _choose_champion(tuned).entry.name == "marec-b"


def test_a_lost_worker_is_an_error_of_the_winner(dataset, ray_cluster, result, monkeypatch, tmp_path):
    """A test whose worker dies costs its entry, like one that the model refuses."""
    monkeypatch.setattr(
        module, "search", lambda config, *_, **__: SearchOutcome(result.entry(config.name).study.trials, 1)
    )
    real = ray.wait
    calls = []

    def lost(waiting):
        calls.append(waiting)
        if len(calls) == 1:
            raise ray.exceptions.WorkerCrashedError
        return real(waiting)

    monkeypatch.setattr("coldray.experiments.winner.ray.wait", lost)
    other = compare(REAL, dataset, tmp_path)
    assert [failed.name for failed in other.failed] == ["marec"]
    assert "could not be tested" in other.failed[0].reason
    assert other.champion == "kernel_align"
