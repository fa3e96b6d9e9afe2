"""GE-Rec: the contract, its objective against references, and what its draws do."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.distributions import Independent, Normal, kl_divergence

from coldray.models.neural.inputs import bag
from coldray.models.transfer import gerec
from coldray.models.transfer.gerec import ConditionalAutoencoder, GERec, GERecConfig
from coldray.models.transfer.similarity import LearnedSimilarity
from contracts.problems import random_training_set
from contracts.recommender import ColdItemContract, all_items
from models.learned import QUICK, one_thread, step_at  # noqa: F401


class TestGERec(ColdItemContract):
    model = GERec
    config = GERecConfig(**QUICK, latent_dim=4, kl_warmup=5)


# ---- the objective


def normals(seed, n=6, latent=3):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(n, latent, generator=generator, dtype=torch.float64) for _ in range(2))


@pytest.mark.parametrize("seed", range(3))
def test_the_divergence_is_that_of_torch(seed):
    mean, log_variance = normals(seed)
    drawn = Independent(Normal(mean, (log_variance / 2).exp()), 1)
    prior = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    torch.testing.assert_close(gerec.kl_divergence(mean, log_variance), kl_divergence(drawn, prior), rtol=0, atol=1e-12)


def test_the_prior_does_not_diverge_from_itself():
    assert not gerec.kl_divergence(torch.zeros(4, 3), torch.zeros(4, 3)).any()


@pytest.mark.parametrize(
    ("warmup", "progress", "warmth"),
    [(4, 0.0, 0), (4, 1.0, 0.25), (4, 2.5, 0.625), (4, 4.0, 1), (4, 9.0, 1), (0, 0.0, 1), (0, 3.0, 1)],
)
def test_the_divergence_warms_up(warmup, progress, warmth):
    mean, log_variance = normals(3)
    generator = torch.Generator().manual_seed(0)
    profiles, decoded = (torch.randn(6, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    outputs = {"profiles": decoded, "mean": mean, "log_variance": log_variance}
    config = GERecConfig(kl_weight=0.7, kl_warmup=warmup)
    loss = ConditionalAutoencoder.objective(outputs, {"profiles": profiles}, step_at(progress), config)
    squared = ((decoded - profiles) ** 2).sum(dim=1)
    divergence = gerec.kl_divergence(mean, log_variance)
    expected = (squared + 0.7 * warmth * divergence) / 5  # both a profile dimension
    torch.testing.assert_close(loss.per_example, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(loss.parts["reconstruction"], squared / 5)
    torch.testing.assert_close(loss.parts["KL"], divergence / 5)


def test_z_is_drawn_from_what_the_encoder_says():
    torch.manual_seed(0)
    network = ConditionalAutoencoder.of(GERecConfig(**QUICK, latent_dim=2), 3, 4).eval()
    items = {"indices": torch.zeros(4000, dtype=torch.int64), "offsets": torch.arange(4000)}
    items |= {"weights": torch.ones(4000), "profiles": torch.ones(4000, 4)}
    seen = []
    network.decode = lambda z, condition: seen.append(z) or condition
    with torch.no_grad():
        outputs = network(items)
    z, mean, deviation = seen[0], outputs["mean"][0], (outputs["log_variance"][0] / 2).exp()
    torch.testing.assert_close(z.mean(dim=0), mean, rtol=0, atol=float(5 * deviation.max()) / 4000**0.5)
    torch.testing.assert_close(z.std(dim=0), deviation, rtol=0.06, atol=0)


# ---- the draws


@pytest.fixture(scope="module")
def free():
    """A model whose z matters, as its divergence costs little, and what it was fitted on."""
    train = random_training_set(60)
    torch.set_num_threads(1)
    return GERec(GERecConfig(**QUICK, latent_dim=4, kl_weight=0.01)).fit(train), train


def redrawn(model, draws, seed):
    """Return the similarity of `model` with other draws of z."""
    learned = LearnedSimilarity.from_arrays(ConditionalAutoencoder, model.config, model.state())
    generator = torch.Generator().manual_seed(seed)
    learned.network.noise = torch.randn(draws, model.config.latent_dim, generator=generator)
    return learned


def test_more_draws_leave_less_to_chance(free):
    model, train = free
    cold = train.features.take(train.cold_items)
    spread = {
        draws: np.std([redrawn(model, draws, seed).between(cold) for seed in range(6)], axis=0).mean()
        for draws in (1, 16, 256)
    }
    assert spread[1] > 2 * spread[16] > 4 * spread[256] > 0


def test_draws_are_averaged_before_the_direction_is_taken(free):
    model, train = free
    cold = train.features.take(train.cold_items)
    learned = redrawn(model, 3, 0)
    network = learned.network
    with torch.no_grad():
        condition = network.condition(bag(learned.encoder.encode(cold)))
        decoded = [
            [network.decode(z[None], condition[[item]])[0].numpy() for z in network.noise]
            for item in range(len(condition))
        ]
    mean = np.mean(decoded, axis=1)
    queries = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(learned.between(cold), learned.keys @ queries.T, atol=1e-5)
    single = np.mean([redrawn(model, 1, seed).between(cold) for seed in range(3)], axis=0)
    assert not np.allclose(single, learned.between(cold), atol=1e-3)


def test_scores_depend_neither_on_the_call_nor_on_the_other_items(free):
    model, train = free
    cold = train.features.take(train.cold_items)
    learned = LearnedSimilarity.from_arrays(ConditionalAutoencoder, model.config, model.state())
    whole = learned.between(cold)
    torch.manual_seed(123)
    np.testing.assert_array_equal(learned.between(cold), whole)
    one_by_one = [learned.between(cold.take(np.array([item]))) for item in range(cold.n_items)]
    np.testing.assert_allclose(np.concatenate(one_by_one, axis=1), whole, atol=1e-5)
    np.testing.assert_array_equal(model.confidence(all_items(model)), 1)


def test_draws_come_from_the_seed_of_the_training():
    def noise(seed):
        return ConditionalAutoencoder.of(GERecConfig(seed=seed, draws=500), 3, 4).noise

    torch.testing.assert_close(noise(1), noise(1), rtol=0, atol=0)
    assert not torch.equal(noise(1), noise(2))
    assert noise(1).shape == (500, 16)
    assert abs(float(noise(1).mean())) < 0.06
    assert abs(float(noise(1).std()) - 1) < 0.06


@pytest.mark.parametrize(
    ("field", "value"),
    [("latent_dim", 0), ("hidden_dim", 0), ("draws", 0), ("kl_weight", -1.0), ("kl_warmup", -1.0)],
)
def test_a_value_out_of_range_is_refused_by_name(field, value):
    with pytest.raises(ValidationError, match=field):
        GERecConfig(**{field: value})
