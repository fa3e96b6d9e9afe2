"""Comparison files: what is valid, what all entries have in common, and what a bad file is told."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import yaml

from coldray.core.errors import ConfigError
from coldray.data.sources.sample import sample_dataset
from coldray.experiments.comparison.config import check_track, load_comparison
from coldray.experiments.comparison.run import check_comparison
from coldray.experiments.space import load_study
from coldray.features.builder import FeatureConfig
from coldray.models.registry import MODELS, NETWORKS, model_type

FILE = Path(__file__).parents[3] / "tune_spaces" / "coldstart.yaml"
STUDY = {
    "name": "given",
    "model": "marec",
    "space": {"lambda_1": {"log_uniform": [1, 100]}, "order": 1},
    "search": {"algorithm": "random", "trials": 7, "seed": 3, "max_concurrent": 2},
    "splits": {"n_splits": 5, "seeds": [1]},
    "candidates": "all",
    "cutoffs": [5],
    "selection": {"metric": "hr@5", "tolerance": 0.1, "simplest": [{"order": "low"}]},
}
GOOD = {
    "name": "small",
    "baseline": "one",
    "entries": {
        "one": {"study": "given.yaml", "track": "strict"},
        "two": {"study": "given.yaml", "track": "full", "overrides": {"search.trials": 2, "space.order": 2}},
    },
    "splits": {"n_splits": 2, "seeds": [8, 9]},
    "cutoffs": [10, 20],
    "selection": {"metric": "ndcg@20"},
    "search": {"trials": 4, "seed": 6},
}


@pytest.fixture
def written(tmp_path):
    """Write a comparison beside its study; return its path."""

    def write(content):
        (tmp_path / "given.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")
        path = tmp_path / "comparison.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
        return path

    return write


@pytest.fixture
def refused(written):
    def check(changes, **options):
        with pytest.raises(ConfigError) as caught:
            load_comparison(written(GOOD), changes, **options)
        assert "comparison.yaml" in str(caught.value)
        return str(caught.value)

    return check


def test_entries_share_what_makes_them_comparable_and_keep_the_rest(written):
    comparison = load_comparison(written(GOOD))
    assert [entry.name for entry in comparison.entries] == ["one", "two"]
    for entry in comparison.entries:
        study = entry.study
        assert (study.splits.n_splits, study.splits.seeds) == (2, (8, 9))
        assert (study.candidates, study.cutoffs, study.selection.metric) == ("cold", (10, 20), "ndcg@20")
        assert (study.search.seed, study.name) == (6, entry.name)
        assert (study.search.algorithm, study.search.max_concurrent, study.selection.tolerance) == ("random", 2, 0.1)
    first, second = comparison.entries
    assert (first.track, first.study.search.trials, first.study.space["order"]) == ("strict", 4, 1)
    assert (second.track, second.study.search.trials, second.study.space["order"]) == ("full", 2, 2)


def test_the_command_line_wins_over_both_files(written):
    comparison = load_comparison(written(GOOD), {"splits.seeds": [3], "search.trials": 5}, trials=1)
    assert {entry.study.splits.seeds for entry in comparison.entries} == {(3,)}
    assert {entry.study.search.trials for entry in comparison.entries} == {1}
    assert {entry.study.n_trials for entry in comparison.entries} == {1}


@pytest.mark.parametrize("file", sorted(FILE.parent.glob("co[lm]*.yaml")), ids=lambda file: file.stem)
def test_so_many_trials_are_those_of_every_entry_grids_included(file):
    comparison = load_comparison(file, trials=3)
    assert {entry.study.n_trials for entry in comparison.entries} == {3}
    grids = [entry.study for entry in comparison.entries if entry.study.enumerated]
    for study in grids:
        assert len({str(point) for point in study.points}) == 3
        assert all(point in load_comparison_points(study) for point in study.points)


def load_comparison_points(study):
    """Return all points of a study's grid."""
    return study.model_copy(update={"search": study.search.model_copy(update={"points": None})}).points


def test_the_comparison_of_the_platform_names_studies_that_exist():
    comparison = load_comparison(FILE)
    assert comparison.config.name == FILE.stem
    assert comparison.config.baseline == "marec"
    assert {"marec", "marec_plus", "kernel_align"} <= {entry.name for entry in comparison.entries}
    for entry in comparison.entries:
        study = FILE.parent / comparison.config.entries[entry.name].study
        assert entry.study.space == load_study(study).space


