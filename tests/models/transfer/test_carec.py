"""CA-Rec: the contract, and its loss against a plain reference."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.nn import functional

from coldray.core.errors import ConfigError
from coldray.models.profiles import item_profiles
from coldray.models.transfer.carec import CARec, CARecConfig, ContrastiveTowers, info_nce
from contracts.problems import genre_groups, random_training_set
from contracts.recommender import ColdItemContract
from models.learned import QUICK, Shard, one_thread, step_at  # noqa: F401


class TestCARec(ColdItemContract):
    model = CARec
    config = CARecConfig(**QUICK, embedding_dim=16, temperature=1.0)


def unit_vectors(seed, n, dim=5):
    vectors = np.random.default_rng(seed).normal(size=(n, dim))
    return torch.from_numpy(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def reference(left, right, temperature):
    """Oord et al., Eq. 4, in both directions: −log of the share of the true pair among all, pair by pair."""
    losses = []
    for i in range(len(left)):
        forth = [np.exp(sum(left[i] * right[j]) / temperature) for j in range(len(right))]
        back = [np.exp(sum(right[i] * left[j]) / temperature) for j in range(len(left))]
        losses.append(-(np.log(forth[i] / sum(forth)) + np.log(back[i] / sum(back))) / 2)
    return np.array(losses)


@given(st.integers(0, 10_000), st.integers(1, 9), st.floats(0.05, 5))
def test_the_loss_agrees_with_the_reference(seed, n, temperature):
    left, right = unit_vectors(seed, n), unit_vectors(seed + 1, n)
    found = info_nce(left, right, temperature, step_at())
    np.testing.assert_allclose(found.numpy(), reference(left.numpy(), right.numpy(), temperature), atol=1e-12)


@pytest.mark.parametrize("temperature", [0.1, 0.2, 1.0])
def test_the_loss_of_known_vectors(temperature):
    n = 6
    same, orthogonal = torch.ones(n, 1, dtype=torch.float64), torch.eye(n, dtype=torch.float64)
    np.testing.assert_allclose(info_nce(same, same, temperature, step_at()).numpy(), np.log(n))
    expected = np.log(1 + (n - 1) * np.exp(-1 / temperature))
    np.testing.assert_allclose(info_nce(orthogonal, orthogonal, temperature, step_at()).numpy(), expected)
    swapped = orthogonal.roll(1, dims=0)  # every item is nearest to the wrong one
    np.testing.assert_allclose(
        info_nce(orthogonal, swapped, temperature, step_at()).numpy(), expected + 1 / temperature
    )


@pytest.mark.parametrize("sizes", [(4, 3), (1, 6), (0, 7), (2, 3, 2)], ids=str)
def test_workers_together_have_the_loss_and_the_gradient_of_one(sizes):
    left, right = (unit_vectors(seed, 7).requires_grad_() for seed in (1, 2))
    alone = info_nce(left, right, 0.3, step_at())
    expected = torch.autograd.grad(alone.sum(), (left, right))
    shards = [torch.split(side, list(sizes)) for side in (left, right)]
    losses = [
        info_nce(shards[0][rank], shards[1][rank], 0.3, step_at(workers=Shard(rank, *shards)))
        for rank in range(len(sizes))
    ]
    torch.testing.assert_close(torch.cat(losses), alone, rtol=0, atol=1e-12)
    found = torch.autograd.grad(torch.cat(losses).sum(), (left, right))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_objective_divides_by_the_temperature_of_the_configuration():
    outputs = {"attributes": unit_vectors(3, 6), "interactions": unit_vectors(4, 6)}
    for temperature in (0.1, 0.5):
        loss = ContrastiveTowers.objective(outputs, {}, step_at(), CARecConfig(temperature=temperature))
        expected = reference(outputs["attributes"].numpy(), outputs["interactions"].numpy(), temperature)
        np.testing.assert_allclose(loss.per_example.numpy(), expected, atol=1e-12)
        assert torch.equal(loss.parts["InfoNCE"], loss.per_example)


def test_scores_are_summed_cosines_of_projected_attributes():
    train = random_training_set(40)
    model = CARec(TestCARec.config).fit(train)
    everything = model.score(np.eye(model.n_items, dtype=np.float32), np.arange(model.n_items))
    warm, cold = train.warm_items, train.cold_items
    assert not everything[cold].any(), "nothing is learnt from a click on a cold item"
    among = everything[np.ix_(warm, warm)]
    np.testing.assert_allclose(among, among.T, atol=1e-6)
    assert not np.diag(among).any(), "a click says nothing about itself"
    assert np.abs(everything).max() <= 1 + 1e-6
    keys = model.state()["keys"]
    np.testing.assert_allclose(np.linalg.norm(keys, axis=1), 1, atol=1e-6)
    off = ~np.eye(len(warm), dtype=bool)
    np.testing.assert_allclose(among[off], (keys @ keys.T)[off], atol=1e-6)
    np.testing.assert_allclose(
        model.score(train.interactions, cold), train.interactions @ everything[:, cold], atol=1e-5
    )
    np.testing.assert_array_equal(model.confidence(np.arange(model.n_items)), 1)


def test_projected_attributes_meet_the_profiles_of_their_own_items():
    """After the training, the attributes of a genre are nearest to the profiles of items of that genre."""
    train, genres = genre_groups()
    model = CARec(TestCARec.config).fit(train)
    towers = ContrastiveTowers.of(model.config, *model.state()["sizes"])
    towers.load_state_dict(
        {
            name.removeprefix("network."): torch.from_numpy(value)
            for name, value in model.state().items()
            if name.startswith("network.")
        }
    )
    towers.eval()
    profiles = torch.from_numpy(item_profiles(train, dim=model.config.profile_dim))
    with torch.no_grad():
        interactions = functional.normalize(towers.interactions(profiles), dim=1).numpy()
    nearest = (model.state()["keys"] @ interactions.T).argmax(axis=1)
    np.testing.assert_array_equal(genres[train.warm_items][nearest], genres[train.warm_items])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 0.0),
        ("temperature", -0.1),
        ("embedding_dim", 0),
        ("hidden_dim", 0),
        ("profile_dim", 0),
        ("dropout", 1.0),
        ("validation_share", 0.6),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field, value):
    with pytest.raises(ValidationError, match=field):
        CARecConfig(**{field: value})


def test_a_batch_larger_than_the_data_is_refused_before_the_training(monkeypatch):
    train = random_training_set(41)
    model = CARec(CARecConfig(**{**QUICK, "batch_size": len(train.warm_items) + 1}))
    monkeypatch.setattr(ContrastiveTowers, "of", lambda *_: pytest.fail("a network was built"))
    with pytest.raises(ConfigError, match=r"batch_size is 23, but .* 22 training examples"):
        model.fit(train)
    assert model.n_items == 0
