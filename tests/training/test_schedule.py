"""The learning rate at every step, beside a slow reference."""

import math

import pytest
import torch

from coldray.training.config import TrainingConfig
from coldray.training.loop import learning_rate
from coldray.training.state import Progress

EPOCH_STEPS = 7


def rates(config, **changes):
    return [learning_rate(config, step, EPOCH_STEPS, **changes) for step in range(config.epochs * EPOCH_STEPS)]


def torch_rates(config, warmup):
    """The same, by torch's own schedulers."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=config.learning_rate)
    total = config.epochs * EPOCH_STEPS
    rising = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / max(warmup, 1))
    after = (
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total - warmup)
        if config.schedule == "cosine"
        else torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    )
    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [rising, after], [warmup])
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step")
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize(("warmup_epochs", "warmup"), [(1.5, 11), (2, 14), (0.1, 1)])
def test_warm_up_and_schedule_are_those_of_torch(schedule, warmup_epochs, warmup):
    config = TrainingConfig(schedule=schedule, warmup_epochs=warmup_epochs, learning_rate=0.3, epochs=6)
    assert rates(config) == pytest.approx(torch_rates(config, warmup), rel=1e-9)


def test_without_a_warm_up_the_first_step_has_the_full_rate():
    assert set(rates(TrainingConfig(learning_rate=0.3, epochs=2))) == {0.3}
    cosine = rates(TrainingConfig(learning_rate=0.3, epochs=2, schedule="cosine"))
    assert cosine[0] == pytest.approx(0.3)
    assert cosine[EPOCH_STEPS] == pytest.approx(0.15)
    assert cosine[-1] == pytest.approx(0.15 * (1 + math.cos(math.pi * 13 / 14)))


def test_the_plateau_schedule_lowers_the_rate_after_each_plateau():
    config = TrainingConfig(schedule="plateau", plateau_factor=0.1, plateau_patience=2, patience=None, epochs=20)
    progress, seen = Progress(), []
    for metric in (1.0, 2.0, 2.0, 1.5, 1.5, 3.0, 2.9, 2.9, 2.9, 2.9):
        progress.judge(metric, config)
        progress.epoch += 1
        seen.append(progress.reductions)
    assert seen == [0, 0, 0, 1, 1, 1, 1, 2, 2, 3]
    assert progress.best_epoch == 5
    assert learning_rate(config, 60, EPOCH_STEPS, 3) == pytest.approx(config.learning_rate * 1e-3)


def test_an_improvement_below_min_delta_is_none():
    config, progress = TrainingConfig(min_delta=0.1), Progress()
    assert progress.judge(1.0, config)
    assert not progress.judge(1.1, config)
    assert progress.judge(1.11, config)


@pytest.mark.parametrize(("first", "factor", "warmup_epochs"), [(2, 1, 0), (2, 2, 0), (3, 3, 2)])
def test_warm_restarts_are_those_of_torch(first, factor, warmup_epochs):
    plan = {"restart_epochs": first, "restart_factor": factor, "warmup_epochs": warmup_epochs, "epochs": 30}
    config = TrainingConfig(schedule="restarts", learning_rate=0.3, **plan)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=config.learning_rate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, first * EPOCH_STEPS, factor)
    warmup, expected = warmup_epochs * EPOCH_STEPS, []
    for _ in range(config.epochs * EPOCH_STEPS - warmup):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(config)[warmup:] == pytest.approx(expected, rel=1e-9)
    assert expected.count(0.3) > 1


def test_a_period_may_end_within_an_epoch():
    found = rates(
        TrainingConfig(schedule="restarts", learning_rate=0.3, restart_epochs=0.5, restart_factor=1, epochs=3)
    )
    assert [step for step, rate in enumerate(found) if rate > found[step - 1]] == [0, 4, 7, 11, 14, 18]
