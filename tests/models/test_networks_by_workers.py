"""One step of every network by one worker, and by several: the same loss of each example, and the same gradient."""

import copy
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coldray.models.registry import NETWORKS, model_type
from coldray.training.batches import share
from coldray.training.row_random import BatchRows, batch_rows, row_uniforms
from coldray.training.task import Step
from contracts.problems import as_read, random_training_set, with_moments, with_users

CONFIGS = {
    "two_tower": {"history_dropout": 0.3, "dropout": 0.3, "id_dropout": 0.3},
    "two_tower_users": {"history_dropout": 0.3},
    "text_graph": {"hidden_share": 0.3},
    "session_gru": {"dropout": 0.4},
    "sasrec": {"id_dropout": 0.3},
    "vae": {"n_layers": 1},
    "lightgcn": {"candidates": 9},
}
"""Of each network, what draws by chance that is off by default."""
VARIANTS = [
    *((name, {}) for name in NETWORKS),
    ("text_graph", {"neighbours": 2}),
    ("text_graph", {"rating_embedding": True, "time_buckets": 3}),
    ("session_gru", {"negatives": 4}),
    ("sasrec", {"n_negatives": 9}),
    ("sasrec", {"objective": "masked", "loss": "gbce", "n_negatives": 9}),
    ("lightgcn", {"kind": "gcn"}),
    ("lightgcn", {"loss": "bpr"}),
    ("lightgcn", {"loss": "bpr", "negatives_kind": "hard"}),
    ("text_graph", {"negatives_kind": "hard", "negatives": 3}),
    ("two_tower", {"learn_temperature": True}),
    ("two_tower", {"n_layers": 2}),
    ("fm", {"loss": "pairwise"}),
    ("dcn", {"cross_rank": 3}),
]


class Group:
    """Workers in threads that wait for each other when they gather."""

    def __init__(self, size):
        self.size, self.parts = size, [None] * size
        self.barrier = threading.Barrier(size, timeout=30)

    def member(self, rank):
        group = self

        class Member:
            size = group.size

            def __init__(self):
                self.rank = rank

            def gather(self, rows):
                group.parts[rank] = rows
                group.barrier.wait()
                parts = list(group.parts)
                group.barrier.wait()
                return torch.cat(parts), sum(map(len, parts[:rank]))

        return Member()


def step_of(task, module, examples, n_workers, seed, dtype=torch.float32):
    """Return the losses of a step in the order of the examples, and the gradient of their sum."""
    group, found, failures = Group(n_workers), [None] * n_workers, []
    copies = [copy.deepcopy(module).train() for _ in range(n_workers)]

    def work(rank):
        mine = share(len(examples), rank, n_workers)
        batch = task.batch(examples[mine], torch.Generator().manual_seed(seed))
        rows = batch_rows(copies[rank], BatchRows(mine.start, len(examples), seed))
        with rows, torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = task.loss(copies[rank], batch, Step(3, 3.5, group.member(rank), mine.start))
        found[rank] = loss.per_example

    def guarded(rank):
        try:
            work(rank)
        except Exception as error:
            failures.append(error)
            group.barrier.abort()

    threads = [threading.Thread(target=guarded, args=(rank,)) for rank in range(n_workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    torch.cat(found).sum().backward()  # through what was gathered, as between processes
    gradients = {}
    for one in copies:
        for name, weight in one.named_parameters():
            if weight.grad is not None:
                gradients[name] = gradients.get(name, 0) + weight.grad
    return torch.cat(found).detach(), gradients


def trained_on(model):
    """Return clicks as a model reads them, with attributes of users and moments if it reads these."""
    train = as_read(random_training_set(5, n_users=34), model.reads)
    train = with_users(train) if model.reads_askers() else train
    if not model.reads_moments:
        return train
    train = with_moments(train)
    return replace(train, moments=replace(train.moments, of_items=("item_popularity", "item_age")))


@pytest.mark.parametrize(
    ("name", "changes"), VARIANTS, ids=lambda given: given if isinstance(given, str) else str(given)
)
@pytest.mark.parametrize("n_workers", [2, 3])
def test_workers_compute_what_one_would(name, changes, n_workers):
    kind = model_type(name)
    known = kind.config_type.model_fields
    config = {field: value for field, value in CONFIGS.get(name, {}).items() if field in known}
    model = kind(kind.config_type(**{**config, **changes}))
    train = trained_on(model)
    task = model.task(train, model.inputs(train), None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = task.build()
    examples = torch.from_numpy(np.random.default_rng(0).permutation(task.n_examples)[:21])
    alone, together = (step_of(task, module, examples, n, seed=9) for n in (1, n_workers))
    assert torch.allclose(alone[0], together[0], atol=1e-4, rtol=1e-4)
    assert alone[1].keys() == together[1].keys()
    scale = max(float(gradient.abs().max()) for gradient in alone[1].values())
    for weight, gradient in alone[1].items():
        assert torch.allclose(gradient, together[1][weight], atol=1e-4 * scale), weight
    other = step_of(task, module, examples, 1, seed=10)[0]
    assert not torch.allclose(alone[0], other, atol=1e-4), "another step draws anew"


@pytest.mark.parametrize(
    ("name", "changes"), VARIANTS, ids=lambda given: given if isinstance(given, str) else str(given)
)
def test_a_step_in_half_precision_is_nearly_that_in_single(name, changes):
    """As on a GPU; a network whose parts do not go together in mixed types would raise."""
    kind = model_type(name)
    model = kind(kind.config_type(**changes))
    train = trained_on(model)
    task = model.task(train, model.inputs(train), None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = task.build()
    examples = torch.arange(min(21, task.n_examples))
    single, _ = step_of(task, module, examples, 1, seed=9)
    half, gradients = step_of(task, module, examples, 1, seed=9, dtype=torch.bfloat16)
    assert torch.allclose(half.float(), single, atol=0.05, rtol=0.05)
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())


@given(st.integers(0, 2**40), st.integers(1, 50), st.integers(0, 2**60))
def test_uniforms_of_a_row_do_not_depend_on_others(seed, count, first):
    rows = torch.arange(first, first + count)
    places = torch.arange(4)
    whole = row_uniforms(torch.Generator().manual_seed(seed), rows[:, None], places)
    half = row_uniforms(torch.Generator().manual_seed(seed), rows[count // 2 :, None], places)
    assert whole.shape == (count, 4)
    assert ((whole >= 0) & (whole < 1)).all()
    assert (whole[count // 2 :] == half).all()


def test_uniforms_are_uniform_and_not_correlated():
    generator = torch.Generator().manual_seed(1)
    first = row_uniforms(generator, torch.arange(3000)[:, None], torch.arange(40))
    second = row_uniforms(generator, torch.arange(3000)[:, None], torch.arange(40))
    counts = torch.histc(first, bins=20, min=0, max=1).numpy()
    expected = first.numel() / 20
    assert ((counts - expected) ** 2 / expected).sum() < 45, "the chi-square of 19 degrees: 43.8 in one of 1,000"
    for one, other in ((first[:-1], first[1:]), (first[:, :-1], first[:, 1:]), (first, second)):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.015
