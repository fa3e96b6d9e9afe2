"""The job that makes lists for all users: through Ray Data, and through the loss of its worker and of itself."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest
import ray
import ray.cloudpickle
import scipy.sparse as sp

from coldray.bundle.fitting import fit_bundle
from coldray.bundle.io import load_bundle, save_bundle
from coldray.cli.jobs.recommend_all import _model_source
from coldray.command.app import main
from coldray.core.errors import CatalogTooLargeError, ConfigError, NumericalError, TrackingError
from coldray.data.sources.sample import sample_dataset
from coldray.data.tables.histories import find_histories, write_partitions
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.models.kernel_align.model import KernelAlign, KernelAlignConfig
from coldray.models.neural.session_gru import SessionGRU, SessionGRUConfig
from coldray.serving.batch.job import make_lists, require_workers
from coldray.serving.batch.lists import BatchLists, Counts
from coldray.serving.batch.output import BatchRun, ListsFolder
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.queries import Query
from contracts.lists import places_of
from contracts.service import promote

JOB = Path(__file__).parents[3] / "jobs" / "recommend_all.py"
USERS = 240


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return a folder of two bundles and of histories of which each user's are in several files."""
    root = tmp_path_factory.mktemp("batch")
    dataset = sample_dataset(0, 120, 90)
    for name, ridge in (("first", 6.0), ("second", 600.0)):
        model = KernelAlign(KernelAlignConfig(n_factors=8, steps=5, ridge=ridge))
        save_bundle(fit_bundle(model, dataset, FeatureEncoder(FeatureConfig()), {}), root / name)
    generator = np.random.default_rng(0)
    users = [f"user {number:03}" for number in range(USERS - 1) for _ in range(6)]
    items = generator.choice([*dataset.item_ids, "unknown"], len(users))
    rows = pl.DataFrame({"user_id": [*users, "nobody"], "item_id": [*items.tolist(), None]})
    (root / "histories").mkdir()
    for number in range(3):
        rows.gather(range(number, len(rows), 3)).write_parquet(root / "histories" / f"{number}.parquet")
    return root


def job(root, *options, model="first", histories="histories", output="lists"):
    places = ["--histories", root / histories, "--model", root / model, "--output", output]
    return ["recommend", *(str(part) for part in (*places, *options))]


def lists_in(folder):
    return pl.read_parquet(folder / "part-*.parquet").sort("user_id")


@pytest.fixture(scope="module")
def finished(root, ray_cluster, tmp_path_factory):
    """Return the folder of a job that was not disturbed."""
    folder = tmp_path_factory.mktemp("finished") / "lists"
    assert main(job(root, "--partitions", 7, "--k", 5, output=folder)) == 0
    return folder


def test_every_user_has_one_list_and_it_is_that_of_the_service(root, finished):
    histories = pl.read_parquet(root / "histories" / "*.parquet")
    engine, lists = Engine(load_bundle(root / "first")), lists_in(finished)
    assert lists["user_id"].to_list() == sorted(set(histories["user_id"]))
    clicked = dict(histories.group_by("user_id").agg("item_id").iter_rows())
    for row in lists.iter_rows(named=True):
        known = [item for item in clicked[row["user_id"]] if engine.find(item) is not None]
        (answer,) = engine.answer([Query(k=5, history=dict.fromkeys(known))])
        assert row["items"] == [place.item for place in answer.places]
        assert row["scores"] == pytest.approx([place.score for place in answer.places], rel=1e-4)
        assert row["path"] == answer.path
    assert len(list(finished.glob("part-*.parquet"))) == 7
    assert not (finished / ".histories").exists()
    summary = json.loads((finished / "summary.json").read_text())
    unknown = (histories["item_id"] == "unknown").sum()
    assert summary["users"] == USERS
    assert summary["popularity"] == 1
    assert summary["unknown_items"] == unknown > 0
    assert summary["lists"].startswith("lists=exact (exact): All items are scored")


def test_what_is_finished_is_not_made_again(root, finished, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished.glob("part-*")}
    whole = lists_in(finished)
    gone = sorted(before)[3]
    gone.unlink()
    assert main(job(root, "--partitions", 7, "--k", 5, output=finished)) == 0
    after = {path: path.stat().st_mtime_ns for path in finished.glob("part-*")}
    assert {path for path in after if after[path] != before[path]} == {gone}
    assert lists_in(finished).equals(whole)
    assert "6 of 7 partitions are finished and stay as they are" in capsys.readouterr().out
    assert main(job(root, "--partitions", 7, "--k", 5, output=finished)) == 0
    printed = capsys.readouterr().out
    assert "7 of 7 partitions are finished" in printed
    assert f"{USERS} users: {USERS - 1} by their history, 1 by popularity" in printed