def test_the_entries_of_the_platform_keep_to_their_tracks():
    entries = load_comparison(FILE).entries
    assert {"strict", "full"} == {entry.track for entry in entries}
    for entry in entries:
        check_track(entry, sample_dataset(0, 120, 100))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"baseline": "oen"}, "The baseline 'oen' is no entry. Did you mean 'one'?"),
        ({"entries.one.study": "gvien.yaml"}, "entries.one: Cannot read the study file"),
        ({"entries.one.trakc": "strict"}, "unknown field 'entries.one.trakc'. Did you mean 'track'?"),
        ({"entries.one.track": "lax"}, "entries.one.track"),
        ({"entries.one.study": None}, "entries.one.study"),
        ({"entries": {}}, "entries"),
        ({"entries.a/b": {"study": "given.yaml", "track": "full"}}, "a/b"),
        ({"entries.one.overrides": {"space.lambda_2": 1}}, "entries.one: Study file"),
        ({"entries.one.overrides": {"splits.n_splits": 1}}, "overrides: splits.n_splits would change splits"),
        ({"entries.one.overrides": {"cutoffs": [10]}}, "overrides: cutoffs would change cutoffs"),
        ({"entries.one.overrides": {"selection": {}}}, "overrides: selection would change selection.metric"),
        ({"entries.one.overrides": {"search": {"seed": 1}}}, "overrides: search would change search.seed"),
        ({"selection.metric": "ndgc@20"}, "Did you mean 'ndcg@20'?"),
        ({"selection.metric": "ndcg@50"}, "selection.metric 'ndcg@50' is not computed"),
        ({"splitz": {}}, "Did you mean 'splits'?"),
        ({"splits.n_split": 1}, "unknown field 'splits.n_split'. Did you mean 'n_splits'?"),
        ({"name": "a/b"}, "name"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(refused, changes, expected):
    assert expected in refused(changes)


def test_two_entries_of_one_name_are_refused(written):
    text = yaml.safe_dump(GOOD).replace("  two:", "  one:")
    with pytest.raises(ConfigError, match="'one' is given twice"):
        load_comparison(written(text))


def test_a_missing_field_is_named(written):
    content = copy.deepcopy(GOOD)
    del content["baseline"]
    with pytest.raises(ConfigError, match="the field 'baseline' is missing"):
        load_comparison(written(content))


# The strict track.


def entry_reading(written, track="strict", **features):
    first = load_comparison(written(GOOD)).entries[0]
    study = first.study.model_copy(update={"features": FeatureConfig.model_validate(features)})
    return replace(first, track=track, study=study)


DEFAULT = ["genres", "directors", "actors", "year", "description"]


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"attributes": [*DEFAULT, "title"]}, "it reads 'title'"),
        ({"attributes": DEFAULT[1:]}, "it leaves out 'genres'"),
        ({"text": {"description": "embedding"}}, "it embeds 'description'"),
        ({"counts": True}, "it counts labels"),
        ({"attributes": "all"}, "it reads 'title'"),
    ],
)
def test_a_strict_entry_that_reads_something_else_is_refused_by_name(written, features, expected):
    dataset = sample_dataset(0, 120, 100)
    assert list(dataset.default_attributes) == DEFAULT
    with pytest.raises(ConfigError, match="The entry 'one' is on the strict track") as caught:
        check_track(entry_reading(written, **features), dataset)
    assert expected in str(caught.value)
    check_track(entry_reading(written, track="full", **features), dataset)


@pytest.mark.parametrize("features", [{}, {"attributes": DEFAULT[::-1]}, {"text": {"description": "tfidf"}}])
def test_the_default_attributes_in_any_order_are_strict(written, features):
    entry = entry_reading(written, **features)
    assert entry.track == "strict"
    check_track(entry, sample_dataset(0, 120, 100))


# Any set of models.

SHIPPED = FILE.with_name("compare_models.yaml")


@pytest.mark.parametrize(
    ("file", "held_out", "splits"),
    [
        ("compare_models.yaml", "interactions", 3),
        ("compare_cold.yaml", "items", 3),
        ("compare_warming.yaml", "interactions", 1),
        ("compare_recsys_cold.yaml", "interactions", 1),
    ],
)
def test_the_shipped_comparisons_can_start(file, held_out, splits):
    comparison = load_comparison(FILE.with_name(file))
    assert comparison.config.splits.held_out == held_out
    checked = check_comparison(comparison, timed(sample_dataset(0, 200, 120)))
    assert (checked.failed, len(checked.splits)) == ((), splits)


def timed(dataset):
    """Return the dataset with times that are drawn."""
    clicks = dataset.interactions
    times = np.random.default_rng(0).integers(0, 10**6, clicks.nnz)
    return replace(dataset, timestamps=sp.csr_array((times, clicks.indices, clicks.indptr), shape=clicks.shape))


def test_every_network_is_in_the_comparison_of_interactions_but_those_for_new_items_or_users():
    models = {entry.study.model for entry in load_comparison(SHIPPED).entries}
    new = {name for name in NETWORKS if ".cold." in model_type(name).__module__}
    people = {name for name in NETWORKS if model_type(name).reads_users}
    assert {"marec", "svd", "als", "item_knn", "user_knn", "popularity", *NETWORKS} - new - people <= models
    newcomers = {entry.study.model for entry in load_comparison(SHIPPED.with_name("compare_newcomers.yaml")).entries}
    assert {name for name in MODELS if model_type(name).reads_users} <= newcomers
    for name in ("compare_cold.yaml", "compare_recsys_cold.yaml"):
        assert new <= {entry.study.model for entry in load_comparison(SHIPPED.with_name(name)).entries}
    assert len(new) == 5


