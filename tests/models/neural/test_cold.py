"""The field's cold-start networks: the contract, each loss against a plain reference, and who learns from what."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import EmptyDatasetError
from coldray.models.base import TrainingSet
from coldray.models.neural.cold.aldi import ALDI, ALDIConfig
from coldray.models.neural.cold.base import ColdStartTask, _FoldIn
from coldray.models.neural.cold.clcrec import CLCRec, CLCRecConfig
from coldray.models.neural.cold.dropoutnet import DropoutNet, DropoutNetConfig
from coldray.models.neural.cold.gar import GAR, GARConfig
from coldray.models.neural.cold.heater import Heater, HeaterConfig
from contracts.problems import genre_groups, random_training_set
from contracts.recommender import ColdItemContract
from models.learned import one_thread, step_at  # noqa: F401

QUICK = {
    "embedding_dim": 8, "hidden_dim": 16, "batch_size": 16, "epochs": 40, "positives": 4, "dropout": 0.1,
    "factor_regularization": 1.0, "validation_share": 0.0, "learning_rate": 0.01,
}  # fmt: skip


class TestDropoutNet(ColdItemContract):
    model = DropoutNet
    config = DropoutNetConfig(**QUICK)


class TestHeater(ColdItemContract):
    model = Heater
    config = HeaterConfig(**QUICK, n_experts=2)


class TestCLCRec(ColdItemContract):
    model = CLCRec
    config = CLCRecConfig(**QUICK)


class TestGAR(ColdItemContract):
    model = GAR
    config = GARConfig(**QUICK, similarity_weight=0.5, click_weight=0.5)


class TestALDI(ColdItemContract):
    model = ALDI
    config = ALDIConfig(**QUICK)


class TestThatStopsEarly(ColdItemContract):
    model = DropoutNet
    config = DropoutNetConfig(**{**QUICK, "validation_share": 0.2, "patience": 10})


KINDS = {kind.name: kind for kind in (DropoutNet, Heater, CLCRec, GAR, ALDI)}


def prepared(name, seed, **changes):
    """Return the training of a model, a network in evaluation mode, and a batch: nothing is left out by chance."""
    kind = KINDS[name]
    model, train = kind(kind.config_type(**{**QUICK, **changes})), random_training_set(seed)
    task = ColdStartTask(model, train, model.inputs(train), None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = task.build().eval()
    return task, network, task.batch(torch.arange(5), torch.Generator().manual_seed(seed))


def vectors_of(network, batch):
    """Return factors of users, where they are placed, and of the listed items factors and what attributes make."""
    listed = batch["listed"]
    parts = (batch["factors"], network.user(batch["factors"]), network.factors[listed], network.content(batch, listed))
    return [part.detach().double().numpy() for part in parts]


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


def placed(layer, *rows):
    """Return what a layer of the network makes of rows."""
    with torch.no_grad():
        return [layer(torch.from_numpy(some).float()).double().numpy() for some in rows]


def reference(name, task, network, batch):
    """Write a loss out, user by user and pair by pair."""
    config, root = task.config, network.dim**0.5
    users, taken, factors, made = vectors_of(network, batch)
    losses, half = [], batch["places"].shape[1] // 2
    for row, places in enumerate(batch["places"].tolist()):
        clicked, others = places[:half], places[half:]
        teacher = {place: users[row] @ factors[place] / root for place in places}
        of_pairs = []
        if name in ("dropoutnet", "heater"):
            if name == "dropoutnet":  # what is made of attributes is a hidden layer there
                whole = torch.from_numpy(made).float() + network.clicked(torch.from_numpy(factors).float())
                (items,) = placed(network.last, whole.detach().numpy())
            else:
                (items,) = placed(network.item, factors)
            for place in places:
                error = (taken[row] @ items[place] / root - teacher[place]) ** 2
                if name == "heater":
                    error += config.similarity_weight * np.mean((made[place] - factors[place]) ** 2)
                of_pairs.append(error)
        if name == "clcrec":
            own = factors  # with which the items' own vectors begin
            for place in clicked:
                logits = [taken[row] @ own[other] / root / config.temperature for other in [place, *others]]
                cosines = [
                    own[place] @ made[other] / np.linalg.norm(own[place]) / np.linalg.norm(made[other])
                    for other in [place, *others]
                ]
                first, second = (
                    np.log(np.exp(some).sum()) - some[0]
                    for some in (np.array(logits), np.array(cosines) / config.temperature)
                )
                of_pairs.append((1 - config.item_weight) * first + config.item_weight * second)
        if name == "gar":
            real, shown = placed(network.item, factors, made)
            for place, other in zip(clicked, others, strict=True):
                of_real, of_made, of_other = (
                    taken[row] @ one / root for one in (real[place], shown[place], real[other])
                )
                alpha, beta = config.similarity_weight, config.click_weight
                of_pairs.append(
                    -(1 - beta) * np.log(sigmoid(of_real - of_made))
                    - beta * np.log(sigmoid(of_real - of_other))
                    - (1 - alpha) * np.log(sigmoid(of_made - of_real))
                    + alpha * np.mean((made[place] - factors[place]) ** 2)
                )
        if name == "aldi":
            counts = np.bincount(task.histories.items.numpy(), minlength=task.histories.n_items)
            for place, other in zip(clicked, others, strict=True):
                mine = [taken[row] @ made[one] / root for one in (place, other)]
                theirs = [teacher[place], teacher[other]]
                share = counts[batch["listed"][place]] / counts[counts > 0].mean()
                trusted = min(np.tanh(config.trust * share), np.tanh(3))
                identities = [
                    items[place] @ items[place] / root - np.mean([items[place] @ items[one] / root for one in others])
                    for items in (made, factors)
                ]
                apart, there = mine[0] - mine[1], theirs[0] - theirs[1]
                of_pairs.append(
                    -np.log(sigmoid(apart))
                    + config.rating_weight * (abs(mine[0] - theirs[0]) + abs(mine[1] - theirs[1]))
                    + trusted * config.ranking_weight * entropy(apart, there)
                    + trusted * config.identity_weight * entropy(*identities)
                )
        losses.append(np.mean(of_pairs))
    return np.array(losses)


def entropy(logit, teacher):
    share = sigmoid(teacher)
    return -share * np.log(sigmoid(logit)) - (1 - share) * np.log(1 - sigmoid(logit))


@settings(max_examples=5)
@given(seed=st.integers(0, 1000))
@pytest.mark.parametrize("name", KINDS)
def test_the_loss_agrees_with_the_reference(name, seed):
    task, network, batch = prepared(name, seed)
    found = task.loss(network, batch, step_at())
    np.testing.assert_allclose(
        found.per_example.detach().numpy(), reference(name, task, network, batch), rtol=2e-4, atol=1e-6
    )
    parts = list(found.parts.values())
    assert len(parts) == (0 if name == "dropoutnet" else len(task.terms))
    torch.testing.assert_close(sum(parts, torch.zeros(5)) if parts else found.per_example, found.per_example)


@pytest.mark.parametrize("name", KINDS)
def test_a_step_takes_clicked_items_first_and_then_others(name):
    train = random_training_set(3)
    task, _, batch = prepared(name, 3)
    clicked = train.interactions.toarray() > 0
    items = batch["listed"][batch["places"]].numpy()
    rows = np.arange(5)[:, None]
    users = task.users[:5].numpy()
    assert clicked[users[rows], items[:, :4]].all()
    assert not clicked[users[rows], items[:, 4:]].any()
    assert np.isin(items, train.warm_items).all()


def test_neither_side_of_gar_learns_from_the_loss_of_the_other():
    _, network, batch = prepared("gar", 1)
    recommender, generator = network.losses(batch["factors"], batch["listed"], batch)
    learns = {}
    for name, loss in (("recommender", recommender), ("generator", generator)):
        network.zero_grad()
        loss.sum().backward(retain_graph=True)
        learns[name] = {
            part for part, value in network.named_parameters() if value.grad is not None and value.grad.abs().sum() > 0
        }
    assert {part.partition(".")[0] for part in learns["recommender"]} == {"user", "item"}
    assert {part.partition(".")[0] for part in learns["generator"]} == {"content"}


@pytest.mark.parametrize(("name", "share"), [("dropoutnet", "factor_dropout"), ("heater", "content_share")])
def test_the_share_told_by_attributes_alone_is_the_one_asked_for(name, share):
    """With the share next to 1 the factors of items enter the loss through its target alone; with 0 they are inputs."""
    reads = {}
    for value in (0.0, 1 - 1e-9):
        _, network, batch = prepared(name, 2, **{share: value, "dropout": 0.0})
        network.train()
        layer = network.clicked if name == "dropoutnet" else None
        first = network.losses(batch["factors"], batch["listed"], batch)[0].detach()
        with torch.no_grad():
            (layer.weight if layer is not None else network.content.second).mul_(3)
        reads[value] = not torch.allclose(first, network.losses(batch["factors"], batch["listed"], batch)[0].detach())
    of_factors = reads if name == "dropoutnet" else {value: not read for value, read in reads.items()}
    assert of_factors == {0.0: True, 1 - 1e-9: False}


def test_aldi_scores_known_items_as_its_teacher_does():
    train, _ = genre_groups()
    model = ALDI(ALDIConfig(**{**QUICK, "epochs": 1})).fit(train)
    inputs, network = model.inputs(train), model.fitted_network
    scores = model.score(train.interactions[:6], train.warm_items)
    users = _FoldIn(inputs["factors"], model.config, float(inputs["scales"][0]))(train.interactions[:6]).numpy()
    items = inputs["factors"][train.warm_items] * inputs["scales"][1]
    np.testing.assert_allclose(scores, users @ items.T / network.dim**0.5, atol=1e-5)


def test_factors_are_scaled_to_a_mean_square_of_one():
    train = random_training_set(4)
    model = GAR(GARConfig(**QUICK))
    inputs = model.inputs(train)
    task = ColdStartTask(model, train, inputs, None)
    items = (inputs["factors"] * inputs["scales"][1])[train.warm_items]
    users = task.factors.numpy()[np.diff(train.interactions.indptr) > 0]
    assert np.square(items).mean() == pytest.approx(1, rel=1e-4)
    assert np.square(users).mean() == pytest.approx(1, rel=1e-4)


def test_where_nobody_has_an_item_left_nothing_can_be_learnt():
    train = random_training_set(4)
    full = train.interactions.copy()
    full.data[:] = 1
    dense = np.zeros(full.shape, np.float32)
    dense[:, train.warm_items] = 1
    everything = TrainingSet(type(full)(dense), train.features, "all clicked")
    with pytest.raises(EmptyDatasetError, match="Every user has clicked all 22 items"):
        DropoutNet(DropoutNetConfig(**QUICK)).fit(everything)
