"""Examples in files: windows, batches and the parts of workers, whatever the files look like."""

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import ray.cloudpickle as cloudpickle
import torch
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import ConfigError, DataFileError, DataFormatError, EmptyDatasetError
from coldray.training.config import TrainingConfig
from coldray.training.files.examples import ExampleFiles, Slice, WindowBatches, worker_plan
from coldray.training.files.task import FilesTask, WorkerPart
from coldray.training.row_random import Purpose, derived_generator
from coldray.training.trainer import require_trainable

FILES = st.lists(st.integers(0, 25), min_size=1, max_size=5).filter(sum)


def examples_of(rows, window):
    return ExampleFiles(tuple(Path(f"{n}") for n in range(len(rows))), tuple(rows), ("x",), ("int64",), window)


def written(folder, tables, **options):
    for number, table in enumerate(tables):
        table.write_parquet(folder / f"{number}.parquet", **options)
    return folder


@given(
    rows=FILES,
    window=st.integers(1, 40),
    batch_size=st.integers(1, 12),
    size=st.integers(1, 5),
    epoch=st.integers(0, 2),
)
def test_every_example_comes_up_once_an_epoch_whatever_the_workers(rows, window, batch_size, size, epoch):
    examples = examples_of(rows, window)
    batches = WindowBatches(examples, batch_size, 7, epoch)
    seen = []
    for step in range(len(batches)):
        whole = batches.examples(step)
        assert torch.equal(torch.cat([batches.of_worker(step, rank, size) for rank in range(size)]), whole)
        inside = examples.window_with(int(whole[0]))
        assert {examples.window_with(example) for example in whole.tolist()} == {inside}
        for rank in range(size):
            assert set(batches.of_worker(step, rank, size).tolist()) <= set(examples.part(inside, rank, size))
        assert 1 <= len(whole) <= batch_size
        seen += whole.tolist()
    assert sorted(seen) == list(range(sum(rows)))


@given(rows=FILES, window=st.integers(1, 40), size=st.integers(1, 5))
def test_workers_read_every_row_once_and_each_file_is_read_by_one(rows, window, size):
    examples = examples_of(rows, window)
    plans = [list(worker_plan(examples, rank, size)) for rank in range(size)]
    for file, length in enumerate(rows):
        parts = [part for plan in plans for part in plan if part.file == file]
        assert [row for part in parts for row in range(part.start, part.stop)] == list(range(length))
    assert max(np.diff(examples.starts)) <= window + len(rows)
    for number in range(examples.n_windows):
        parts = [examples.part(number, rank, size) for rank in range(size)]
        whole = range(*examples.starts[number : number + 2].tolist())
        assert [example for part in parts for example in part] == list(whole)


def test_a_window_is_mixed_anew_in_each_epoch_and_for_each_seed():
    examples = examples_of([30, 30], 30)
    orders = {
        tuple(tuple(batches.examples(step).tolist()) for step in range(len(batches)))
        for batches in (WindowBatches(examples, 5, seed, epoch) for seed in range(2) for epoch in range(2))
    }
    assert len(orders) == 4
    generator = derived_generator(1, Purpose.ORDER, 1, 1)
    expected = (torch.randperm(30, generator=generator) + 30)[5:10].sort().values
    assert tuple(tuple(expected.tolist()) in order for order in orders).count(True) == 1


class Echo(FilesTask):
    name = "echo"
    n_validation_users = 0

    def build(self):
        return torch.nn.Linear(1, 1)

    def of_rows(self, rows, examples, generator):
        return {name: torch.from_numpy(column) for name, column in rows.items()}

    def loss(self, module, batch, step):
        raise NotImplementedError

    def validate(self, module, users):
        raise NotImplementedError


