"""Several workers give what one gives: shares that differ, shares without an example, and gathered rows included."""

import pytest
import torch
import torch.multiprocessing
from safetensors.torch import load_file

from coldray.training.config import TrainingConfig
from coldray.training.trainer import train
from training import processes
from training.planted import Awkward, Matching

SIZE = 3
CONFIG = TrainingConfig(
    batch_size=11, epochs=3, learning_rate=0.05, patience=None, optimizer="adamw", weight_decay=0.1, clip_norm=0.5
)
"""Of 23 examples, the third batch has one: two of the three workers have none."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What three workers left behind."""
    folder = tmp_path_factory.mktemp("workers")
    torch.multiprocessing.spawn(processes.run, (SIZE, str(folder), CONFIG), nprocs=SIZE)
    return folder


@pytest.fixture(scope="module")
def alone():
    """The same training by one worker."""
    return train(Awkward(), CONFIG)


def test_losses_and_metrics_are_those_of_one_worker(folder, alone):
    for rank in range(SIZE):
        trained = load_file(folder / f"trained-{rank}.safetensors")
        assert trained["losses"].tolist() == pytest.approx([record.loss for record in alone.history], rel=1e-9)
        assert trained["hits"].tolist() == pytest.approx([record.metrics["hit"] for record in alone.history], abs=1e-9)


def test_weights_are_those_of_one_worker_on_every_worker(folder, alone):
    for rank in range(SIZE):
        trained = load_file(folder / f"trained-{rank}.safetensors")
        assert set(trained) == {*alone.weights, "losses", "hits"}
        for name, tensor in alone.weights.items():
            assert torch.allclose(trained[name], tensor, rtol=1e-7, atol=1e-9), name


def test_a_buffer_that_workers_change_is_that_of_the_first(folder, alone):
    expected = 3.0 * (alone.best_epoch + 1)
    assert {float(load_file(folder / f"trained-{rank}.safetensors")["seen"]) for rank in range(SIZE)} == {expected}


def test_a_parameter_no_batch_touched_is_left_alone(folder):
    trained = load_file(folder / "trained-0.safetensors")
    assert torch.equal(trained["never"], torch.ones(3, dtype=torch.float64))
    assert trained["rare"] < 1.0


def test_a_nan_of_one_worker_stops_all_at_the_same_step(folder):
    texts = {(folder / f"diverged-{rank}.txt").read_text() for rank in range(SIZE)}
    assert len(texts) == 1
    assert "epoch 0, step 2 of 3, at learning rate 0.05: the norm of the gradient is nan" in texts.pop()


def test_rows_are_gathered_in_order(folder):
    whole = torch.cat([processes.rows_of(rank) for rank in range(SIZE)])
    for rank, start in enumerate((0, 3, 3)):
        found = load_file(folder / f"gathered-{rank}.safetensors")
        assert torch.equal(found["whole"], whole)
        assert torch.equal(found["quiet"], whole)
        assert int(found["start"]) == start
        assert found["ids"].tolist() == [0, 1, 2, 20]
        assert found["empty"].tolist() == [0, 4]
        assert int(found["left"]) == 0


def test_the_gradient_through_a_gather_is_that_of_one_process(folder):
    parts = [processes.rows_of(rank).requires_grad_() for rank in range(SIZE)]
    whole = torch.cat(parts)
    sum(processes.objective(part, whole, rank) for rank, part in enumerate(parts)).backward()
    for rank, part in enumerate(parts):
        found = load_file(folder / f"gathered-{rank}.safetensors")["gradient"]
        assert torch.allclose(found, part.grad, rtol=1e-12)
    assert torch.any(parts[0].grad != 0)


def test_rows_that_only_one_worker_learns_get_the_gradient_of_all(folder):
    parts = [processes.rows_of(rank).requires_grad_(rank == 0) for rank in range(SIZE)]
    whole = torch.cat(parts)
    sum(processes.objective(part, whole, rank) for rank, part in enumerate(parts)).backward()
    found = [load_file(folder / f"gathered-{rank}.safetensors")["gradient of the first alone"] for rank in range(SIZE)]
    assert torch.allclose(found[0], parts[0].grad, rtol=1e-12)
    assert [len(gradient) for gradient in found] == [3, 0, 0]


def test_one_worker_gathers_its_own_rows():
    assert train(Matching(), CONFIG).history[0].loss > 0
