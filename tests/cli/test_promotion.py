"""The gate before the registry, with real studies and a real registry: a champion is earned on the same test folds."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from rich.console import Console

from coldray.bundle.family import Family
from coldray.bundle.fitting import fit_bundle
from coldray.bundle.io import save_bundle
from coldray.cli import promotion as gate
from coldray.cli.jobs.sync_runs import sync_runs
from coldray.cli.jobs.tune import _id_type, bundle_manifest, registered_name
from coldray.cli.options.tracking import SyncOptions
from coldray.cli.progress.study import StudyProgress
from coldray.data.sources.sample import sample_dataset
from coldray.experiments.promotion.outcome import Promotion
from coldray.experiments.record.tested import Tested
from coldray.experiments.results import Selection, TrialResult
from coldray.experiments.search.run import SearchOutcome
from coldray.experiments.space import StudyConfig
from coldray.experiments.study import prepare_study, study_result
from coldray.experiments.winner import measure_winner
from coldray.features.builder import FeatureEncoder
from coldray.tracking.champion import Champion
from coldray.tracking.placement import champion_key, present_version
from coldray.tracking.runs import StudyTracker
from contracts.jobs import options_of

GOOD, BAD = {"lambda_1": 10.0, "delta": 5.0}, {"lambda_1": 1e9, "delta": 5.0}
NAMES = ("earned", "offline")


def config(space, model="marec", **fields):
    base = {"name": "small", "model": model, "cutoffs": [10], "splits": {"n_splits": 2}, **fields}
    return StudyConfig.model_validate({**base, "space": space})


@pytest.fixture(scope="module")
def shop():
    return replace(sample_dataset(0, 150, 120), name="shop", synthetic=False)


@pytest.fixture(scope="module")
def client(tracking_uri):
    return MlflowClient(tracking_uri, tracking_uri)


class Studies:
    """Runs studies of one configuration and registers what they find, as the job does."""

    def __init__(self, uri, root):
        self.uri, self.root, self.number = uri, root, 0
        self.progress = StudyProgress(Console(file=io.StringIO()))
        self.known = {}

    def result(self, config, data):
        """Test the one configuration of a study; nothing is searched."""
        key = config.model_dump_json()
        if key not in self.known:
            study = prepare_study(config, data)
            values = config.configured(study.config.space).config.model_dump(mode="json")
            trial = TrialResult("t0", 0, values, (), "finished")
            selection = Selection(trial, trial, (trial,), config.selection.metric, 0.0, ())
            found = measure_winner(study, selection)
            tested = Tested("t0", found.folds, found.intervals, found.notes, (), found.measured)
            outcome = SearchOutcome((trial,), 0.0)
            self.known[key] = study_result(study, outcome, selection, tested), study
        return self.known[key]

    def promotion(self, name, config, data, *, promote="if-better", offline=False, now=None):
        options = options_of(
            "tune", "marec", "--promote", promote, "--tracking-uri", self.uri, *(["--offline"] * offline)
        )
        result, study = self.result(config, data)
        return result, gate.decide(options, name, replace(study, dataset=now or data), result, self.progress)

    def __call__(self, name, config, data, *, promote="if-better", offline=False, keep=None):
        self.number += 1
        result, promotion = self.promotion(name, config, data, promote=promote, offline=offline)
        winner = config.configured(result.selection.winner.config)
        bundle = fit_bundle(winner, data, FeatureEncoder(config.features), bundle_manifest(result))
        folder = save_bundle(bundle, self.root / f"bundle-{self.number}")
        tracker = StudyTracker(self.uri, "gate", path=keep, offline=offline, artifact_location=self.root / "artifacts")
        with tracker:
            tracker.study_started(config, data, f"gate-{name}-{self.number}", {})
            placed = tracker.register(folder, (_id_type(data.user_ids), _id_type(data.item_ids)), name, promotion)
        return promotion, placed


@pytest.fixture(scope="module")
def study(tracking_uri, tmp_path_factory, ray_cluster):
    return Studies(tracking_uri, tmp_path_factory.mktemp("gate"))


def champion(client, name):
    found = present_version(client, name)
    return None if found is None else str(found.version)


@pytest.fixture(scope="module")
def earned(study, shop):
    """Register a bad first version, a good second, a bad third, the good one again, and a bad one by force."""
    steps = [(BAD, {}), (GOOD, {}), (BAD, {}), (GOOD, {}), (GOOD, {"promote": "never"}), (BAD, {"promote": "always"})]
    return [study("earned", config(space), shop, **options) for space, options in steps]


def test_what_was_decided_before_an_interruption_stands_unless_another_way_is_asked(study, shop):
    result, before = study.promotion("interrupted", config(BAD), shop, promote="never")
    prepared = study.result(config(BAD), shop)[1]
    again = [
        gate.decide(
            options_of("tune", "marec", "--promote", promote, "--tracking-uri", study.uri),
            *("interrupted", prepared, result, study.progress, before),
        )
        for promote in ("never", "always", "if-better")
    ]
    assert again[0] is before
    assert [(one.mode, one.alias) for one in again[1:]] == [("always", "champion"), ("if-better", "champion")]


def test_a_version_takes_the_place_only_by_being_no_worse_on_the_same_folds(earned, client):
    assert [placed.alias for _, placed in earned] == [
        "champion", "champion", "challenger", "champion", "challenger", "champion"
    ]  # fmt: skip
    reasons = [placed.reason for _, placed in earned]
    assert reasons[0] == "the first champion of that name"
    assert re.match(r"not worse than the champion, version 1: ndcg@10 0\.\d{4} against 0\.\d{4} on the", reasons[1])
    assert re.match(
        r"worse than the champion, version 2: ndcg@10 .* \(95 % interval -0\.\d{4} to -0\.\d{4}", reasons[2]
    )
    assert "same model, configuration and features" in reasons[3]
    assert reasons[4:] == ["--promote never", "--promote always"]
    tags = client.get_model_version("earned", "3").tags
    assert tags["coldray.promotion"] == reasons[2]
    assert tags["coldray.dataset"] == "shop"
    run = client.get_run(client.get_model_version("earned", "3").run_id)
    assert run.data.tags["coldray.promotion"] == reasons[2]
    assert champion(client, "earned") == "6"


def test_the_measured_difference_is_that_of_two_studies_on_the_same_folds(earned, study, shop):
    """The independent reference: both studies run by themselves, their test users paired by hand."""
    means = []
    for space in (BAD, GOOD):
        result, _ = study.result(config(space), shop)
        users = np.concatenate([fold.users for fold in result.measured])
        values = np.concatenate([fold.per_user["ndcg@10"] for fold in result.measured])
        means.append({user: values[users == user].mean() for user in np.unique(users)})
    assert means[0].keys() == means[1].keys()
    difference = np.mean([means[1][user] - means[0][user] for user in means[0]])
    told = float(re.search(r": ([+-]0\.\d{4}) \(", earned[1][1].reason)[1])
    assert told == pytest.approx(difference, abs=6e-5)


def test_a_study_that_goes_on_after_its_test_is_paired_as_well(earned, study, shop):
    """Its record has what the winner reached, and not the values of single users."""
    result, prepared = study.result(config(GOOD), shop)
    options = options_of("tune", "marec", "--tracking-uri", study.uri)
    found = [
        gate.decide(options, "earned", prepared, one, study.progress) for one in (result, replace(result, measured=()))
    ]
    assert found[0] == found[1]
    assert found[0].reason.startswith("not worse than the champion, version 6: ndcg@10")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: replace(data, synthetic=True), "are generated"),
        (lambda data: replace(data, item_ids=np.arange(120)), "item ids of 'shop' are integer"),
        (lambda data: replace(data, item_ids=np.char.add("x", data.item_ids)), "0 of the 120 items"),
    ],
)
def test_other_data_never_take_the_place(earned, study, shop, change, told):
    _, promotion = study.promotion("earned", config(GOOD), shop, now=change(shop))
    assert promotion.alias == "challenger"
    assert told in promotion.reason
    assert "--promote always" in promotion.reason


def test_a_champion_of_another_model_is_refitted_too(earned, study, shop):
    _, promotion = study.promotion("earned", config({"k": 20}, model="content_knn"), shop)
    assert promotion.alias == "champion"
    assert "not worse than the champion, version 6: ndcg@10" in promotion.reason


def test_a_champion_that_cannot_be_measured_here_stays(earned, study, shop):
    holdout = config({"regularization": 100.0}, model="ease", candidates="all", splits={"protocol": "holdout"})
    _, placed = study("clicks", holdout, shop)
    assert placed.alias == "champion"
    _, promotion = study.promotion("clicks", config(GOOD), shop)
    assert promotion.alias == "challenger"
    assert "cannot be refitted on the same folds" in promotion.reason
    assert "cannot score cold items" in promotion.reason


def test_a_champion_whose_files_are_gone_stays(study, shop, client, tmp_path):
    client.create_registered_model("gone")
    run = client.create_run("0")
    version = client.create_model_version("gone", str(tmp_path / "absent"), run.info.run_id).version
    client.set_registered_model_alias("gone", "champion", version)
    _, promotion = study.promotion("gone", config(GOOD), shop)
    assert promotion.alias == "challenger"
    assert "version 1, cannot be held against it" in promotion.reason


# ---- registered later


def synced(study, root, client):
    printed = root / "synced"
    with printed.open("w", encoding="utf-8") as file:
        options = SyncOptions(studies=[], output_dir=root, tracking_uri=study.uri, experiment="gate", again=False)
        sync_runs(options, Console(file=file, width=400))
    return printed.read_text(encoding="utf-8")


@pytest.mark.parametrize("later", [None, "worse", "first"])
def test_a_spool_that_is_sent_later_overwrites_no_champion(study, shop, client, tmp_path, later):
    name = f"offline-{later}"
    folder = tmp_path / "records" / "late"
    folder.mkdir(parents=True)
    (folder / "study.json").write_text('{"started": 1}')
    if later == "worse":  # there already, but nobody could ask
        study(name, config(GOOD), shop)
    _, placed = study(name, config(BAD), shop, offline=True, keep=folder / "tracking.jsonl")
    assert placed is None
    if later == "first":  # another study came meanwhile
        study(name, config(GOOD), shop)
    told = synced(study, tmp_path, client)
    newest = client.search_model_versions(f"name = '{name}'", order_by=["version_number DESC"])[0]
    if later is None:
        assert champion(client, name) == "1" == str(newest.version)
        assert f"registered {name} version 1, alias champion" in told
    else:
        assert (champion(client, name), str(newest.version)) == ("1", "2")
        assert f"registered {name} version 2, alias challenger: it was not held against the champion, version 1" in told
        assert "not held against" in newest.tags["coldray.promotion"]


def test_a_decision_sent_after_the_champion_changed_makes_a_challenger(study, shop, client, tmp_path, earned):
    name = "raced"
    study(name, config(GOOD), shop)
    key = champion_key(present_version(client, name))
    study(name, config(GOOD), shop, promote="always")
    stale = Promotion("if-better", "champion", "not worse than version 1", key)
    tracker = StudyTracker(study.uri, "gate", artifact_location=tmp_path)
    with tracker:
        tracker.study_started(config(GOOD), shop, "raced-late", {})
        placed = tracker.register(study.root / "bundle-1", (_id_type(shop.user_ids),) * 2, name, stale)
    assert placed.alias == "challenger"
    assert "the champion changed since it was tested" in placed.reason
    assert champion(client, name) == "2"


def test_a_model_that_reads_other_attributes_of_users_is_another_one():
    newcomers = {"candidates": "all", "splits": {"protocol": "user-cold", "n_splits": 1}}
    parameters = {"n_factors": 4}
    everything = config(parameters, "kernel_align_users", **newcomers)
    ages = config(parameters, "kernel_align_users", **newcomers, user_features={"attributes": ["age"]})
    for read in (everything, ages):
        manifest = {
            "model": read.model,
            "config": read.configured(parameters).config.model_dump(mode="json"),
            "encoder": {"config": read.features.model_dump(mode="json")},
            "people": {"config": read.user_features.model_dump(mode="json")},
        }
        shop = Family.of_dataset(sample_dataset(0, 150, 120))
        told = Champion("1", "key", manifest, shop)
        assert [gate._same_model(told, new, parameters) for new in (everything, ages)] == [
            new is read for new in (everything, ages)
        ]


@pytest.mark.parametrize(
    ("given", "dataset", "what", "name"),
    [
        (None, "ml-100k", "kernel_align", "coldray-ml-100k-kernel-align"),
        (None, "amazon Toys/Games", "svd", "coldray-amazon-Toys-Games-svd"),
        (None, "my clicks (2024)", "marec", "coldray-my-clicks-2024-marec"),
        (None, "a:b'c\"%", "marec", "coldray-a-b-c-marec"),
        ("ours", "ml-100k", "marec", "ours"),
    ],
)
def test_a_name_in_the_registry_carries_the_dataset(given, dataset, what, name):
    assert registered_name(given, dataset, what) == name
