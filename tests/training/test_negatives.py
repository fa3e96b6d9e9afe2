"""Negatives: never a positive, distributed as stated, and the same draws as a plain loop from the same numbers."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from coldray.core.errors import ConfigError, EmptyDatasetError, ModelError
from coldray.training.negatives import DrawnNegatives, InBatchNegatives, NegativesConfig

CONFIGS = {
    "uniform": NegativesConfig(kind="uniform", count=60),
    "popularity": NegativesConfig(kind="popularity", count=60),
    "hard": NegativesConfig(kind="hard", count=20, pool=40),
    "hard popular": NegativesConfig(kind="hard", count=20, pool=40, pool_kind="popularity"),
}
MATRICES = hnp.arrays(np.bool_, st.tuples(st.integers(1, 8), st.integers(1, 12)))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def clicks_of(dense):
    return sp.csr_array(np.asarray(dense, np.float32))


def drawable(config, dense, items):
    """The items that may be drawn for someone, from the definitions."""
    popular = "popularity" in (config.kind, config.pool_kind if config.kind == "hard" else "")
    return {i for i in items if not popular or dense[:, i].any()}


def with_negatives(dense, item):
    """Click `item` once, and add a user whose only click, a new item, is a negative of all others."""
    padded = np.zeros((dense.shape[0] + 1, dense.shape[1] + 1), bool)
    padded[:-1, :-1] = dense
    padded[0, item] = padded[-1, -1] = True
    return padded


def random_clicks(n_users=30, n_items=50, density=0.3, seed=0):
    """Clicks with popular and unpopular items; the last user leaves 3 clicked items and the unclicked ones."""
    generator = np.random.default_rng(seed)
    dense = generator.random((n_users, n_items)) < 2 * density * generator.random(n_items)
    dense[:, -2:] = False
    dense[0, :-2] = True
    dense[-1, :-2] = True
    dense[-1, [3, 17, 40]] = False
    dense[0] &= generator.random(n_items) < density
    return dense


@pytest.mark.parametrize("name", CONFIGS)
def test_all_small_matrices_and_restrictions_give_every_negative_and_no_positive(name):
    config = CONFIGS[name]
    subsets = [s for size in (1, 2, 3) for s in itertools.combinations(range(3), size)]
    for cells in itertools.product([False, True], repeat=6):
        dense = np.reshape(cells, (2, 3))
        for items in subsets:
            pool = drawable(config, dense, items)
            negatives = [pool - set(np.flatnonzero(row)) for row in dense]
            if not pool or not any(left for left, row in zip(negatives, dense, strict=True) if row.any()):
                with pytest.raises(EmptyDatasetError):
                    DrawnNegatives(config, clicks_of(dense), items=np.array(items))
                continue
            sampler = DrawnNegatives(config, clicks_of(dense), items=np.array(items))
            assert sampler.possible.tolist() == [bool(left) for left in negatives]
            users = [user for user in (1, 0) if negatives[user]]
            drawn = sampler.candidates(torch.tensor(users), seeded())
            # 60 draws from at most 3 items: that one of them is missed has a chance of 3 · (2/3)⁶⁰.
            assert [set(row.tolist()) for row in drawn] == [negatives[user] for user in users]


@given(
    dense=MATRICES,
    name=st.sampled_from(list(CONFIGS)),
    power=st.sampled_from([0.0, 0.75, 3.0, 400.0]),
    seed=st.integers(0, 999),
    data=st.data(),
)
def test_never_draws_a_positive_nor_another_item_than_those_given(dense, name, power, seed, data):
    items = [*data.draw(st.lists(st.integers(0, dense.shape[1] - 1), min_size=1)), dense.shape[1]]
    dense = with_negatives(dense, items[0])
    users = data.draw(st.lists(st.integers(0, dense.shape[0] - 1)))
    config = CONFIGS[name].model_copy(update={"power": power})
    pool = drawable(config, dense, items)
    sampler = DrawnNegatives(config, clicks_of(dense), items=np.array(items))
    drawn = sampler.candidates(torch.tensor(users, dtype=torch.int64), seeded(seed))
    assert drawn.shape == (len(users), sampler.width)
    assert drawn.dtype == torch.int64
    for user, row in zip(users, drawn.tolist(), strict=True):
        assert set(row) <= pool - set(np.flatnonzero(dense[user]))


@given(dense=MATRICES, kind=st.sampled_from(["uniform", "popularity"]), seed=st.integers(0, 999), power=st.floats(0, 2))
def test_equals_a_loop_that_inverts_the_weights_of_what_is_left(dense, kind, seed, power):
    dense = with_negatives(dense, 0)
    counts = dense.sum(axis=0)
    weights = np.where(counts > 0, counts.astype(float) ** power, 0) if kind == "popularity" else np.ones(len(counts))
    config = NegativesConfig(kind=kind, count=5, power=power)
    users = torch.arange(len(dense)).repeat(2)
    found = DrawnNegatives(config, clicks_of(dense), items=None).candidates(users, seeded(seed))
    numbers = torch.rand(len(users), 5, dtype=torch.float64, generator=seeded(seed)).numpy()
    for user, row, row_numbers in zip(users.tolist(), found.tolist(), numbers, strict=True):
        left = np.flatnonzero(weights * ~dense[user])
        shares = np.cumsum(weights[left]) / weights[left].sum()
        assert row == [int(left[np.searchsorted(shares, number, side="right")]) for number in row_numbers]


@pytest.mark.parametrize(("kind", "power"), [("uniform", 0.75), ("popularity", 0.0), ("popularity", 0.75)])
@pytest.mark.parametrize("restricted", [False, True])
def test_draws_follow_the_conditional_distribution(kind, power, restricted):
    dense = random_clicks()
    items = np.arange(0, 50, 2) if restricted else np.arange(50)
    dense[-1, [4, 8]] = False
    sampler = DrawnNegatives(NegativesConfig(kind=kind, count=20_000, power=power), clicks_of(dense), items=items)
    users = [0, 5, 29]  # the last has clicked nearly everything
    drawn = sampler.candidates(torch.tensor(users), seeded(1))
    counts = dense.sum(axis=0)
    weights = np.ones(50) if kind == "uniform" else np.where(counts > 0, counts.astype(float) ** power, 0)
    for user, row in zip(users, drawn.numpy(), strict=True):
        left = np.intersect1d(items, np.flatnonzero(weights * ~dense[user]))
        expected = 20_000 * weights[left] / weights[left].sum()
        observed = np.bincount(row, minlength=50)
        assert observed.sum() == observed[left].sum()
        assert scipy.stats.chisquare(observed[left], expected).pvalue > 0.01


def test_the_columns_of_a_row_are_independent():
    dense = np.zeros((1, 5), bool)
    dense[0, 2] = True
    drawn = DrawnNegatives(NegativesConfig(count=2), clicks_of(dense)).candidates(
        torch.zeros(20_000, dtype=torch.int64), seeded()
    )
    pairs = np.zeros((5, 5), int)
    np.add.at(pairs, tuple(drawn.numpy().T), 1)
    left = [0, 1, 3, 4]
    assert scipy.stats.chi2_contingency(pairs[np.ix_(left, left)]).pvalue > 0.01


def test_the_same_generator_state_gives_the_same_items_and_another_does_not():
    sampler = DrawnNegatives(CONFIGS["popularity"], clicks_of(random_clicks()))
    users = torch.arange(30)
    one, same, other = (sampler.candidates(users, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_global_random_state_is_not_touched():
    before = torch.random.get_rng_state()
    DrawnNegatives(CONFIGS["uniform"], clicks_of(random_clicks())).candidates(torch.arange(30), seeded())
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["uniform", "popularity"])
def test_users_of_large_numbers_are_served_too(kind):
    """Keys of a million users times the weights need most of 63 bits, and users may come as int32."""
    n_users = 1_000_000
    users = np.arange(n_users - 1, 0, -1000).repeat(2)
    items = np.arange(len(users)) % 4
    clicks = sp.csr_array((np.ones(len(users), np.float32), (users, items)), (n_users, 4))
    sampler = DrawnNegatives(NegativesConfig(kind=kind, count=50), clicks)
    drawn = sampler.candidates(torch.tensor([0, *users[::2]], dtype=torch.int32), seeded())
    assert [set(row.tolist()) for row in drawn[:3]] == [{0, 1, 2, 3}, {2, 3}, {0, 1}]
    assert all(set(row.tolist()) <= {2, 3} for row in drawn[1::2])
    assert all(set(row.tolist()) <= {0, 1} for row in drawn[2::2])


@pytest.mark.parametrize("n_items", [*range(2, 70), 1023, 1025, 99_999])
def test_the_largest_random_number_gives_the_last_item(monkeypatch, n_items):
    clicks = sp.csr_array((np.ones(1, np.float32), ([0], [0])), (2, n_items))
    sampler = DrawnNegatives(NegativesConfig(), clicks)
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.full(size, 1 - 2.0**-53, dtype=torch.float64))
    assert sampler.candidates(torch.tensor([0, 1]), seeded()).tolist() == [[n_items - 1]] * 2


def test_values_duplicates_and_order_do_not_matter():
    plain = clicks_of([[1, 1, 1, 0], [0, 1, 0, 1]])
    data, columns = np.array([1, 0, 0.5, 0.5, 1, 2], np.float32), np.array([2, 1, 0, 0, 3, 1])
    messy = sp.csr_array((data, columns, np.array([0, 4, 6])), (2, 4))
    users = torch.tensor([0, 1, 0])
    for kind in ("uniform", "popularity", "hard"):
        one, other = (DrawnNegatives(NegativesConfig(kind=kind), m).candidates(users, seeded()) for m in (plain, messy))
        assert torch.equal(one, other)
    items = torch.tensor([0, 1, 2])
    assert torch.equal(InBatchNegatives(plain).mask(users, items), InBatchNegatives(messy).mask(users, items))


@given(dense=MATRICES, data=st.data())
def test_in_batch_equals_a_loop_over_the_cells(dense, data):
    allowed = [*data.draw(st.lists(st.integers(0, dense.shape[1] - 1), min_size=1)), dense.shape[1]]
    dense = with_negatives(dense, allowed[0])
    n_users, n_items = dense.shape
    users = data.draw(st.lists(st.integers(0, n_users - 1)))
    items = data.draw(st.lists(st.integers(0, n_items - 1)))
    negatives = InBatchNegatives(clicks_of(dense), items=np.array(allowed))
    found = negatives.mask(torch.tensor(users, dtype=torch.int32), torch.tensor(items, dtype=torch.int32))
    assert found.dtype == torch.bool
    assert found.shape == (len(users), len(items))
    assert found.tolist() == [[i in allowed and not dense[u, i] for i in items] for u in users]


def test_in_batch_takes_the_other_positives_and_never_the_own():
    dense = np.array([[1, 0, 0, 1], [0, 1, 1, 0], [0, 0, 1, 0]], bool)
    mask = InBatchNegatives(clicks_of(dense)).mask(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2]))
    assert mask.tolist() == [[False, True, True], [True, False, False], [True, True, False]]


def test_users_without_negative_are_told_and_given_none():
    dense = np.array([[1, 0, 1], [1, 1, 0], [1, 1, 1], [1, 1, 1]], bool)
    for kind in ("uniform", "popularity", "hard"):
        sampler = DrawnNegatives(NegativesConfig(kind=kind), clicks_of(dense))
        assert sampler.possible.tolist() == [True, True, False, False]
        with pytest.raises(ModelError, match="User 2 has clicked all items"):
            sampler.candidates(torch.tensor([0, 2, 3]), seeded())
    in_batch = InBatchNegatives(clicks_of(dense))
    assert in_batch.possible.tolist() == [True, True, False, False]
    assert not in_batch.mask(torch.tensor([2]), torch.arange(3)).any()
    kept = DrawnNegatives(NegativesConfig(), clicks_of(dense[:2]), items=np.array([0, 1]))
    assert kept.possible.tolist() == [True, False]


def test_popularity_needs_a_clicked_item_that_the_user_has_not_clicked():
    dense = np.array([[1, 1, 0], [1, 0, 0]], bool)
    assert DrawnNegatives(NegativesConfig(kind="uniform"), clicks_of(dense)).possible.all()
    for of in (lambda m: DrawnNegatives(NegativesConfig(kind="popularity"), m), InBatchNegatives):
        assert of(clicks_of(dense)).possible.tolist() == [False, True]


def test_users_who_all_clicked_everything_are_refused_with_the_way_out():
    dense = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0]], bool)
    for of in (lambda m: DrawnNegatives(NegativesConfig(kind="popularity"), m), InBatchNegatives):
        with pytest.raises(EmptyDatasetError, match=r"Every user has clicked all 2 items.*more items"):
            of(clicks_of(dense))


def test_an_item_rated_0_is_clicked():
    clicks = clicks_of([[1, 1, 0], [0, 1, 1]])
    clicks.data[:] = [0.0, 4.0, 3.0, 0.0]
    drawn = DrawnNegatives(NegativesConfig(count=40), clicks).candidates(torch.tensor([0, 1]), seeded())
    assert [set(row.tolist()) for row in drawn] == [{2}, {0}]
    assert InBatchNegatives(clicks).mask(torch.tensor([0]), torch.arange(3)).tolist() == [[False, False, True]]


@pytest.mark.parametrize(
    ("error", "items"),
    [
        (EmptyDatasetError, np.array([], int)),
        (ConfigError, np.array([0, 50])),
        (ConfigError, np.array([-1])),
        (ConfigError, np.ones(50, bool)),
        (ConfigError, np.array([[0, 1]])),
    ],
)
def test_items_that_are_none_are_refused(error, items):
    with pytest.raises(error):
        DrawnNegatives(NegativesConfig(), clicks_of(random_clicks()), items=items)
    with pytest.raises(error):
        InBatchNegatives(clicks_of(random_clicks()), items=items)


def test_popularity_among_unclicked_items_is_refused():
    with pytest.raises(EmptyDatasetError, match="need clicked ones"):
        DrawnNegatives(NegativesConfig(kind="popularity"), clicks_of(random_clicks()), items=np.array([48, 49]))


@pytest.mark.parametrize("users", [[-1], [0, 30]])
def test_unknown_users_are_refused(users):
    with pytest.raises(ModelError, match=f"User {users[-1]} "):
        DrawnNegatives(NegativesConfig(), clicks_of(random_clicks())).candidates(torch.tensor(users), seeded())


def test_in_batch_negatives_are_not_drawn():
    with pytest.raises(ConfigError, match="InBatchNegatives"):
        DrawnNegatives(NegativesConfig(kind="in_batch"), clicks_of(random_clicks()))


@pytest.mark.parametrize(
    ("progress", "share"), [(0.0, 0.0), (1.0, 0.2), (2.5, 0.5), (4.0, 0.8), (4.5, 0.8), (100.0, 0.8)]
)
def test_the_hard_share_grows_linearly_to_its_limit(progress, share):
    config = NegativesConfig(kind="hard", hard_share=0.8, warmup_epochs=4)
    assert config.hard_share_at(progress) == pytest.approx(share)


def test_without_a_warm_up_the_hard_share_is_at_its_limit_at_once():
    assert NegativesConfig(hard_share=0.3, warmup_epochs=0).hard_share_at(0) == 0.3


@pytest.mark.parametrize(("count", "pool"), [(1, 6), (3, 3), (4, 9)])
@pytest.mark.parametrize("progress", [0.0, 0.4, 1.3, 2.0])
def test_kept_are_the_hardest_of_the_pool_and_else_the_first(count, pool, progress):
    config = NegativesConfig(kind="hard", count=count, pool=pool, hard_share=0.9, warmup_epochs=2)
    sampler = DrawnNegatives(config, clicks_of(random_clicks()))
    candidates = sampler.candidates(torch.arange(200) % 30, seeded())
    table = torch.randperm(50, generator=seeded(3)).double()
    kept = sampler.kept(candidates, table[candidates], progress)
    n_hard = []
    for row, columns in zip(candidates.tolist(), kept.tolist(), strict=True):
        hard = [row[c] for c in columns if c >= count]
        n_hard.append(len(hard))
        best = sorted(set(row[count:]), key=lambda item: -float(table[item]))[:count]
        if len(best) >= len(hard):
            assert hard == best[: len(hard)]
        else:  # fewer items in the pool than places: all of them, then repeats
            assert set(hard) == set(best)
        assert columns[len(hard) :] == list(range(len(hard), count))
    assert sum(n_hard) == pytest.approx(200 * count * 0.9 * min(1, progress / 2), abs=1)
    assert max(n_hard) - min(n_hard) <= 1


def test_repeats_in_the_pool_are_no_further_hard_negatives():
    config = NegativesConfig(kind="hard", count=2, pool=4, hard_share=1, warmup_epochs=0)
    sampler = DrawnNegatives(config, clicks_of([[1, 0, 0, 0, 0]]))
    candidates = torch.tensor([[1, 1, 4, 2, 4, 3], [1, 1, 4, 4, 4, 4]])
    kept = sampler.kept(candidates, candidates.float(), 0.0)
    assert candidates.gather(1, kept).tolist() == [[4, 3], [4, 4]]


def test_hard_negatives_score_higher_as_training_goes_on():
    sampler = DrawnNegatives(NegativesConfig(kind="hard", count=4, pool=32), clicks_of(random_clicks()))
    candidates = sampler.candidates(torch.arange(30), seeded())
    scores = torch.randn(50, generator=seeded(1))[candidates]
    means = [scores.gather(1, sampler.kept(candidates, scores, e)).mean().item() for e in range(6)]
    assert means == sorted(means)
    assert means[-1] > means[0] + 0.5


def test_gradients_flow_to_the_kept_scores_alone():
    sampler = DrawnNegatives(CONFIGS["hard"], clicks_of(random_clicks()))
    candidates = sampler.candidates(torch.arange(30), seeded())
    scores = torch.randn(30, 60, generator=seeded(1)).requires_grad_()
    kept = sampler.kept(candidates, scores, 3.0)
    scores.gather(1, kept).sum().backward()
    assert torch.equal(scores.grad, torch.zeros(30, 60).scatter_(1, kept, 1.0))


@pytest.mark.parametrize("kind", ["uniform", "popularity"])
def test_other_kinds_keep_all_they_draw(kind):
    sampler = DrawnNegatives(NegativesConfig(kind=kind, count=3), clicks_of(random_clicks()))
    candidates = sampler.candidates(torch.arange(4), seeded())
    assert sampler.kept(candidates, torch.randn(4, 3), 9.0).tolist() == [[0, 1, 2]] * 4


@pytest.mark.parametrize(("candidates", "scores"), [((2, 60), (2, 20)), ((2, 20), (2, 20)), ((60,), (60,))])
def test_scores_of_other_candidates_are_refused(candidates, scores):
    sampler = DrawnNegatives(CONFIGS["hard"], clicks_of(random_clicks()))
    with pytest.raises(ModelError, match="60"):
        sampler.kept(torch.zeros(candidates, dtype=torch.int64), torch.zeros(scores), 0.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "popular"},
        {"count": 0},
        {"power": -1},
        {"power": float("inf")},
        {"hard_share": 1.1},
        {"hard_share": float("nan")},
        {"warmup_epochs": -1},
        {"kind": "hard", "count": 33, "pool": 32},
        {"pools": 3},
    ],
)
def test_wrong_configurations_are_refused(wrong):
    with pytest.raises(ValidationError):
        NegativesConfig(**wrong)


def test_the_configuration_is_frozen_and_only_hard_needs_a_pool_as_large_as_the_count():
    config = NegativesConfig(kind="uniform", count=64, pool=32)
    with pytest.raises(ValidationError):
        config.count = 3