@given(
    rows=FILES,
    window=st.integers(1, 40),
    group=st.integers(1, 9),
    piece=st.integers(1, 50),
    size=st.integers(1, 3),
)
def test_a_worker_gets_the_rows_of_its_examples_in_pieces_of_any_length(rows, window, group, piece, size):
    values = np.random.default_rng(sum(rows)).normal(size=sum(rows)).astype(np.float32)
    ends = np.cumsum([0, *rows])
    tables = [pl.DataFrame({"x": values[a:b], "i": range(a, b)}) for a, b in pairwise(ends)]
    with tempfile.TemporaryDirectory() as name:
        examples = ExampleFiles.found(written(Path(name), tables, row_group_size=group), ["i", "x"], window=window)
        seen = []
        for rank in range(size):
            mine = [examples.read(part) for part in worker_plan(examples, rank, size)]
            whole = {key: np.concatenate([one[key] for one in mine]) if mine else np.zeros(0) for key in ("i", "x")}
            task = Echo(examples)

            def read(whole=whole):
                return (
                    {key: column[a : a + piece] for key, column in whole.items()}
                    for a in range(0, len(whole["i"]), piece)
                )

            task.read_by(read, rank, size)
            for epoch in range(2):
                batches = task.batches(4, 0, epoch)
                for step in range(len(batches)):
                    batch = task.batch(batches.of_worker(step, rank, size), None)
                    assert (batch["i"].dtype, batch["x"].dtype) == (torch.int64, torch.float32)
                    assert np.array_equal(batch["x"].numpy(), values[batch["i"].numpy()])
                    seen += batch["i"].tolist()
    assert sorted(seen) == sorted([*range(sum(rows))] * 2)


def test_rows_are_read_in_the_order_of_names_from_their_row_groups(tmp_path):
    tables = [pl.DataFrame({"x": range(10 * n, 10 * n + 10)}, schema={"x": pl.Int16}) for n in range(2)]
    examples = ExampleFiles.found(written(tmp_path, tables, row_group_size=3), ["x"])
    assert examples.rows == (10, 10)
    assert examples.read(Slice(1, 2, 7))["x"].tolist() == [12, 13, 14, 15, 16]
    assert examples.read(Slice(0, 3, 3))["x"].tolist() == []
    assert list(worker_plan(examples, 1, 2)) == [Slice(1, 0, 10)]


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        (None, DataFileError, r"holds no \*\.parquet file"),
        (pl.DataFrame({"y": [1]}), DataFormatError, "has no column 'x'; it has 'y'"),
        (pl.DataFrame({"x": ["1"]}), DataFormatError, "x of .*0.parquet is .*string.*; examples are numbers"),
        (pl.DataFrame({"x": []}, schema={"x": pl.Int64}), EmptyDatasetError, "have no row to train on"),
    ],
)
def test_files_that_cannot_be_trained_on(tmp_path, table, error, message):
    with pytest.raises(error, match=message):
        ExampleFiles.found(written(tmp_path, [] if table is None else [table]), ["x"])


def test_files_that_change_or_lack_values(tmp_path):
    examples = ExampleFiles.found(written(tmp_path, [pl.DataFrame({"x": [1, None, 3]})]), ["x"])
    with pytest.raises(DataFormatError, match=r"x of .*0.parquet is empty in some of the rows from 1 on"):
        examples.read(Slice(0, 1, 3))
    written(tmp_path, [pl.DataFrame({"x": [1, 2]})])
    with pytest.raises(DataFileError, match="has changed since the training began"):
        examples.read(Slice(0, 1, 3))
    (tmp_path / "0.parquet").unlink()
    with pytest.raises(DataFileError, match="cannot be read"):
        examples.read(Slice(0, 0, 1))
    part = WorkerPart(examples, lambda: iter([{"x": np.arange(2)}]), 0, 1)
    with pytest.raises(DataFileError, match="ended 1 rows early"):
        part.rows(np.array([2]))


def test_each_worker_needs_a_file(tmp_path):
    task = Echo(ExampleFiles.found(written(tmp_path, [pl.DataFrame({"x": range(9)})] * 2), ["x"]))
    require_trainable(task, TrainingConfig(batch_size=6, workers=2))
    with pytest.raises(ConfigError, match=r"workers is 3, but echo has 2 files of examples.*Use 2 workers or fewer"):
        require_trainable(task, TrainingConfig(batch_size=6, workers=3))


def test_an_epoch_that_was_left_in_the_middle_begins_anew():
    examples = examples_of([30], 10)
    part = WorkerPart(examples, lambda: iter([{"x": np.arange(30)}]), 0, 1)
    for wanted in ([3, 5], [12], [1, 9], [25], [0]):
        assert part.rows(np.array(wanted))["x"].tolist() == wanted


def test_a_task_is_sent_without_what_it_has_read(tmp_path):
    task = Echo(ExampleFiles.found(written(tmp_path, [pl.DataFrame({"x": range(9)})]), ["x"], window=5))
    task.read_by(lambda: (task.examples_of.read(part) for part in worker_plan(task.examples_of, 0, 1)), 0, 1)
    task.batch(torch.tensor([2]), torch.Generator())  # a generator, which cannot be sent, is open now
    copy = cloudpickle.loads(cloudpickle.dumps(task))
    assert copy.batch(torch.tensor([7]), torch.Generator())["x"].tolist() == [7]
