"""The batches of an epoch, the shares of workers, and the seeds of all that is drawn."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coldray.training.batches import Batches, share
from coldray.training.row_random import Purpose, derived_generator, derived_seed


@given(n=st.integers(0, 200), size=st.integers(1, 12))
def test_shares_partition_everything_and_differ_by_one_at_most(n, size):
    shares = [range(n)[share(n, rank, size)] for rank in range(size)]
    assert [thing for part in shares for thing in part] == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert len(shares[0]) == max(map(len, shares))


@given(n=st.integers(1, 80), batch_size=st.integers(1, 30), size=st.integers(1, 5), epoch=st.integers(0, 3))
def test_every_example_comes_up_once_an_epoch_whatever_the_workers(n, batch_size, size, epoch):
    batches = Batches(n, batch_size, 7, epoch)
    seen = []
    for step in range(len(batches)):
        whole = batches.examples(step)
        shares = [whole[share(len(whole), rank, size)] for rank in range(size)]
        assert torch.equal(torch.cat(shares), whole)
        assert len(whole) == batch_size or step == len(batches) - 1
        seen += whole.tolist()
    assert sorted(seen) == list(range(n))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {tuple(Batches(50, 8, seed, epoch).order.tolist()) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert tuple(Batches(50, 8, 1, 2).order.tolist()) in orders


@pytest.mark.parametrize(("n", "batch_size", "steps"), [(10, 5, 2), (11, 5, 3), (4, 5, 1), (5, 5, 1)])
def test_the_last_batch_may_be_smaller(n, batch_size, steps):
    assert len(Batches(n, batch_size, 0, 0)) == steps


def test_every_position_and_purpose_has_a_seed_of_its_own():
    seeds = {
        derived_seed(seed, purpose, epoch, step, rank)
        for seed in range(3)
        for purpose in Purpose
        for epoch in range(3)
        for step in range(3)
        for rank in range(3)
    }
    assert len(seeds) == 3 * len(Purpose) * 27
    first, again = (torch.rand(4, generator=derived_generator(1, Purpose.BATCH, 2, 3, 1)) for _ in range(2))
    assert torch.equal(first, again)