def test_an_entry_that_reads_what_the_dataset_lacks_costs_itself_alone():
    comparison = load_comparison(SHIPPED, models=["ease", "session_gru", "mf", "marec"])
    bare = replace(sample_dataset(0, 200, 120), attributes={}, default_attributes=())
    failed = {entry.name: entry.reason for entry in check_comparison(comparison, bare).failed}
    assert set(failed) == {"session_gru", "mf", "marec"}
    for name, lacking in {"session_gru": "timestamps", "mf": "ratings"}.items():
        assert failed[name].startswith(f"MissingFieldError: Dataset 'sample' has no {lacking}")
    assert "no item attribute" in failed["marec"]


def test_an_entry_without_a_track_is_on_that_of_what_it_reads(written):
    clicks = {**STUDY, "model": "ease", "space": {"regularization": 10}, "splits": {"protocol": "holdout"}}
    changes = {
        "entries": {
            "one": {"study": "given.yaml"},
            "text": {"study": "given.yaml", "overrides": {"features.counts": True}},
            "ease": {"study": "clicks.yaml", "overrides": {"selection.simplest": []}},
            "people": {"study": "people.yaml", "overrides": {"selection.simplest": []}},
        },
        "candidates": "all",
        "splits": {"protocol": "holdout", "n_splits": 1},
    }
    path = written({**GOOD, **changes})
    (path.parent / "clicks.yaml").write_text(yaml.safe_dump(clicks), encoding="utf-8")
    people = {**clicks, "model": "kernel_align_users", "space": {"ridge": 10}}
    (path.parent / "people.yaml").write_text(yaml.safe_dump(people), encoding="utf-8")
    tracks = {entry.name: entry.track for entry in load_comparison(path).entries}
    assert tracks == {"one": "strict", "text": "full", "ease": "clicks", "people": "full"}
    said = load_comparison(path, {"entries.people.track": "clicks"})
    with pytest.raises(ConfigError, match="'people' is on the clicks track, which reads nothing of users"):
        check_comparison(said, sample_dataset(0, 60, 40))


def test_models_are_picked_from_the_file_or_from_beside_it():
    comparison = load_comparison(SHIPPED, models=["user_knn", "session_gru", "ease"])
    assert [entry.study.model for entry in comparison.entries] == ["user_knn", "session_gru", "ease"]
    assert comparison.config.baseline == "ease"
    assert load_comparison(SHIPPED, models=["vae", "als"]).config.baseline == "vae", "the first, as ease is not there"


def test_a_model_is_found_by_the_file_that_tunes_it_whatever_its_name(written):
    path = written(GOOD)
    study = {"name": "neighbours", "model": "item_knn", "space": {"k": 10}}
    (path.parent / "neighbours.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    (path.parent / "zz.yaml").write_text("[no, study", encoding="utf-8")
    settings = {"candidates": "all", "splits": {"protocol": "holdout", "n_splits": 1}}
    (entry,) = load_comparison(path, settings, models=["item_knn"]).entries
    assert (entry.study.model, entry.study.space) == ("item_knn", {"k": 10})


def test_every_model_is_in_a_shipped_comparison_or_found_beside_it():
    cold = load_comparison(SHIPPED.with_name("compare_cold.yaml"))
    newcomers = load_comparison(SHIPPED.with_name("compare_newcomers.yaml"))
    rated = load_comparison(SHIPPED.with_name("compare_ratings.yaml"))
    listed = {entry.study.model for entry in (*load_comparison(SHIPPED).entries, *cold.entries, *newcomers.entries)}
    others = sorted(set(MODELS) - listed)
    assert others == sorted(entry.study.model for entry in rated.entries), "which predict ratings"
    assert [entry.study.model for entry in load_comparison(SHIPPED, models=others).entries] == others


def test_a_model_that_is_not_there_is_told_the_nearest(written):
    with pytest.raises(ConfigError, match=r"--models: there is no 'eas'\. Did you mean 'ease'\?"):
        load_comparison(SHIPPED, models=["eas"])
    with pytest.raises(ConfigError, match=r"--models: there is no 'ease'\."):
        load_comparison(written(GOOD), models=["ease"])  # a model, without a study file there


def test_who_reads_attributes_is_not_on_the_track_of_clicks():
    comparison = load_comparison(SHIPPED, {"entries.marec.track": "clicks"})
    with pytest.raises(ConfigError, match="'marec' is on the clicks track"):
        check_comparison(comparison, sample_dataset(0, 60, 40))


def test_labels_that_are_not_there_are_told_before_anything_starts():
    comparison = load_comparison(SHIPPED, {"inspection.attribute": "genre"}, models=["ease"])
    with pytest.raises(ConfigError, match=r"inspection\.attribute: .* Did you mean 'genres'"):
        check_comparison(comparison, sample_dataset(0, 60, 40))