@pytest.mark.parametrize(
    ("options", "places", "said"),
    [
        (["--partitions", 7, "--k", 6], {}, "holds lists of another run: k is 6, was 5."),
        (["--partitions", 7, "--k", 5, "--keep-seen"], {}, "exclude_seen is False, was True"),
        (["--partitions", 7, "--k", 5, "--candidates", "warm"], {}, "candidates is 'warm', was 'all'"),
        (["--partitions", 7, "--k", 5], {"model": "second"}, "the model is second - "),
        (
            ["--partitions", 7, "--k", 5],
            {"histories": "histories/0.parquet"},
            "the histories are other ones (1.parquet",
        ),
    ],
)
def test_another_run_is_refused_before_it_begins(root, finished, capsys, options, places, said):
    before = lists_in(finished)
    assert main(job(root, *options, output=finished, **places)) == 1
    assert said in capsys.readouterr().err
    assert lists_in(finished).equals(before)


def test_seen_items_and_candidates_of_a_file(root, ray_cluster, tmp_path):
    ids = load_bundle(root / "first").item_ids.tolist()
    (tmp_path / "some.txt").write_text(f"{ids[4]}\n\n {ids[9]} \n{ids[4]}\n")
    pl.DataFrame({"item_id": [ids[9], ids[4]]}).write_parquet(tmp_path / "some.parquet")
    options = ["--keep-seen", "--candidates", tmp_path / "some.txt"]
    assert main(job(root, *options, output=tmp_path / "lists")) == 0
    lists = lists_in(tmp_path / "lists")
    assert {frozenset(items) for items in lists["items"]} == {frozenset({ids[4], ids[9]})}
    # The same items in another file are the same run.
    assert main(job(root, "--keep-seen", "--candidates", tmp_path / "some.parquet", output=tmp_path / "lists")) == 0


def test_a_model_of_the_order_of_clicks_reads_it_from_their_times(ray_cluster, tmp_path):
    sample = sample_dataset(0, 30, 40)
    clicks, generator = sample.interactions, np.random.default_rng(0)
    times = generator.permutation(clicks.nnz).astype(np.int64)
    timed = replace(sample, timestamps=sp.csr_array((times, clicks.indices, clicks.indptr), shape=clicks.shape))
    model = SessionGRU(SessionGRUConfig(embedding_dim=8, hidden_dim=8, epochs=2, validation_share=0))
    bundle = fit_bundle(model, timed, FeatureEncoder(FeatureConfig()), {})
    save_bundle(bundle, tmp_path / "model")
    users = np.repeat(timed.user_ids, np.diff(clicks.indptr)).tolist()
    rows = pl.DataFrame({"user_id": users, "item_id": timed.item_ids[clicks.indices].tolist(), "at": times})
    (tmp_path / "histories").mkdir()
    rows.sample(fraction=1, shuffle=True, seed=0).write_parquet(tmp_path / "histories" / "all.parquet")
    options = ["--timestamp-column", "at", "--k", 5, "--partitions", 3]
    assert main(job(tmp_path, *options, model="model", output=tmp_path / "lists")) == 0
    own = places_of(bundle, [bundle.history(user) for user in timed.user_ids], 5)
    wanted = {user: [place.item for place in places] for user, places in zip(timed.user_ids, own, strict=True)}
    assert dict(lists_in(tmp_path / "lists").select("user_id", "items").iter_rows()) == wanted


@pytest.mark.parametrize(
    ("options", "places", "status", "said"),
    [
        ([], {"histories": "nowhere"}, 2, "There is no file or folder"),
        ([], {"model": "nowhere"}, 2, "there is no such folder. Write models:/NAME@ALIAS"),
        ([], {"model": "histories"}, 1, "is no bundle"),
        (["--item-column", "movie"], {}, 2, "has no column 'movie'; it has 'user_id', 'item_id'"),
        (["--candidates", "cold"], {}, 2, "no item to list: candidates are 'cold'"),
        (["--candidates", "nowhere.txt"], {}, 2, "nowhere.txt cannot be read"),
        ([], {"output": "/proc/lists"}, 1, "Cannot write to /proc/lists"),
    ],
)
def test_what_is_wrong_is_said_before_ray_is_asked(root, tmp_path, capsys, options, places, status, said):
    arguments = job(root, "--ray-address", "127.0.0.1:1", *options, **{"output": tmp_path / "lists", **places})
    assert main(arguments) == status
    assert said in " ".join(capsys.readouterr().err.split())


def test_lists_lie_beside_a_file_of_histories(root, tmp_path, capsys):
    """The next fault is told, as the folder is none."""
    file = shutil.copy(next((root / "histories").rglob("*.parquet")), tmp_path / "histories.parquet")
    assert main(job(root, "--candidates", "cold", histories=file, output=tmp_path / "lists")) == 2
    assert "no item to list" in " ".join(capsys.readouterr().err.split())


def test_lists_are_not_put_among_the_histories(root, capsys):
    assert main(job(root, output=root / "histories" / "lists")) == 2
    assert "is inside of the histories" in capsys.readouterr().err


