"""The views of the text + graph recommender against references that go item by item, and samples of its graph."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.neural.text_graph import fusion as view_fusion
from coldray.models.neural.text_graph import views as graph_view
from coldray.models.neural.text_graph.fusion import ViewFusion
from coldray.models.neural.text_graph.graph import ITEM, ItemGraph, NeighbourSampler
from coldray.models.neural.text_graph.network import Clicks, _HistoryAttention
from coldray.models.neural.text_graph.texts import new_text_arrays, text_arrays, without_text
from coldray.models.neural.text_graph.views import GraphView, TextView
from contracts.problems import random_features, random_training_set, scalar_feature, vector_feature
from models.learned import one_thread  # noqa: F401

DIM = 8


def labelled(seed, n_items=30):
    """Return clicks on items with labels of two kinds and a year; some items have neither."""
    generator = np.random.default_rng(seed)
    train = random_training_set(seed, n_warm=n_items - 8, n_cold=8)
    hot = {name: generator.random((n_items, width)) < 0.3 for name, width in (("actors", 9), ("genres", 4))}
    features = {name: vector_feature(rows) for name, rows in hot.items()} | {
        "year": train.features.features["year"],
        "votes": scalar_feature(generator.random(n_items)),
    }
    return TrainingSet(train.interactions, FeatureSet(features, n_items), f"labelled {seed}")


def graph_of(train, **options):
    return ItemGraph.of(train, **{"context": ("year", "runtime"), "n_buckets": 4, **options})


def view_of(graph, seed=0):
    torch.manual_seed(seed)
    sizes = [len(graph.bounds[name]) + 2 for name in sorted(graph.bounds)]
    view = GraphView(graph.hetero(), sizes, 2, DIM, 0.5).eval()
    with torch.no_grad():
        for parameter in view.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return view


# ---- the graph


def test_the_graph_is_what_the_attributes_say():
    train = labelled(4)
    graph = graph_of(train)
    data = graph.hetero()
    assert isinstance(data, HeteroData)
    assert data.validate()
    assert set(data.node_types) == {ITEM, "label:actors", "label:genres"}
    for name in ("actors", "genres"):
        hot = train.features.features[name].matrix.toarray() > 0
        nodes = np.flatnonzero(hot[train.warm_items].sum(axis=0) >= 2)
        down = {(int(nodes[a]), int(i)) for a, i in data[f"label:{name}", "describes", ITEM].edge_index.T}
        up = {(int(nodes[a]), int(i)) for i, a in data[ITEM, "tells", f"label:{name}"].edge_index.T}
        assert down == {(a, i) for a in nodes for i in np.flatnonzero(hot[:, a])}
        assert up == {(a, i) for a, i in down if i in train.warm_items}


def test_numbers_fall_into_buckets_of_equally_many_warm_items():
    values = np.append(np.arange(20.0), [np.nan, -5.0, 99.0])
    clicks = np.append(np.ones(20), np.zeros(3))[None].astype(np.float32)
    features = FeatureSet({"year": scalar_feature(values), "votes": scalar_feature(values)}, 23)
    from scipy.sparse import csr_array

    graph = graph_of(TrainingSet(csr_array(clicks), features, "years"))
    assert set(graph.buckets) == {"year"}
    np.testing.assert_array_equal(np.bincount(graph.buckets["year"][:20]), [0, 5, 5, 5, 5])
    np.testing.assert_array_equal(graph.buckets["year"][20:], [0, 1, 4])
    assert set(graph_of(TrainingSet(csr_array(clicks), features, "y"), context=("votes",)).buckets) == {"votes"}


def test_a_number_at_the_bound_of_two_buckets_is_in_the_upper_one():
    train = labelled(4)
    graph = graph_of(train)
    bounds = graph.bounds["year"]
    assert len(bounds) == 3
    kinds = train.features.features
    items = train.features.take(np.arange(3)).features | {"year": scalar_feature(bounds)}
    assert set(items) == set(kinds)
    grown = graph.extended(FeatureSet(items, 3))
    np.testing.assert_array_equal(grown.buckets["year"][30:], [2, 3, 4])


def test_the_graph_survives_its_arrays_and_grows():
    train = labelled(5)
    graph = graph_of(train)
    again = ItemGraph.from_arrays(graph.arrays())
    assert again.arrays().keys() == graph.arrays().keys()
    new = train.features.take(np.array([3, 7]))
    grown = again.extended(new)
    assert grown.n_items == 32
    assert not grown.senders[30:].any()
    view, wider = view_of(graph), view_of(grown)
    with torch.no_grad():
        found, before = wider(), view()
    np.testing.assert_allclose(found[:30], before, atol=1e-6)
    np.testing.assert_allclose(found[30:], before[[3, 7]], atol=1e-6)


def attended(convolution, senders, receiver):
    """Return what one node hears from `senders` ``[m, d]`` by graph attention, head by head."""
    if len(senders) == 0:
        return convolution.bias
    heads = []
    for head in range(convolution.heads):
        width = convolution.out_channels
        rows = slice(head * width, (head + 1) * width)
        told = senders @ convolution.lin_src.weight[rows].T
        own = convolution.lin_dst.weight[rows] @ receiver
        logits = told @ convolution.att_src[0, head] + own @ convolution.att_dst[0, head]
        weights = torch.nn.functional.leaky_relu(logits, convolution.negative_slope).softmax(dim=0)
        heads.append(weights @ told)
    return torch.cat(heads) + convolution.bias


def reference_view(view, graph):
    """Return the vectors of all items, node by node, straight from the formula."""
    relu, names = torch.nn.functional.leaky_relu, sorted(graph.edges)
    items = [view.start.clone() for _ in range(graph.n_items)]
    for number, name in zip(view.numbers, sorted(graph.buckets), strict=True):
        items = [item + number.weight[bucket] for item, bucket in zip(items, graph.buckets[name], strict=True)]
    labels = {}
    for k, name in enumerate(names):
        of_item = [graph.edges[name][graph.starts[name][i] : graph.starts[name][i + 1]] for i in range(graph.n_items)]
        rows = []
        for label, vector in enumerate(view.labels[k].weight):
            senders = [items[i] for i in range(graph.n_items) if graph.senders[i] and label in of_item[i]]
            heard = attended(view.up_layer.convs[view.up_types[k]], torch.stack(senders), vector)
            rows.append(view.label_norms[k](vector + relu(heard)))
        labels[name] = (torch.stack(rows), of_item)
    found = []
    for i, item in enumerate(items):
        heard = sum(
            attended(view.down_layer.convs[view.down_types[k]], labels[name][0][labels[name][1][i]], item)
            for k, name in enumerate(names)
        )
        found.append(view.item_norm(item + relu(heard)))
    return torch.stack(found)


def test_the_graph_view_is_attention_to_labels_and_back(monkeypatch):
    graph = graph_of(labelled(6))
    view = view_of(graph)
    with torch.no_grad():
        expected = reference_view(view, graph)
    np.testing.assert_allclose(view().detach(), expected, atol=1e-5)
    for nodes in (1, 7, 1000):
        monkeypatch.setattr(graph_view, "_NODES_PER_BLOCK", nodes)
        with torch.no_grad():
            np.testing.assert_allclose(view(), expected, atol=1e-5)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), asked=st.sets(st.integers(0, 29), min_size=1))
def test_a_part_with_all_neighbours_gives_what_the_whole_graph_gives(seed, asked):
    graph = graph_of(labelled(seed % 7))
    view = view_of(graph)
    items = torch.tensor(sorted(asked))
    part = NeighbourSampler(graph, 1000).part(items, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        np.testing.assert_allclose(view(part)[: len(items)], view()[items], atol=1e-5)


def test_a_part_holds_no_more_neighbours_than_asked_for_and_all_of_them_true():
    graph = graph_of(labelled(8, n_items=60))
    data, items = graph.hetero(), torch.arange(0, 60, 3)
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(40):
        part = NeighbourSampler(graph, 2).part(items, generator)
        assert torch.equal(part["nodes"][: len(items)], items)
        for k, name in enumerate(sorted(graph.edges)):
            up, down = part[f"up.{k}"], part[f"down.{k}"]
            assert int(torch.bincount(up[1]).max()) <= 2
            assert int(torch.bincount(down[1]).max()) <= 2
            edges = set(map(tuple, data[f"label:{name}", "describes", ITEM].edge_index.T.tolist()))
            found = {(int(part[f"labels.{k}"][a]), int(items[i])) for a, i in down.T}
            assert found <= edges
            senders = part["nodes"][up[0]]
            assert {(int(part[f"labels.{k}"][a]), int(i)) for i, a in zip(senders, up[1], strict=True)} <= edges
            assert graph.senders[senders.numpy()].all()
            seen |= {(name, *edge) for edge in found}
    of_asked = {
        (name, a, i)
        for name in graph.edges
        for a, i in data[f"label:{name}", "describes", ITEM].edge_index.T.tolist()
        if i % 3 == 0
    }
    assert seen == of_asked  # in time, every neighbour is drawn


def test_items_without_any_label_have_a_vector_of_their_context():
    graph = graph_of(
        TrainingSet(random_training_set(3).interactions, random_features(np.random.default_rng(1), 30), "x")
    )
    view = view_of(ItemGraph(graph.buckets, graph.bounds, {}, {}, {}, graph.senders))
    with torch.no_grad():
        found = view()
    for bucket in np.unique(graph.buckets["year"]):
        rows = found[graph.buckets["year"] == bucket]
        assert torch.equal(rows, rows[:1].expand_as(rows))
    assert len(torch.unique(found, dim=0)) == len(np.unique(graph.buckets["year"]))


# ---- the texts


def text_problem(seed=0, n_items=12, n_others=3, dim=6):
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((1 + n_others, n_items, dim)).astype(np.float32)
    blank = generator.random((1 + n_others, n_items)) < 0.4
    blank[:, 0], blank[:, 1], blank[:, 2] = True, [False, *[True] * n_others], [True, *[False] * n_others]
    rows[blank] = 0
    names = ("overview", *(f"review_{k}" for k in range(n_others)))
    features = FeatureSet({name: vector_feature(part) for name, part in zip(names, rows, strict=True)}, n_items)
    clicks = random_training_set(seed, n_warm=n_items, n_cold=0).interactions
    return TrainingSet(clicks, features, "texts"), rows, ~blank


def test_the_text_view_is_attention_and_a_gate():
    train, rows, there = text_problem()
    arrays = text_arrays(train, overview="overview", most=10, text_dim=None)
    torch.manual_seed(1)
    view = TextView(arrays, DIM, 0.3).eval()
    with torch.no_grad():
        view.missing.normal_()
        found = view()
    for item in range(12):
        overview = torch.from_numpy(rows[0, item])
        others = torch.from_numpy(rows[1:, item][there[1:, item]])
        pooled = view.query(others)[:, 0].softmax(dim=0) @ others if len(others) else torch.zeros(6)
        gate = torch.sigmoid(view.gate(torch.cat([overview, pooled])))
        mixed = gate * overview + (1 - gate) * pooled
        if not len(others):
            mixed = overview
        if not there[0, item]:
            mixed = pooled if len(others) else view.missing
        np.testing.assert_allclose(found[item], view.out(view.norm(mixed)).detach(), atol=1e-5)
    some = torch.tensor([5, 0, 2])
    np.testing.assert_allclose(view(some).detach(), found[some], atol=1e-6)
    assert without_text(arrays) == (int((~there[0]).sum()), int((~there).all(axis=0).sum()))


@pytest.mark.parametrize("embedded", [True, False])
def test_new_items_are_read_like_known_ones(embedded):
    train = text_problem()[0] if embedded else random_training_set(2)
    arrays = text_arrays(train, overview="overview", most=10, text_dim=None)
    grown = new_text_arrays(arrays, train.features.take(np.array([4, 1])))
    torch.manual_seed(0)
    view = TextView(grown, DIM, 0.3).eval()
    with torch.no_grad():
        found = view()
        np.testing.assert_allclose(found[-2:], found[[4, 1]], atol=1e-6)
        some = torch.tensor([len(found) - 1, 3])
        np.testing.assert_allclose(view(some), found[some], atol=1e-6)


# ---- users


@pytest.mark.parametrize(("heads", "n_marks"), [(1, 0), (1, 5), (4, 0), (4, 5)])
def test_a_user_is_the_attention_of_each_head_over_clicks(heads, n_marks):
    torch.manual_seed(2)
    attention = _HistoryAttention(DIM, heads, n_marks)
    items = torch.randn(10, DIM)
    with torch.no_grad():
        attention.empty.normal_()
    histories = [[3, 1, 4], [], [9], [1, 2, 3, 5]]
    marks = [[5, 1, 0], [], [2], [3, 3, 3, 1]] if n_marks else None
    clicks = Clicks(
        torch.tensor([item for history in histories for item in history]),
        torch.tensor([0, 3, 3, 4]),
        (torch.tensor([mark for row in marks for mark in row]),) if marks else (),
    )
    found = attention(items, clicks).detach()
    for user, history in enumerate(histories):
        if not history:
            assert torch.equal(found[user], attention.empty)
            continue
        tokens = items[history]
        if marks:
            tokens = tokens + attention.marks[0](torch.tensor(marks[user]))
        if heads == 1:
            expected = attention.logits(tokens)[:, 0].softmax(dim=0) @ tokens
        else:
            keys, values = attention.keys(tokens), attention.values(tokens)
            width = DIM // heads
            parts = []
            for head in range(heads):
                columns = slice(head * width, (head + 1) * width)
                weights = (keys[:, columns] @ attention.queries[head] / width**0.5).softmax(dim=0)
                parts.append(weights @ values[:, columns])
            expected = attention.out(torch.cat(parts))
        np.testing.assert_allclose(found[user], expected.detach(), atol=1e-5)


def test_a_click_without_a_mark_adds_nothing_and_learns_nothing():
    attention = _HistoryAttention(DIM, 1, 3)
    items = torch.randn(4, DIM)
    clicks = Clicks(torch.tensor([0, 2]), torch.tensor([0]))
    marked = Clicks(clicks.items, clicks.offsets, (torch.tensor([0, 0]),))
    np.testing.assert_allclose(attention(items, marked).detach(), attention(items, clicks).detach(), atol=1e-6)
    attention(items, marked).sum().backward()
    assert not attention.marks[0].weight.grad.any()


# ---- fusion


def test_a_score_is_cross_attention_product_and_network():
    torch.manual_seed(3)
    fusion = ViewFusion(DIM, 2, 0.5).eval()
    text, graph = torch.randn(7, DIM), torch.randn(7, DIM)
    user = fusion.users(torch.randn(1, DIM), torch.randn(1, DIM))
    found = fusion.all_scores(user, fusion.items(text, graph))[0].detach()
    for item in range(7):
        views = torch.stack([text[item], graph[item]])
        keys, values = fusion.key(views), fusion.value(views)
        attended_to = []
        for head in (slice(0, 4), slice(4, 8)):
            weights = (keys[:, head] @ fusion.query(user)[0, head] / 2).softmax(dim=0)
            attended_to.append(weights @ values[:, head])
        gate = torch.sigmoid(fusion.item_gate(torch.cat([text[item], graph[item]])))
        product = user[0] * (gate * text[item] + (1 - gate) * graph[item] + torch.cat(attended_to))
        expected = fusion.hidden(product[None]) + fusion.straight(product[None])
        assert found[item].item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("pairs", [1, 5, 8, 100])
def test_the_size_of_blocks_changes_no_score(monkeypatch, pairs):
    torch.manual_seed(4)
    fusion = ViewFusion(DIM, 2, 0.0).eval()
    items = fusion.items(torch.randn(8, DIM), torch.randn(8, DIM))
    users = torch.randn(5, DIM)
    expected = fusion.score(users[:, None], items).detach()
    largest = []
    score = fusion.score
    monkeypatch.setattr(
        fusion, "score", lambda u, i: largest.append(len(u) * len(i.mixed)) or score(u, i), raising=False
    )
    monkeypatch.setattr(view_fusion, "PAIRS_PER_BLOCK", pairs)
    with torch.no_grad():
        np.testing.assert_allclose(fusion.all_scores(users, items), expected, atol=1e-5)
    assert max(largest) <= max(pairs, 1)
