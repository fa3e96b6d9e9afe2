"""Items that nobody has clicked, from a table of one's own to the lists of the service and of the batch job."""

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from coldray.bundle.io import load_bundle
from coldray.command.app import main
from coldray.data.dataset import keep_entries
from coldray.data.sources.sample import sample_dataset
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.queries import Query
from coldray.serving.live.model import LiveModel, ModelVersion
from coldray.serving.live.store import Store

STUDY = Path(__file__).parents[2] / "tune_spaces" / "marec.yaml"
SMALL = ("search.trials=1", "search.algorithm=random", "splits.n_splits=1", "space.order=1", "space.delta=5")
LABELS = ("genres", "directors", "actors")
N_ITEMS, N_UNCLICKED = 100, 30
FIRST = 9_007_199_254_740_993
"""Ids that no float64 holds: one more than 2 ** 53."""


@pytest.fixture(scope="module")
def sample():
    return sample_dataset(3, 150, N_ITEMS)


@pytest.fixture(scope="module")
def tables(sample, tmp_path_factory):
    """Write clicks and items; nobody has clicked the last items yet, whatever they would like."""
    folder = tmp_path_factory.mktemp("tables")
    clicks = keep_entries(sample.interactions, sample.interactions.indices < N_ITEMS - N_UNCLICKED)
    users, items = clicks.nonzero()
    pl.DataFrame({"user_id": sample.user_ids[users], "item_id": FIRST + items}).write_csv(folder / "clicks.csv")
    columns = {"item_id": [FIRST + item for item in range(N_ITEMS)], "year": sample.attributes["year"].values}
    for name in LABELS:
        attribute = sample.attributes[name]
        rows = np.split(attribute.labels[attribute.matrix.indices], attribute.matrix.indptr[1:-1])
        columns[name] = ["|".join(row) for row in rows]
    pl.DataFrame(columns).write_csv(folder / "items.csv")
    return folder


def tune(tables, *arguments, label_columns=LABELS):
    given = ("--dataset", "csv", "--interactions", tables / "clicks.csv", "--items", tables / "items.csv")
    given = (*given, "--label-columns", ",".join(label_columns), "--number-columns", "year", *arguments)
    settings = [part for field in SMALL for part in ("--set", field)]
    return main(["tune", str(STUDY), *map(str, given), *settings])


@pytest.fixture(scope="module")
def finished(tables, tracking_uri, ray_cluster, tmp_path_factory):
    """Run the job once; return its folder and what it printed."""
    root = tmp_path_factory.mktemp("unclicked")
    with pytest.MonkeyPatch.context() as patch, (root / "stdout").open("w+", encoding="utf-8") as stream:
        patch.setattr("sys.stdout", stream)
        patch.chdir(root)
        options = ("--output-dir", root / "runs", "--tracking-uri", tracking_uri, "--model-name", "unclicked")
        assert tune(tables, *options, "--experiment", "unclicked") == 0
        stream.seek(0)
        printed = stream.read()
    (folder,) = (path for path in (root / "runs").iterdir() if path.name != "records")
    return folder, printed


def test_console_report_and_manifest_count_them(finished):
    folder, printed = finished
    assert f"150 users × {N_ITEMS} items ({N_UNCLICKED} of them without clicks)" in printed
    told = f"{N_UNCLICKED} of {N_ITEMS} rows are of items that nobody has clicked."
    report = (folder / "report.html").read_text(encoding="utf-8")
    manifest = json.loads((folder / "bundle" / "manifest.json").read_text(encoding="utf-8"))
    assert told in printed
    assert "note: Lists mix items with and without clicks" in printed
    assert told in report
    assert any(told in note for note in manifest["dataset"]["notes"])
    assert (manifest["dataset"]["n_items"], manifest["dataset"]["n_unclicked_items"]) == (N_ITEMS, N_UNCLICKED)
    assert manifest["protocol"]["unclicked items"] == (
        f"{N_UNCLICKED} of the catalogue: left out of all folds, of tuning and of test; the bundle has them"
    )
    # 60/20/20 of the items with clicks alone
    assert re.match(r"42 train, 14 validation, 14 test items", manifest["protocol"]["first split"])
    assert "unclicked items" in report


def fitting(sample):
    """Return a user for each new item, whom it was drawn for."""
    users, items = keep_entries(sample.interactions, sample.interactions.indices >= N_ITEMS - N_UNCLICKED).nonzero()
    return [(sample.user_ids[user], FIRST + int(item)) for user, item in zip(users, items, strict=True)]


def test_the_service_lists_them_from_its_first_second_for_users_whom_they_fit(finished, sample, tmp_path):
    bundle = load_bundle(finished[0] / "bundle")
    assert bundle.item_ids.tolist() == [FIRST + item for item in range(N_ITEMS)]
    live = LiveModel(bundle, ModelVersion("unclicked", "1"), Store(f"sqlite:///{tmp_path / 'store.db'}"))
    pairs = fitting(sample)
    hits = {"new": 0, "all": 0}
    shares = []
    for user, item in pairs:
        (new, everything) = live.engine.answer([Query(user_id=user, candidates="cold"), Query(user_id=user)])
        assert all(place.cold for place in new.places)
        shares.append(np.mean([place.cold for place in everything.places]))
        hits["new"] += item in [place.item for place in new.places]
        hits["all"] += item in [place.item for place in everything.places]
    assert hits["new"] > 1.4 * len(pairs) * 10 / N_UNCLICKED  # of ten among thirty at random
    assert hits["all"] > 0.02 * len(pairs)
    assert 0.02 < np.mean(shares) < 0.9  # of the places: neither none nor all are of new items
    assert any("Lists mix items" in note for note in bundle.manifest["notes"])


def test_the_batch_job_lists_them_too(finished, tables, sample, tmp_path, ray_cluster):
    (tmp_path / "in").mkdir()
    pl.read_csv(tables / "clicks.csv").write_parquet(tmp_path / "in" / "histories.parquet")
    folder = tmp_path / "lists"
    options = ("--histories", tmp_path / "in", "--model", finished[0] / "bundle", "--output", folder)
    assert main(["recommend", *(str(part) for part in (*options, "--k", 30, "--partitions", 1))]) == 0
    lists = pl.read_parquet(folder / "part-*.parquet")
    listed = dict(zip(lists["user_id"], lists["items"].to_list(), strict=True))
    assert any(item in listed[user][:10] for user, item in fitting(sample))
    engine = Engine(load_bundle(finished[0] / "bundle"))
    (answer,) = engine.answer([Query(user_id=sample.user_ids[0], k=30)])
    assert listed[sample.user_ids[0]] == [place.item for place in answer.places]


def test_a_table_that_fits_no_click_is_refused_before_ray_starts(tables, tmp_path, capsys, tracking_uri):
    items = pl.read_csv(tables / "items.csv", infer_schema=False)
    items.with_columns(pl.col("item_id").str.zfill(20)).write_csv(tmp_path / "items.csv")
    pl.read_csv(tables / "clicks.csv", infer_schema=False).write_csv(tmp_path / "clicks.csv")
    assert tune(tmp_path, "--output-dir", tmp_path / "runs", "--tracking-uri", tracking_uri) == 2
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert f"Ids are '0000{FIRST}' and '0000{FIRST + 1}' there and '{FIRST}' and '{FIRST + 1}' in clicks.csv" in told
    assert "They are the same without leading zeros" in told
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())
