"""Vectors of users and items by file, measured beside the studies of a comparison."""

import json

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from mlflow.tracking import MlflowClient

from coldray.cli.jobs import compare as job
from coldray.command.app import main
from coldray.core.errors import ConfigError, DataFileError, DataFormatError, NumericalError, UnmatchedItemsError
from coldray.data.sources.sample import sample_dataset
from coldray.data.splits.items import cold_item_splits
from coldray.experiments.comparison.config import VectorsConfig, load_comparison
from coldray.experiments.comparison.run import check_comparison
from coldray.experiments.comparison.vectors import load_vectors
from coldray.experiments.space import StudyConfig

DATASET = sample_dataset(0, 60, 50).of_clicked_items()
STUDY = {"name": "mine", "model": "popularity", "space": {"trees": 5}}


def write(folder, users=None, items=None, user_ids=None, item_ids=None):
    """Write vectors of all users and items of the sample, or what is given; return the configuration of the files."""
    generator = np.random.default_rng(0)
    users = generator.normal(size=(DATASET.n_users, 4)).astype(np.float32) if users is None else users
    items = generator.normal(size=(DATASET.n_items, 4)).astype(np.float32) if items is None else items
    np.save(folder / "users.npy", users)
    np.save(folder / "items.npy", items)
    for name, listed, known in (("users", user_ids, DATASET.user_ids), ("items", item_ids, DATASET.item_ids)):
        ids = known if listed is None else listed
        (folder / f"{name}.csv").write_text("\n".join(["id", *map(str, ids)]) + "\n", encoding="utf-8")
    return VectorsConfig(
        users=folder / "users.npy", user_ids=folder / "users.csv",
        items=folder / "items.npy", item_ids=folder / "items.csv",
    )  # fmt: skip


def study(**fields):
    return StudyConfig.model_validate({**STUDY, "splits": {"n_splits": 1}, "cutoffs": [5, 10], **fields})


def ndcg_by_hand(scores, held_out, known, k):
    """Return the ndcg@k of each user who has both, from a dense matrix of the scores of candidates."""
    found = []
    for row, wanted, clicked in zip(scores, held_out, known, strict=True):
        if wanted.sum() and clicked:
            best = np.argsort(-row, kind="stable")[:k]
            gains = 1 / np.log2(np.arange(2, k + 2))
            found.append((wanted[best] * gains).sum() / gains[: min(k, int(wanted.sum()))].sum())
    return found


@pytest.mark.parametrize("candidates", ["cold", "all"])
def test_lists_are_those_of_the_products(tmp_path, candidates):
    vectors = load_vectors(write(tmp_path), DATASET)
    (split,) = cold_item_splits(DATASET, n_splits=1, seed=3)
    for fold in (split.for_tuning().fold, split.test_fold):
        found = vectors.metrics(fold, study(candidates=candidates))
        places = np.searchsorted(DATASET.item_ids, fold.dataset.item_ids)
        scores = vectors.users @ vectors.items[places].T
        clicked = np.diff(fold.train.indptr) > 0
        held_out = fold.held_out.toarray()
        if candidates == "cold":
            scores, held_out = scores[:, fold.cold_items], held_out[:, fold.cold_items]
        else:
            scores[fold.train.toarray() > 0] = -np.inf
        expected = ndcg_by_hand(scores, held_out, clicked, 5)
        np.testing.assert_allclose(found.per_user["ndcg@5"], expected, rtol=1e-5)


@given(st.permutations(range(DATASET.n_items)))
def test_the_order_of_the_rows_is_that_of_the_ids(tmp_path_factory, order):
    folder = tmp_path_factory.mktemp("turned")
    straight = load_vectors(write(folder), DATASET)
    items = np.load(folder / "items.npy")
    turned = load_vectors(write(folder, items=items[order], item_ids=DATASET.item_ids[order]), DATASET)
    np.testing.assert_array_equal(straight.items, turned.items)


def test_what_either_side_lacks_is_told_and_scores_0(tmp_path):
    items = np.ones((3, 4))
    found = load_vectors(write(tmp_path, items=items, item_ids=[*DATASET.item_ids[:2], "nobody"]), DATASET)
    assert found.items[:2].min() == 1
    assert np.abs(found.items[2:]).max() == 0
    absent = DATASET.n_items - 2
    assert found.notes == (
        f"items.npy: {absent} of {DATASET.n_items} items have no vector, and score 0; 1 of 3 vectors are of items that "
        "the data lack.",
    )


def bad_vectors(shape, place, value):
    vectors = np.zeros(shape)
    vectors[place] = value
    return vectors


N_USERS, N_ITEMS = DATASET.n_users, DATASET.n_items


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"users": np.ones((3, 4))}, DataFormatError, rf"users\.npy has 3 vectors, and users\.csv {N_USERS} ids"),
        ({"items": np.ones((N_ITEMS, 5))}, DataFormatError, "vectors of 4 numbers and items.npy of 5"),
        ({"items": np.ones(N_ITEMS)}, DataFormatError, r"float64 of shape .* \[rows, dimensions\] are needed"),
        ({"items": np.full((N_ITEMS, 4), "x")}, DataFormatError, "numbers"),
        ({"items": bad_vectors((N_ITEMS, 4), (2, 1), np.nan)}, NumericalError, "1 of .* the first is that of row 2"),
        ({"users": bad_vectors((N_USERS, 4), (0, 0), 1e300)}, NumericalError, "1 of .* within single precision"),
        ({"item_ids": [DATASET.item_ids[0]] * N_ITEMS}, DataFormatError, rf"items\.csv has {N_ITEMS - 1} repeated"),
        ({"user_ids": range(N_USERS)}, UnmatchedItemsError, rf"users\.csv: none of its {N_USERS} ids is one of"),
    ],
)
def test_bad_files_are_named(tmp_path, changes, error, message):
    with np.errstate(over="ignore"), pytest.raises(error, match=message):
        load_vectors(write(tmp_path, **changes), DATASET)


