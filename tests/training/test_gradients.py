"""One step of gradient descent: its clipping, its scaling and its sums."""

import pytest
import torch

from coldray.training.cluster.workers import OneWorker
from coldray.training.config import TrainingConfig
from coldray.training.gradients import GradientStep
from coldray.training.task import Loss

CPU = torch.device("cpu")
INPUTS = torch.tensor([[3.0, 4.0], [-1.0, 2.0], [0.5, 0.0]])


def step(dtype=torch.float32, **changes):
    """Make one step of a linear loss, whose gradient is the mean of the inputs; return the module and the sums."""
    module = torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(1.0)
    config = TrainingConfig(**changes)
    descend = GradientStep(module, config, OneWorker(), CPU, dtype)
    per_example = module(INPUTS)[:, 0]
    sums = descend(Loss(per_example, {"double": 2 * per_example}), 3, 3, learning_rate=0.25)
    return module, sums, descend


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_the_gradient_is_clipped_to_the_norm_as_it_is_without_a_scale(dtype):
    mean = INPUTS.mean(0)
    free, _, _ = step(dtype)
    assert free.weight.grad[0].tolist() == pytest.approx(mean.tolist())
    clipped, _, _ = step(dtype, clip_norm=0.5)
    assert clipped.weight.grad[0].tolist() == pytest.approx((mean * 0.5 / mean.norm()).tolist(), rel=1e-5)
    loose, _, _ = step(dtype, clip_norm=100.0)
    assert loose.weight.grad[0].tolist() == pytest.approx(mean.tolist())


def test_sums_are_over_the_examples_and_the_step_has_the_learning_rate_given():
    module, sums, _ = step(learning_rate=99.0)
    assert sums.loss == pytest.approx(8.5)
    assert sums.parts == {"double": pytest.approx(17.0)}
    assert module.weight[0].tolist() == pytest.approx([0.75, 0.75])  # Adam's first step is the learning rate


def test_float16_alone_scales_the_loss():
    assert step(torch.float16)[2].scaler.get_scale() > 1
    assert not step(torch.bfloat16)[2].scaler.is_enabled()
    assert not step()[2].scaler.is_enabled()
