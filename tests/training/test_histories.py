"""Histories in batches, against plain loops over the users."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import ModelError
from coldray.training.histories import Histories

N_USERS, N_ITEMS = 7, 9
seeds = st.integers(0, 10_000)


def clicks_of(seed, share=0.4):
    """Return ratings, a few users without any, whose rows are stored in no order."""
    generator = np.random.default_rng(seed)
    rows, columns = np.nonzero(generator.random((N_USERS, N_ITEMS)) < share)
    kept = rows != seed % N_USERS
    order = generator.permutation(kept.sum())
    order = order[np.argsort(rows[kept][order], kind="stable")]
    rows, columns = rows[kept][order], columns[kept][order]
    starts = np.searchsorted(rows, np.arange(N_USERS + 1))
    ratings = generator.integers(1, 6, len(rows)).astype(np.float32)
    return sp.csr_array((ratings, columns, starts), shape=(N_USERS, N_ITEMS))


def rows_of(clicks, users, without=None):
    """Return the (item, value) pairs of each user, in the order in which they are stored."""
    found = []
    for place, user in enumerate(users):
        mine = range(clicks.indptr[user], clicks.indptr[user + 1])
        pairs = [(int(clicks.indices[position]), float(clicks.data[position])) for position in mine]
        found.append([pair for pair in pairs if without is None or pair[0] != without[place]])
    return found


def unpadded(batch):
    """Return the same of a padded batch, and check what stands in its padding."""
    found = []
    for items, mask, values in zip(batch["history"], batch["history_mask"], batch["history_values"], strict=True):
        length = int(mask.sum())
        assert mask[:length].all(), "the padding is at the end"
        assert (items[length:] == N_ITEMS).all()
        assert (values[length:] == 0).all()
        found.append(list(zip(items[:length].tolist(), values[:length].tolist(), strict=True)))
    return found


def unbagged(batch):
    """Return the same of bags."""
    ends = [*batch["history_offsets"].tolist()[1:], len(batch["history"])]
    pairs = list(zip(batch["history"].tolist(), batch["history_values"].tolist(), strict=True))
    return [pairs[start:end] for start, end in zip(batch["history_offsets"].tolist(), ends, strict=True)]


@given(seeds, st.lists(st.integers(0, N_USERS - 1), min_size=1, max_size=12), st.booleans())
def test_both_forms_agree_with_the_loop(seed, users, leave_out):
    clicks = clicks_of(seed)
    without = np.random.default_rng(seed + 1).integers(0, N_ITEMS, len(users)) if leave_out else None
    expected = rows_of(clicks, users, without)
    histories = Histories.of(clicks)
    options = {"without": None if without is None else torch.from_numpy(without)}
    padded = histories.padded(torch.tensor(users), **options)
    bags = histories.bags(torch.tensor(users), **options)
    assert unpadded(padded) == expected
    assert unbagged(bags) == expected
    assert padded["history"].shape == (len(users), max(1, *map(len, expected), 1))
    assert padded["history"].dtype == bags["history"].dtype == bags["history_offsets"].dtype == torch.int64
    assert padded["history_values"].dtype == bags["history_values"].dtype == torch.float32
    assert padded["history_mask"].dtype == torch.bool


@given(seeds, st.integers(1, 6))
def test_the_last_clicks_are_taken_without_a_generator(seed, longest):
    clicks, users = clicks_of(seed, 0.7), list(range(N_USERS))
    batch = Histories.of(clicks).padded(torch.tensor(users), longest=longest)
    assert unpadded(batch) == [pairs[-longest:] for pairs in rows_of(clicks, users)]


@given(seeds, st.integers(1, 6))
def test_drawn_clicks_are_as_many_as_may_be_and_in_their_order(seed, longest):
    clicks, users = clicks_of(seed, 0.7), list(range(N_USERS))
    generator = torch.Generator().manual_seed(seed)
    batch = Histories.of(clicks).padded(torch.tensor(users), longest=longest, generator=generator)
    for found, every in zip(unpadded(batch), rows_of(clicks, users), strict=True):
        assert len(found) == min(longest, len(every))
        places = [every.index(pair) for pair in found]
        assert places == sorted(places)


def test_every_click_is_drawn_as_often():
    """One of 8 clicks 4,000 times: 500 each, by 6 standard deviations of 21."""
    clicks = sp.csr_array(np.ones((1, 8), np.float32))
    users = torch.zeros(4000, dtype=torch.int64)
    batch = Histories.of(clicks).padded(users, longest=1, generator=torch.Generator().manual_seed(0))
    counts = torch.bincount(batch["history"].flatten(), minlength=8)
    assert (counts - 500).abs().max() < 130


@pytest.mark.parametrize("form", ["padded", "bags"])
def test_each_click_is_hidden_by_its_own_chance(form):
    """A quarter of 8,000 clicks: 2,000 by 6 standard deviations of 39; each place alike."""
    clicks = sp.csr_array(np.ones((1, 8), np.float32))
    users = torch.zeros(1000, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    batch = getattr(Histories.of(clicks), form)(users, hidden=0.25, generator=generator)
    counts = torch.bincount(batch["history"].flatten(), minlength=9)[:8]  # without the padding
    assert abs(int(counts.sum()) - 6000) < 240
    assert (counts - 750).abs().max() < 90
    lengths = batch["history_mask"].sum(dim=1) if form == "padded" else batch["history_offsets"].diff()
    assert len(lengths.unique()) > 3, "users are not all hidden the same number of"


def test_the_same_generator_hides_the_same_clicks_in_both_forms():
    clicks, users = clicks_of(3, 0.7), torch.arange(N_USERS)
    histories = Histories.of(clicks)
    padded = histories.padded(users, hidden=0.5, generator=torch.Generator().manual_seed(1))
    bags = histories.bags(users, hidden=0.5, generator=torch.Generator().manual_seed(1))
    other = histories.bags(users, hidden=0.5, generator=torch.Generator().manual_seed(2))
    assert unpadded(padded) == unbagged(bags) != unbagged(other)


@pytest.mark.parametrize(
    ("form", "asked"), [("padded", {"hidden": 0.5}), ("padded", {"longest": 3}), ("bags", {"hidden": 0.5})]
)
def test_a_part_of_the_rows_is_drawn_as_the_whole(form, asked):
    """So that what is drawn for an example does not depend on the worker that has it."""
    users, read = torch.tensor([0, 1, 1, 2, 0, 1, 2, 2]), unpadded if form == "padded" else unbagged
    batches = getattr(Histories.of(sp.csr_array(np.ones((3, N_ITEMS), np.float32))), form)
    rows = torch.arange(8) + 40

    def drawn(part):
        return read(batches(users[part], rows=rows[part], generator=torch.Generator().manual_seed(1), **asked))

    whole = drawn(slice(0, 8))
    assert drawn(slice(0, 3)) + drawn(slice(3, 8)) == whole
    assert whole[1] != whole[2], "another row of the same user is drawn anew"


def test_clicks_of_the_same_place_are_in_the_order_of_the_items():
    clicks = sp.csr_array(([2.0, 1, 1, 1], [4, 7, 0, 3], [0, 4]), shape=(1, N_ITEMS), dtype=np.float32)
    assert Histories.in_order(clicks).items.tolist() == [0, 3, 7, 4]


@pytest.mark.parametrize("form", ["padded", "bags"])
def test_hiding_takes_a_generator(form):
    with pytest.raises(ModelError, match=r"0\.5 of the clicks .* generator"):
        getattr(Histories.of(clicks_of(0)), form)(torch.arange(2), hidden=0.5)


@given(seed=st.integers(0, 999), hidden=st.sampled_from([0.0, 0.3, 0.99]))
def test_clicks_are_parted_into_targets_hidden_ones_and_histories(seed, hidden):
    dense = np.random.default_rng(seed).random((7, 9)) < 0.5
    histories = Histories.of(sp.csr_array(dense * np.arange(1, 10, dtype=np.float32)))
    users, targets = torch.tensor([4, 0, 4, 6]), torch.tensor([2, 1, 9, 0])
    batch = histories.parted(users, targets, hidden=hidden, generator=torch.Generator().manual_seed(seed))
    ends = [*batch["history_offsets"].tolist()[1:], len(batch["history"])]
    for row, (user, wanted) in enumerate(zip(users.tolist(), targets.tolist(), strict=True)):
        clicked = set(np.flatnonzero(dense[user]).tolist())
        predicted = batch["targets"][row][batch["is_target"][row]].tolist()
        begin, end = int(batch["history_offsets"][row]), ends[row]
        read = batch["history"][begin:end].tolist()
        assert len(set(predicted)) == len(predicted) == min(wanted, len(clicked))
        assert set(predicted) | set(read) <= clicked
        assert not set(predicted) & set(read)
        assert read == sorted(set(read))
        assert batch["history_values"][begin:end].tolist() == [item + 1 for item in read]
        if not hidden:
            assert len(read) == len(clicked) - len(predicted)
    alone = histories.parted(
        users[1:2], targets[1:2], hidden=hidden, generator=torch.Generator().manual_seed(seed), rows=torch.tensor([1])
    )
    assert alone["targets"].tolist() == [batch["targets"][1][:1].tolist()], "a row is drawn as among others"


def test_every_click_is_as_often_a_target_and_hidden():
    histories = Histories.of(sp.csr_array(np.ones((1, 6), np.float32)))
    users = torch.zeros(6000, dtype=torch.int64)
    batch = histories.parted(users, torch.full((6000,), 2), hidden=0.25, generator=torch.Generator().manual_seed(0))
    counts = torch.bincount(batch["targets"].ravel(), minlength=6) / 6000
    assert torch.allclose(counts, torch.full((6,), 1 / 3), atol=0.03)
    read = torch.bincount(batch["history"], minlength=6) / 6000
    assert torch.allclose(read, torch.full((6,), 2 / 3 * 0.75), atol=0.03)


def test_no_user_and_users_without_a_click():
    histories = Histories.of(clicks_of(0))  # of which user 0 has none
    nobody = torch.zeros(0, dtype=torch.int64)
    assert histories.padded(nobody)["history"].shape == (0, 1)
    assert histories.bags(nobody)["history_offsets"].shape == (0,)
    empty = histories.padded(torch.zeros(3, dtype=torch.int64), longest=4)
    assert (empty["history"] == N_ITEMS).all()
    assert empty["history"].shape == (3, 1)
    assert histories.bags(torch.zeros(3, dtype=torch.int64))["history_offsets"].tolist() == [0, 0, 0]


def test_bags_are_what_an_embedding_bag_reads():
    clicks = clicks_of(5)
    histories = Histories.of(clicks)
    batch = histories.bags(torch.arange(N_USERS))
    table = torch.randn(N_ITEMS, 3, generator=torch.Generator().manual_seed(0))
    found = torch.nn.functional.embedding_bag(
        batch["history"], table, batch["history_offsets"], mode="sum", per_sample_weights=batch["history_values"]
    )
    np.testing.assert_allclose(found.numpy(), clicks @ table.numpy(), rtol=1e-5, atol=1e-6)


def test_users_stand_beside_the_items():
    clicks = clicks_of(2)
    histories = Histories.of(clicks)
    assert len(histories) == N_USERS
    assert histories.n_items == N_ITEMS
    pairs = sorted(zip(histories.users.tolist(), histories.items.tolist(), strict=True))
    assert pairs == sorted(zip(*(indices.tolist() for indices in clicks.nonzero()), strict=True))
