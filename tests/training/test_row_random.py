"""Draws for the rows of a batch: the same whoever computes them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from coldray.training.batches import share
from coldray.training.row_random import BatchRows, RowDropout, RowNormal, batch_rows


@given(seed=st.integers(0, 2**63 - 1), total=st.integers(1, 12), workers=st.integers(1, 4))
def test_any_number_of_workers_draws_what_one_draws(seed, total, workers):
    rows = torch.ones(total, 7)
    layers = nn.ModuleList([RowDropout(0.5), RowNormal()])
    dropout, normal = layers

    def drawn(part, first):
        with batch_rows(layers, BatchRows(first, total, seed)):
            return torch.stack([dropout(part), dropout(part), normal(part)])

    alone = drawn(rows, 0)
    shares = [share(total, rank, workers) for rank in range(workers)]
    together = torch.cat([drawn(rows[part], part.start) for part in shares], dim=1)
    torch.testing.assert_close(together, alone, rtol=0, atol=0)
    if total > 3:
        assert not torch.equal(alone[0], alone[1])


def test_units_are_left_out_at_the_rate_and_the_mean_is_kept():
    dropout = RowDropout(0.2)
    with batch_rows(dropout, BatchRows(0, 2000, 3)):
        out = dropout(torch.ones(2000, 50))
    assert out.unique().tolist() == pytest.approx([0, 1.25])
    assert float((out == 0).float().mean()) == pytest.approx(0.2, abs=0.01)
    assert float(out.mean()) == pytest.approx(1, abs=0.01)


def test_normal_rows_are_standard_normal():
    normal = RowNormal()
    with batch_rows(normal, BatchRows(0, 3000, 5)):
        values = normal(torch.empty(3000, 20))
    assert float(values.mean()) == pytest.approx(0, abs=0.02)
    assert float(values.std()) == pytest.approx(1, abs=0.02)


def test_nothing_is_left_out_in_evaluation():
    dropout = RowDropout(0.9).eval()
    rows = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert dropout(rows) is rows


def test_outside_a_step_draws_come_from_the_global_generator():
    rows = torch.ones(6, 8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = RowDropout(0.5)(rows), RowNormal()(rows)
        torch.manual_seed(1)
        again = RowDropout(0.5)(rows), RowNormal()(rows)
        torch.manual_seed(2)
        other = RowDropout(0.5)(rows)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other)