def test_files_that_are_absent_or_no_arrays_are_named(tmp_path):
    config = write(tmp_path)
    (tmp_path / "users.npy").write_bytes(b"no array")
    with pytest.raises(DataFormatError, match=r"users\.npy is no \.npy file"):
        load_vectors(config, DATASET)
    (tmp_path / "users.npy").unlink()
    with pytest.raises(DataFileError, match=r"users\.npy cannot be read"):
        load_vectors(config, DATASET)


# A comparison of a study with vectors.


def comparison_file(folder, **changes):
    """Write a study, vectors and a comparison of both; return the path of the comparison."""
    write(folder)
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    files = {"users": "users.npy", "user_ids": "users.csv", "items": "items.npy", "item_ids": "items.csv"}
    content = {
        "name": "small",
        "baseline": "given",
        "entries": {"given": {"vectors": files}, "mine": {"study": "study.yaml", "track": "strict"}},
        "splits": {"n_splits": 1},
        "cutoffs": [5],
        "selection": {"metric": "ndcg@5"},
        **changes,
    }
    path = folder / "comparison.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_vectors_that_do_not_go_with_the_data_cost_themselves_alone(tmp_path):
    comparison = load_comparison(comparison_file(tmp_path))
    assert [entry.name for entry in comparison.vectors] == ["given"]
    assert [entry.name for entry in comparison.entries] == ["mine"]
    assert check_comparison(comparison, DATASET).failed == ()
    np.save(tmp_path / "users.npy", np.ones((2, 4)))
    (failed,) = check_comparison(comparison, DATASET).failed
    assert (failed.name, failed.model, failed.track) == ("given", "vectors", "full")
    assert "users.npy has 2 vectors" in failed.reason


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"given": {}}, "name one of both"),
        ({"given": {"study": "study.yaml", "vectors": {"users": "u"}}}, "vectors"),
        ({"given": "own"}, "needs an entry that is a study"),
        (
            {"given": "own", "mine": {"study": "study.yaml"}, "set": {"overrides": {"search.trials": 2}}},
            "overrides are",
        ),
    ],
)
def test_a_bad_entry_is_refused(tmp_path, entries, message):
    files = {"users": "users.npy", "user_ids": "users.csv", "items": "items.npy", "item_ids": "items.csv"}
    own = {"vectors": files, **entries.pop("set", {})}
    listed = {name: own if entry == "own" else entry for name, entry in entries.items()}
    with pytest.raises(ConfigError, match=message):
        load_comparison(comparison_file(tmp_path, entries=listed))


@pytest.mark.parametrize("protocol", ["item-warming", "user-warming"])
def test_vectors_take_no_clicks_as_they_come(tmp_path, protocol):
    splits = {"protocol": protocol, "n_splits": 1}
    with pytest.raises(ConfigError, match=f"'{protocol}' models take clicks as they come, and given are vectors"):
        load_comparison(comparison_file(tmp_path, splits=splits, candidates="all"))


def test_vectors_are_not_measured_in_tasks(tmp_path):
    splits = {"protocol": "recsys-cold", "n_splits": 1}
    with pytest.raises(ConfigError, match="on warm items, on cold ones and on both, and given are vectors by file"):
        load_comparison(comparison_file(tmp_path, splits=splits, candidates="all"))


def test_vectors_are_not_inspected(tmp_path):
    with pytest.raises(ConfigError, match="given are vectors by file"):
        load_comparison(comparison_file(tmp_path, inspection={}))


def test_vectors_are_in_the_tables_and_on_the_server_and_never_the_champion(
    tmp_path, monkeypatch, tracking_uri, ray_cluster
):
    path = comparison_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, "read_data", lambda *_: (DATASET, None))
    # Vectors that know the answer: better than any study on validation, yet nothing that could be served.
    clicks = DATASET.interactions.toarray()
    write(tmp_path, users=clicks, items=np.eye(DATASET.n_items))
    given = ["--output-dir", str(tmp_path / "runs"), "--tracking-uri", tracking_uri, "--experiment", "vectors"]
    assert main(["compare", str(path), *given, "--trials", "1"]) == 0
    (report,) = (tmp_path / "runs").glob("*/results.json")
    values = json.loads(report.read_text(encoding="utf-8"))
    assert list(values["entries"]) == ["given", "mine"]
    assert (values["baseline"], values["champion"]) == ("given", "mine")
    assert values["entries"]["given"]["test"][0]["metrics"]["ndcg@5"] == pytest.approx(1)
    assert values["entries"]["mine"]["over_baseline"]["ndcg@5"]["difference"] < 0
    page = report.with_name("report.html").read_text(encoding="utf-8")
    assert "among 1 entry that are studies" in page
    client = MlflowClient(tracking_uri, tracking_uri)
    experiment = client.get_experiment_by_name("vectors")
    runs = client.search_runs([experiment.experiment_id], "tags.`coldray.kind` = 'comparison'")
    assert [run.data.metrics["given_test_ndcg_at_5"] for run in runs] == [pytest.approx(1)]
