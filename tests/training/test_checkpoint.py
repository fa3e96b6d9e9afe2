"""Checkpoints on disk: complete or absent, kept or deleted, and refused when they are of something else."""

import json
import pickle

import pytest
import torch

from coldray.core.errors import CheckpointError
from coldray.training.checkpoint import (
    _TENSORS,
    MANIFEST,
    Snapshot,
    identify,
    latest_checkpoint,
    position_of,
    read_checkpoint,
    require_same,
    save_checkpoint,
)
from coldray.training.config import TrainingConfig
from coldray.training.history import EpochRecord
from coldray.training.state import Progress

RECORD = EpochRecord(0, 1.25, {"kl": 0.5}, {"ndcg@10": 0.125}, 0.01, 1000.0, 2.0)


def snapshot(epoch=1, step=0, *, config=None, precision="auto", model=None, name="towers", n_examples=50):
    model = model or {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2])}
    return Snapshot(
        identity=identify(name, n_examples, config or TrainingConfig(), precision, model),
        progress=Progress(epoch=epoch, step=step, history=[RECORD], best_metric=0.125, best_epoch=0, parts={"kl": 2.0}),
        model=model,
        best={key: value + 1 for key, value in model.items()},
        optimizer={"0": {"step": torch.tensor(4.0), "exp_avg": torch.ones(2, 3), "flag": True}},
        scaler={"scale": 2.0, "_growth_tracker": 1},
    )


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    written = snapshot(3, 2)
    found = read_checkpoint(save_checkpoint(tmp_path, written, 2))
    assert found.identity == written.identity
    assert found.progress == written.progress
    assert found.scaler == written.scaler
    assert found.optimizer["0"]["flag"] is True
    for part in ("model", "best"):
        for key, value in getattr(written, part).items():
            assert torch.equal(getattr(found, part)[key], value)
    assert torch.equal(found.optimizer["0"]["exp_avg"], torch.ones(2, 3))


def test_tied_weights_come_back_in_both_places(tmp_path):
    tied = torch.ones(3)
    found = read_checkpoint(save_checkpoint(tmp_path, snapshot(model={"in": tied, "out": tied}), 1))
    assert torch.equal(found.model["in"], tied)
    assert torch.equal(found.model["out"], tied)


def test_nothing_in_a_checkpoint_is_pickled(tmp_path):
    path = save_checkpoint(tmp_path, snapshot(), 2)
    assert sorted(file.name for file in path.iterdir()) == sorted([_TENSORS, MANIFEST])
    for file in path.iterdir():
        with pytest.raises((pickle.UnpicklingError, ValueError, EOFError, KeyError)), file.open("rb") as stream:
            pickle.load(stream)  # noqa: S301


def test_the_last_checkpoints_are_kept(tmp_path):
    for position in ((1, 0), (1, 4), (2, 0), (10, 0)):
        save_checkpoint(tmp_path, snapshot(*position), 2)
    (tmp_path / "notes").mkdir()
    assert sorted(position_of(path) for path in tmp_path.iterdir()) == [(-1, 0), (2, 0), (10, 0)]
    assert position_of(latest_checkpoint(tmp_path)) == (10, 0)


def test_saving_a_position_again_replaces_it(tmp_path):
    save_checkpoint(tmp_path, snapshot(1), 2)
    save_checkpoint(tmp_path, snapshot(1, model={"c": torch.zeros(1)}), 2)
    assert list(read_checkpoint(latest_checkpoint(tmp_path)).model) == ["c"]


def test_an_incomplete_checkpoint_is_passed_over(tmp_path):
    assert latest_checkpoint(tmp_path / "absent") is None
    good = save_checkpoint(tmp_path, snapshot(1), 9)
    torn, empty, strange = (save_checkpoint(tmp_path, snapshot(epoch), 9) for epoch in (2, 3, 4))
    (torn / _TENSORS).write_bytes((torn / _TENSORS).read_bytes()[:-3])
    (empty / _TENSORS).unlink()
    (strange / MANIFEST).write_text("[]")
    assert latest_checkpoint(tmp_path) == good


def test_a_damaged_checkpoint_says_which_and_what_to_do(tmp_path):
    path = save_checkpoint(tmp_path, snapshot(), 1)
    (path / _TENSORS).write_bytes(b"x" * (path / _TENSORS).stat().st_size)
    with pytest.raises(CheckpointError, match=r"000001-00000000 cannot be read.*Delete its folder"):
        read_checkpoint(path)


@pytest.mark.parametrize("schema", [0, 2, None])
def test_another_schema_is_refused(tmp_path, schema):
    path = save_checkpoint(tmp_path, snapshot(), 1)
    manifest = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps({**manifest, "schema": schema}))
    with pytest.raises(CheckpointError, match=f"schema {schema!r}; this version reads schema 1"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "vae"}, "it is of 'towers', not of 'vae'"),
        ({"n_examples": 49}, "it was trained on 50 examples; there are 49"),
        ({"config": TrainingConfig(learning_rate=0.5)}, "learning_rate was 0.001 and is 0.5"),
        (
            {"model": {"a": torch.zeros(2, 4), "b": torch.zeros(2)}},
            r"weight 'a' has shape \[2, 3\], the model's \[2, 4\]",
        ),
        ({"model": {"a": torch.zeros(2, 3)}}, r"weight 'b' \[2\] is not in the model"),
        (
            {"model": {"a": torch.zeros(2, 3), "b": torch.zeros(2), "c": torch.zeros(1)}},
            r"weight 'c' \[1\] of the model is missing",
        ),
        ({"config": TrainingConfig(schedule="cosine")}, "epochs was 'absent' and is 100; schedule was 'constant'"),
        ({"precision": "bfloat16"}, "precision was 'auto' and is 'bfloat16'"),
    ],
)
def test_a_checkpoint_of_something_else_says_what_differs(tmp_path, changes, message):
    with pytest.raises(CheckpointError, match=rf"{message}.*(Restore what differs|schedule)"):
        require_same(tmp_path, snapshot().identity, snapshot(**changes).identity)


def test_what_changes_no_step_may_change(tmp_path):
    other = TrainingConfig(epochs=7, patience=None)
    first, second = snapshot().identity, snapshot(config=other).identity
    require_same(tmp_path, first, second)
    assert first == second


def test_parameters_that_do_nothing_are_no_part_of_what_a_training_is_of():
    """Checkpoints of before there were restarts and an L1 penalty go on."""
    named = identify("one", 10, TrainingConfig(), "auto", {}).config
    assert not {"l1", "restart_epochs", "restart_factor"} & set(named)
    given = identify("one", 10, TrainingConfig(schedule="restarts", l1=0.1), "auto", {}).config
    assert {"l1", "restart_epochs", "restart_factor"} <= set(given)
