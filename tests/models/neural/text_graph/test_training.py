"""The training of the text + graph recommender: what is hidden from whom, and its loss."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from coldray.models.neural.text_graph.config import TextGraphConfig
from coldray.models.neural.text_graph.model import TextGraph
from coldray.models.neural.text_graph.network import Outputs
from coldray.training.row_random import BatchRows, SharedDropout, batch_rows
from contracts.problems import random_training_set
from models.learned import Shard, one_thread, step_at  # noqa: F401

CONFIG = {"heads": 2, "head_dim": 4, "negatives": 5, "targets": 3, "hidden_share": 0.0}


def task_of(train, **changes):
    model = TextGraph(TextGraphConfig(**{**CONFIG, **changes}))
    return model.task(train, model.inputs(train), None)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def histories_in(batch):
    ends = [*batch["history_offsets"].tolist()[1:], len(batch["history"])]
    return [set(batch["history"][a:b].tolist()) for a, b in zip(batch["history_offsets"].tolist(), ends, strict=True)]


def targets_in(batch):
    width = batch["is_target"].shape[1]
    rows = zip(batch["items"][:, :width], batch["is_target"], strict=True)
    return [items[mask].tolist() for items, mask in rows]


@pytest.fixture(scope="module")
def train():
    return random_training_set(9, n_users=40, n_warm=40)


def clicks_of(train, user):
    row = train.interactions
    return set(row.indices[row.indptr[user] : row.indptr[user + 1]].tolist())


# ---- batches


def test_a_target_is_never_in_its_own_history_and_nothing_is_lost(train):
    task = task_of(train)
    batch = task.batch(torch.arange(task.n_examples), generator())
    for user, history, targets in zip(batch["users"], histories_in(batch), targets_in(batch), strict=True):
        clicked = clicks_of(train, int(user))
        assert len(targets) == len(set(targets)) == min(3, -(-len(clicked) // 4))
        assert not history & set(targets)
        assert history | set(targets) == clicked


def test_each_click_is_predicted_once_an_epoch_on_average(train):
    task = task_of(train)
    counts = np.zeros(train.interactions.shape)
    rounds = 300
    for seed in range(rounds):
        batch = task.batch(torch.arange(task.n_examples), generator(seed))
        for user, targets in zip(batch["users"], targets_in(batch), strict=True):
            counts[int(user), targets] += 1
    rates = counts / rounds
    clicked = train.interactions.toarray() > 0
    assert not rates[~clicked].any()
    sizes = np.maximum(clicked.sum(axis=1), 1)
    drawn = np.minimum(3, -(-sizes // 4))
    expected = np.where(clicked, (-(-sizes // drawn) * drawn / sizes)[:, None], 0)
    np.testing.assert_allclose(rates, expected, atol=0.2)


def test_a_share_of_the_history_is_masked(train):
    whole = sum(map(len, histories_in(task_of(train).batch(torch.arange(40), generator()))))
    task = task_of(train, hidden_share=0.1)
    left = np.mean([len(task.batch(torch.arange(40), generator(seed))["history"]) for seed in range(200)])
    assert left / whole == pytest.approx(0.9, abs=0.01)


def test_negatives_are_warm_items_that_the_user_has_not_clicked(train):
    task = task_of(train)
    batch = task.batch(torch.arange(task.n_examples), generator())
    for user, items in zip(batch["users"], batch["items"][:, batch["is_target"].shape[1] :], strict=True):
        assert len(items) == 5
        assert not clicks_of(train, int(user)) & set(items.tolist())
        assert set(items.tolist()) <= set(train.warm_items.tolist())


def test_a_sampled_batch_is_the_whole_one_with_other_numbers(train):
    whole, sampled = task_of(train), task_of(train, neighbours=1000)
    examples = torch.arange(12)
    expected, found = whole.batch(examples, generator(3)), sampled.batch(examples, generator(3))
    for name in ("items", "history"):
        assert torch.equal(found["nodes"][found[name]], expected[name])
    torch.manual_seed(0)
    network = whole.build().eval()
    np.testing.assert_allclose(network(found).scores.detach(), network(expected).scores.detach(), atol=1e-5)


def test_a_worker_without_an_example_has_an_empty_batch(train):
    for task in (task_of(train), task_of(train, neighbours=2)):
        batch = task.batch(torch.arange(0), generator())
        loss = task.loss(task.build(), batch, step_at())
        assert loss.per_example.shape == (0,)


# ---- the loss


def fixed(outputs):
    """Return a module that gives these outputs whatever it is asked."""
    return lambda _: outputs


def example_batch():
    return {
        "items": torch.zeros(4, 3 + 5, dtype=torch.int64),
        "is_target": torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=torch.bool),
        "history": torch.zeros(6, dtype=torch.int64),
        "history_offsets": torch.tensor([0, 2, 4, 4]),
        "users": torch.tensor([7, 3, 2, 7]),
    }


def example_outputs(seed=0):
    torch.manual_seed(seed)
    return Outputs(torch.randn(4, 8), torch.randn(4, 6), torch.randn(4, 6))


def test_the_loss_is_bpr_and_infonce_pair_by_pair(train):
    task = task_of(train, contrast_weight=0.3, temperature=0.5)
    batch, outputs = example_batch(), example_outputs()
    loss = task.loss(fixed(outputs), batch, step_at())
    text, graph = functional.normalize(outputs.text, dim=1), functional.normalize(outputs.graph, dim=1)
    users, known = batch["users"].tolist(), [True, True, False, True]  # the third history is empty
    for row in range(4):
        ranking = 0.0
        for t in range(3):
            if batch["is_target"][row, t]:
                gaps = outputs.scores[row, t] - outputs.scores[row, 3:]
                ranking += -functional.logsigmoid(gaps).mean().item()
        contrast = 0.0
        for left, right in ((text, graph), (graph, text)):
            others = [k for k in range(4) if k != row and users[k] != users[row] and known[k]]
            logits = torch.stack([left[row] @ right[k] / 0.5 for k in (row, *others)])
            contrast += -logits.log_softmax(dim=0)[0].item() / 2
        expected = ranking / task.mean_predicted + 0.3 * contrast * known[row]
        assert loss.per_example[row].item() == pytest.approx(expected, abs=1e-5)
    bpr_alone = task_of(train, contrast_weight=0.0).loss(fixed(outputs), batch, step_at())
    assert set(bpr_alone.parts) == {"bpr"}
    np.testing.assert_allclose(bpr_alone.per_example, loss.parts["bpr"])


def test_the_loss_of_two_workers_is_that_of_one(train):
    task = task_of(train)
    batch, outputs = example_batch(), example_outputs()
    whole = task.loss(fixed(outputs), batch, step_at()).per_example
    text, graph = functional.normalize(outputs.text, dim=1), functional.normalize(outputs.graph, dim=1)
    known = torch.tensor([7, 3, -1, 7])
    shards = ([text[:1], text[1:]], [graph[:1], graph[1:]], [known[:1], known[1:]])
    for rank, (rows, clicks) in enumerate(((slice(0, 1), slice(0, 2)), (slice(1, 4), slice(2, 6)))):
        mine = {name: value[rows] for name, value in batch.items() if name != "history"}
        mine |= {"history": batch["history"][clicks], "history_offsets": mine["history_offsets"] - clicks.start}
        part = Outputs(outputs.scores[rows], outputs.text[rows], outputs.graph[rows])
        found = task.loss(fixed(part), mine, step_at(workers=Shard(rank, *shards))).per_example
        np.testing.assert_allclose(found, whole[rows], atol=1e-6)


def test_hard_negatives_are_those_of_the_highest_scores(train):
    task = task_of(train, negatives_kind="hard", contrast_weight=0.0)
    batch = task.batch(torch.arange(6), generator())
    scores = torch.randn(6, batch["items"].shape[1])
    outputs = Outputs(scores, torch.randn(6, 4), torch.randn(6, 4))
    early = task.loss(fixed(outputs), batch, step_at(0.0)).per_example
    late = task.loss(fixed(outputs), batch, step_at(50.0)).per_example
    assert late.sum() > early.sum()


# ---- what all workers draw alike


def test_shared_dropout_is_the_same_for_all_workers_and_others_in_the_next_step():
    dropout = SharedDropout(0.4).train()
    table = torch.ones(50, 20)
    found = {}
    for first, seed in ((0, 5), (3, 5), (0, 6)):
        with batch_rows(dropout, BatchRows(first, 60, seed)):
            found[first, seed] = (dropout(table), dropout(table))
    for mine, other in zip(found[0, 5], found[3, 5], strict=True):
        assert torch.equal(mine, other)
    assert not torch.equal(*found[0, 5])
    assert not torch.equal(found[0, 5][0], found[0, 6][0])
    assert found[0, 5][0].unique().tolist() == pytest.approx([0, 1 / 0.6])
    assert found[0, 5][0].mean().item() == pytest.approx(1, abs=0.1)
    assert torch.equal(dropout.eval()(table), table)