def killed_in_mid_job(command, lists):
    """Run a job with a Ray of its own and SIGKILL its driver after three parts; return when no worker is left."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    family = []
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        try:
            end = time.monotonic() + 120
            while len(list(lists.glob("part-*"))) < 3:
                assert driver.poll() is None, "it ended by itself"
                assert time.monotonic() < end
                time.sleep(0.005)
            family = psutil.Process(driver.pid).children(recursive=True)
            workers = [one for one in family if "PartitionLists" in " ".join(one.cmdline())]
        finally:
            driver.kill()
    assert driver.returncode == -signal.SIGKILL
    assert len(workers) == 1
    psutil.wait_procs(workers, timeout=30)
    for one in family:  # Ray's agents would wait a minute for the rest of it
        with suppress(psutil.NoSuchProcess):
            one.kill()


def test_a_job_that_is_killed_is_finished_by_the_same_command(root, finished, ray_cluster, tmp_path):
    lists, options = tmp_path / "lists", ["--partitions", 120, "--k", 5]
    own_ray = ["--ray-address", "local", "--cpus", 1]
    killed_in_mid_job([sys.executable, JOB, *job(root, *options, *own_ray, output=lists)[1:]], lists)
    before = {path: path.stat().st_mtime_ns for path in lists.glob("part-*")}
    assert 3 <= len(before) < 120
    assert not (lists / "summary.json").exists()
    assert main(job(root, *options, "--resume", output=lists)) == 0
    after = {path: path.stat().st_mtime_ns for path in lists.glob("part-*")}
    assert len(after) == 120
    assert {path: after[path] for path in before} == before
    assert lists_in(lists).drop("scores").equals(lists_in(finished).drop("scores"))
    assert json.loads((lists / "summary.json").read_text())["users"] == USERS


class Disturbed(BatchLists):
    """Lists that are not to be had, or not at once."""

    def of_histories(self, rows, counts):
        if len(rows) and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield from super().of_histories(rows, counts)


@pytest.fixture
def begun(root, tmp_path):
    """Return a folder with the histories in four partitions."""
    found = find_histories(root / "histories")
    run = BatchRun(
        model="m", fingerprint="f", k=5, exclude_seen=True, candidates="all", histories={}, columns=(), partitions=4
    )
    folder = ListsFolder(tmp_path / "lists", run)
    folder.folder.mkdir()
    folder.begin()
    write_partitions(found, folder.partitioned, 4, lambda rows: None)
    return folder


@pytest.fixture
def by_value():
    """Send this module to the workers: the tests are not installed there."""
    module = sys.modules[__name__]
    ray.cloudpickle.register_pickle_by_value(module)
    yield
    ray.cloudpickle.unregister_pickle_by_value(module)


def test_a_worker_that_is_killed_is_replaced(root, finished, begun, ray_cluster, by_value, tmp_path):
    lists = Disturbed(**vars(BatchLists.of(load_bundle(root / "first"), k=5)))
    object.__setattr__(lists, "marker", tmp_path / "killed")
    total = Counts()
    for counts in make_lists(ray.put(lists), begun, [0, 1, 2, 3], 1):
        total.add(counts)
    assert (tmp_path / "killed").exists()
    assert total.users == USERS
    assert lists_in(begun.folder).drop("scores").equals(lists_in(finished).drop("scores"))


def test_an_error_of_a_worker_is_that_of_the_job_and_leaves_no_part(root, begun, ray_cluster, by_value):
    lists = BatchLists.of(load_bundle(root / "first"), k=5)
    scorer = lists.maker.scorer
    maker = replace(lists.maker, scorer=lambda histories: scorer(histories) * np.float32(np.nan))
    lists = replace(lists, maker=maker)
    with pytest.raises(NumericalError, match="is NaN"):
        list(make_lists(ray.put(lists), begun, [0, 1, 2, 3], 1))
    assert not list(begun.folder.glob("part-*"))
    # The other worker may be ended in mid-partition: what it leaves is hidden, and gone at the next attempt.
    give_up = time.monotonic() + 20
    while list(begun.folder.glob("*part-*")) and time.monotonic() < give_up:
        time.sleep(0.2)
        begun.begin()
    assert not list(begun.folder.glob("*part-*"))


def test_a_registered_model_is_named_by_alias_or_version(root, new_database, tmp_path):
    uri = new_database(tmp_path / "mlflow.db")
    promote(uri, root / "first", "films")
    promote(uri, root / "second", "films", alias="next")
    for named, number in (
        ("models:/films@champion", "1"),
        ("models:/films/2", "2"),
        ("models:/films@next", "2"),
        (None, "1"),
    ):
        source, version = _model_source(named, uri)
        assert (version.name, version.version) == ("films", number)
        folder = "first" if number == "1" else "second"
        assert source.load(version).manifest == load_bundle(root / folder).manifest
    for wrong in ("models:/films@nobody", "models:/films/9", "models:/songs@champion"):
        with pytest.raises(TrackingError, match=f"--model {wrong}: the registry .* has no such model. Write models:/"):
            _model_source(wrong, uri)
    for wrong in ("models:/films", "models:/films/", "models:/@champion"):
        with pytest.raises(ConfigError, match="it names no alias and no version"):
            _model_source(wrong, uri)


def test_workers_that_do_not_fit_are_refused():
    require_workers(1, 0, 0)
    with pytest.raises(CatalogTooLargeError, match=r"by 2 workers with a model of 1,048,576\.0 GiB.*Use fewer --cpus"):
        require_workers(2, 2**50, 0)
