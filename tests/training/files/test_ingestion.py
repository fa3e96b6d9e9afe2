"""Training on files that Ray Data reads: the result of one worker, with files of any length, and through a loss."""

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import ray
import ray.cloudpickle
import ray.train
import torch

from coldray.core.errors import DataFormatError
from coldray.training.config import TrainingConfig
from coldray.training.files.examples import ExampleFiles, Slice, worker_plan
from coldray.training.files.ingestion import planned, read_own_files
from coldray.training.files.task import FilesTask
from coldray.training.task import Loss
from coldray.training.trainer import train

PLANTED = np.array([1.0, -2.0, 3.0], np.float32)
TWO = TrainingConfig(batch_size=6, epochs=3, learning_rate=0.05, patience=None, workers=2, checkpoint_every_steps=3)
ONE = TWO.model_copy(update={"workers": 1})


@pytest.fixture(autouse=True, scope="module")
def by_value():
    """Send this module to the workers: the tests are not installed there."""
    module = sys.modules[__name__]
    ray.cloudpickle.register_pickle_by_value(module)
    yield
    ray.cloudpickle.unregister_pickle_by_value(module)


class Regression(FilesTask):
    """A noiseless regression; tells how many rows its process has at most held, and ends it once if asked to."""

    name = "regression of files"
    metric = "fit"
    n_validation_users = 2

    def __init__(self, examples, kill=None):
        super().__init__(examples)
        self.kill, self.held, self.files = kill, 0, set()

    def build(self):
        return torch.nn.Linear(3, 1)

    def of_rows(self, rows, examples, generator):
        self.held = max(self.held, len(self._parts._rows["a"]) + len(self._parts._left["a"]))
        self.files |= set(rows["file"].tolist())
        inputs = np.stack([rows[name] for name in "abc"], axis=1)
        return {"inputs": torch.from_numpy(inputs), "targets": torch.from_numpy(inputs @ PLANTED)}

    def loss(self, module, batch, step):
        if self.kill and step.workers.rank == 1 and step.progress > 1.6 and not Path(self.kill).exists():
            Path(self.kill).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Loss((module(batch["inputs"])[:, 0] - batch["targets"]) ** 2)

    def validate(self, module, users):
        error = float(((module.weight[0] - torch.from_numpy(PLANTED)) ** 2).sum())
        found = {"fit": -error, "held": self.held, "files": sum(1 << int(file) for file in self.files)}
        return {name: np.full(users.stop - users.start, float(value)) for name, value in found.items()}


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Return four files of 5, 31, 0 and 17 rows, of which a worker of two has the first or the last two."""
    folder, generator = tmp_path_factory.mktemp("examples"), np.random.default_rng(5)
    for number, length in enumerate((5, 31, 0, 17)):
        values = generator.normal(size=(length, 3)).astype(np.float32)
        table = pl.DataFrame(values, schema=list("abc")).with_columns(file=pl.lit(number, pl.Int64))
        table.write_parquet(folder / f"{number}.parquet", row_group_size=4)
    return ExampleFiles.found(folder, ["a", "b", "c", "file"], window=20)


@pytest.fixture(scope="module")
def alone(examples):
    return train(Regression(examples), ONE)


def trajectory(result):
    return [value for record in result.history for value in (record.loss, record.metrics["fit"])]


def test_ray_data_keeps_the_order_of_a_plan(examples, ray_cluster):
    plan = [*worker_plan(examples, 0, 1), Slice(1, 30, 31)]
    found = planned(examples, plan).iterator().iter_batches(batch_size=None, batch_format="numpy")
    rows = np.concatenate([piece["a"] for piece in found])
    assert np.array_equal(rows, np.concatenate([examples.read(part)["a"] for part in plan]))


def test_two_workers_with_files_of_any_length_go_the_way_of_one(examples, alone, ray_cluster):
    two = train(Regression(examples), TWO)
    assert trajectory(two) == pytest.approx(trajectory(alone), rel=1e-5, abs=1e-9)
    for name, tensor in alone.weights.items():
        assert two.weights[name].numpy() == pytest.approx(tensor.numpy(), rel=1e-4, abs=1e-6)
    first, last = alone.history[0], alone.history[-1]
    assert last.loss < first.loss / 2
    # The mean over a validation user of each worker: worker 0 has the files 0 and 1, worker 1 those after them.
    assert last.metrics["files"] == 0b1011
    assert two.history[-1].metrics["files"] == (0b0011 + 0b1000) / 2
    assert two.history[-1].metrics["held"] < last.metrics["held"] < sum(examples.rows)


def test_a_worker_that_is_lost_in_mid_epoch_changes_nothing(examples, alone, ray_cluster, tmp_path):
    found = train(Regression(examples, kill=str(tmp_path / "killed")), TWO, storage=tmp_path, name="run")
    assert (tmp_path / "killed").exists()
    assert trajectory(found) == pytest.approx(trajectory(alone), rel=1e-5, abs=1e-9)


def test_a_value_that_is_missing_is_an_error_of_the_worker_that_reads_it(ray_cluster, tmp_path, monkeypatch):
    for number in range(2):
        table = pl.DataFrame({name: [1.0, None, 2.0] * number + [3.0] * 3 for name in ("a", "b", "c", "file")})
        table.write_parquet(tmp_path / f"{number}.parquet")
    task = Regression(ExampleFiles.found(tmp_path, ["a", "b", "c", "file"]))
    with pytest.raises(DataFormatError, match=r"a of .*1.parquet is empty in some of the rows"):
        train(task, ONE)
    plan = list(worker_plan(task.examples_of, 1, 2))
    monkeypatch.setattr(ray.train, "get_dataset_shard", lambda name: planned(task.examples_of, plan).iterator())
    monkeypatch.setattr(
        ray.train, "get_context", lambda: SimpleNamespace(get_world_rank=lambda: 1, get_world_size=lambda: 2)
    )
    read_own_files(task)
    with pytest.raises(DataFormatError, match=r"a of .*1.parquet is empty in some of the rows"):
        task.batch(torch.tensor([3]), torch.Generator())
