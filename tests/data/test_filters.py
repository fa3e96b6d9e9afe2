"""Filters against slow references, and the published HetRec protocol."""

import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from coldray.core.errors import ConfigError, DataFormatError, EmptyDatasetError
from coldray.data.dataset import Dataset, LabelAttribute, TextAttribute, binary_matrix
from coldray.data.filters import FilterConfig, apply_filters, k_core
from coldray.data.sources.hetrec import read_hetrec
from coldray.data.sources.sample import sample_dataset

PUBLISHED = FilterConfig(
    min_rating_exclusive=3.0,
    min_user_interactions=5,
    min_item_interactions=5,
    attribute_min_items=5,
    attribute_max_share=0.3,
)


def rated(rows) -> Dataset:
    """Build a dataset from (user, item, rating)."""
    users, items, ratings = (np.array(column) for column in zip(*rows, strict=True))
    shape = (users.max() + 1, items.max() + 1)
    clicks = binary_matrix(users, items, shape)
    values = clicks.copy()
    values.data[:] = ratings[np.lexsort((items, users))]
    times = clicks.astype(np.int64)
    times.data[:] = 1000 * users[np.lexsort((items, users))]
    return Dataset("rated", np.arange(shape[0]), np.arange(shape[1]), clicks, {}, ratings=values, timestamps=times)


def slow_k_core(pairs, least_user, least_item):
    """Drop one user or item at a time; the order does not matter, as the core is unique."""
    users, items = set(range(6)), set(range(6))
    while True:
        alive = [(u, i) for u, i in pairs if u in users and i in items]
        weak_users = [u for u in users if sum(a == u for a, _ in alive) < least_user]
        weak_items = [i for i in items if sum(b == i for _, b in alive) < least_item]
        if weak_users:
            users.remove(weak_users[-1])
        elif weak_items:
            items.remove(weak_items[0])
        else:
            return users, items


@given(
    st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1),
    st.integers(0, 4),
    st.integers(0, 4),
)
def test_the_k_core_is_that_of_a_slow_reference(pairs, least_user, least_item):
    matrix = binary_matrix(*np.array(sorted(pairs)).T, (6, 6))
    users, items = k_core(matrix, min_row=least_user, min_column=least_item)
    assert (set(np.flatnonzero(users)), set(np.flatnonzero(items))) == slow_k_core(pairs, least_user, least_item)


def test_dropping_an_item_can_drop_a_user_and_so_on_to_the_end():
    # A chain: each user shares one item with the next, so one weak end unravels all.
    matrix = binary_matrix(np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 2, 2, 3]), (3, 4))
    users, items = k_core(matrix, min_row=2, min_column=2)
    assert not users.any()
    assert not items.any()


def test_the_defaults_keep_everything():
    dataset = sample_dataset(n_users=40, n_items=60)
    filtered = apply_filters(dataset, FilterConfig())
    assert filtered.fingerprint == dataset.fingerprint
    assert filtered.default_attributes == dataset.default_attributes


def test_a_rating_at_the_threshold_is_dropped_and_one_above_is_kept():
    kept = apply_filters(rated([(0, 0, 3.0), (0, 1, 3.5), (1, 1, 5.0)]), FilterConfig(min_rating_exclusive=3.0))
    assert kept.interactions.toarray().tolist() == [[0, 1], [0, 1]]
    assert kept.ratings.toarray().tolist() == [[0, 3.5], [0, 5]]


def test_a_threshold_below_zero_keeps_a_rating_of_zero_and_a_time_of_zero():
    kept = apply_filters(rated([(0, 0, 0.0), (0, 1, -2.0), (1, 1, 1.0)]), FilterConfig(min_rating_exclusive=-1.0))
    assert kept.interactions.nnz == kept.ratings.nnz == kept.timestamps.nnz == 2


def test_users_and_items_that_are_dropped_leave_every_part():
    dataset = rated([(0, 0, 5), (0, 1, 5), (1, 0, 5), (1, 1, 5), (2, 2, 5)])
    dataset = replace(dataset, attributes={"title": TextAttribute(("a", "b", "c"))}, default_attributes=("title",))
    kept = apply_filters(dataset, FilterConfig(min_user_interactions=2, min_item_interactions=2))
    assert kept.user_ids.tolist() == kept.item_ids.tolist() == [0, 1]
    assert kept.interactions.shape == kept.ratings.shape == kept.timestamps.shape == (2, 2)
    assert kept.timestamps.toarray().tolist() == [[0, 0], [1000, 1000]]
    assert kept.attributes["title"].texts == ("a", "b")


def labelled(counts, n_items) -> Dataset:
    """Build a dataset whose label k is in the first counts[k] items."""
    items = np.concatenate([np.arange(count) for count in counts])
    labels = np.repeat(np.arange(len(counts)), counts)
    names = np.array([f"label {k}" for k in range(len(counts))])
    attribute = LabelAttribute(binary_matrix(items, labels, (n_items, len(counts))), names)
    clicks = binary_matrix(np.zeros(n_items, int), np.arange(n_items), (1, n_items))
    return Dataset("labelled", np.arange(1), np.arange(n_items), clicks, {"tag": attribute}, ("tag",))


def test_labels_in_too_few_or_too_many_items_are_dropped_and_the_limits_themselves_kept():
    config = FilterConfig(attribute_min_items=5, attribute_max_share=0.29)
    kept = apply_filters(labelled([4, 5, 29, 30], 100), config).attributes["tag"]
    assert kept.labels.tolist() == ["label 1", "label 2"]
    assert kept.matrix.sum(axis=0).tolist() == [5, 29]


def test_label_limits_count_the_items_that_are_left():
    dataset = labelled([2, 3], 4)
    lonely = replace(dataset, interactions=binary_matrix(np.zeros(2, int), np.array([2, 3]), (1, 4)))
    kept = apply_filters(lonely, FilterConfig(unclicked_items="drop")).attributes["tag"]
    assert kept.labels.tolist() == ["label 1"]


def with_unclicked(dataset, seed):
    """Return the dataset with items beside its own that nobody has clicked, and have labels of their own too."""
    rng = np.random.default_rng(seed)
    of_each = rng.integers(0, 3, dataset.n_items + 1)  # how many before each item, and at the end
    before = [-number for number in range(int(of_each[0]), 0, -1)]
    after = [10 * item + more for item, count in enumerate(of_each[1:]) for more in range(count + 1)]
    ids = np.array([*before, *after], np.int64)
    places = np.searchsorted(ids, 10 * np.arange(dataset.n_items))
    n_labels = len(dataset.attributes["tag"].labels) + 1
    rows, columns = dataset.attributes["tag"].matrix.nonzero()
    others = np.setdiff1d(np.arange(len(ids)), places)
    rows = np.concatenate([places[rows], others])
    columns = np.concatenate([columns, rng.integers(0, n_labels, len(others))])
    tags = LabelAttribute(
        binary_matrix(rows, columns, (len(ids), n_labels)), np.array([*dataset.attributes["tag"].labels, "of none"])
    )
    users, items = dataset.interactions.nonzero()
    clicks = binary_matrix(users, places[items], (dataset.n_users, len(ids)))
    ratings = sp.csr_array((dataset.ratings.data, clicks.indices, clicks.indptr), shape=clicks.shape)
    return replace(
        dataset, item_ids=ids, interactions=clicks, ratings=ratings, timestamps=None, attributes={"tag": tags}
    )


@st.composite
def with_and_without_unclicked(draw, *, emptied=False):
    """Return a dataset, it with items beside its own that nobody has clicked, filters, and what they make of the first.

    The last is None if they leave nothing of it, which `emptied` sees to: nobody has so many interactions.
    """
    cells = st.tuples(st.integers(0, 7), st.integers(0, 2 if emptied else 7))
    pairs = draw(st.dictionaries(cells, st.integers(1, 5), min_size=1))
    if not emptied and draw(st.booleans()):  # so much that filters leave something
        pairs |= {(user, item): 5 for user in range(4) for item in range(4)}
    seed = draw(st.integers(0, 99))
    clicked = rated([(*pair, rating) for pair, rating in pairs.items()]).of_clicked_items()
    rng = np.random.default_rng(seed)
    tags = LabelAttribute(
        binary_matrix(np.arange(clicked.n_items), rng.integers(0, 3, clicked.n_items), (clicked.n_items, 3)),
        np.array(["a", "b", "c"]),
    )
    own = replace(clicked, item_ids=10 * np.arange(clicked.n_items), timestamps=None, attributes={"tag": tags})
    whole = with_unclicked(own, seed)
    config = draw(
        st.builds(
            FilterConfig,
            min_rating_exclusive=st.sampled_from([None, 1.0, 2.0]),
            min_user_interactions=st.just(4) if emptied else st.integers(0, 3),
            min_item_interactions=st.integers(0, 3),
            attribute_min_items=st.integers(1, 3),
            attribute_max_share=st.sampled_from([0.3, 0.5, 1.0]),
        )
    )
    try:
        alone = apply_filters(own, config)
    except EmptyDatasetError:
        alone = None
    return own, whole, config, alone


@given(with_and_without_unclicked(emptied=True))
def test_filters_that_leave_no_click_are_refused_whatever_items_nobody_clicked(drawn):
    _, whole, config, alone = drawn
    assert alone is None
    with pytest.raises(EmptyDatasetError):
        apply_filters(whole, config)


@given(with_and_without_unclicked())
def test_items_that_nobody_clicked_survive_and_change_nothing_of_the_others(drawn):
    own, whole, config, alone = drawn
    assume(alone is not None)
    kept = apply_filters(whole, config)
    unclicked = set(whole.item_ids.tolist()) - set(own.item_ids.tolist())
    assert set(kept.item_ids.tolist()) == set(alone.item_ids.tolist()) | unclicked
    entry = kept.provenance["filters"][0]
    assert entry["before"]["items_without_clicks"] == len(unclicked)
    assert entry["after"]["items"] == alone.n_items + len(unclicked)
    places = np.searchsorted(kept.item_ids, alone.item_ids)
    limited = kept.take_items(places.astype(np.int32)).without_unused_labels()
    bare = {"attributes": {}, "default_attributes": ()}
    assert replace(limited, **bare).fingerprint == replace(alone, **bare).fingerprint
    if "tag" in kept.attributes:
        found, labels = limited.attributes["tag"], alone.attributes.get("tag")
        assert found.labels.tolist() == ([] if labels is None else labels.labels.tolist())
        assert labels is None or (found.matrix != labels.matrix).nnz == 0
    else:
        assert "tag" not in alone.attributes
    dropped = apply_filters(whole, config.model_copy(update={"unclicked_items": "drop"}))
    assert dropped.item_ids.tolist() == alone.item_ids.tolist()


def test_an_attribute_without_any_label_left_is_removed_from_the_defaults_too():
    kept = apply_filters(labelled([2, 3], 9), FilterConfig(attribute_min_items=4))
    assert dict(kept.attributes) == {}
    assert kept.default_attributes == ()


def test_provenance_records_each_filter_run_with_counts_before_and_after():
    dataset = replace(labelled([2, 3], 9), provenance={"file": "x"})
    once = apply_filters(dataset, FilterConfig(attribute_min_items=3))
    twice = apply_filters(once, FilterConfig())
    entry = twice.provenance["filters"][0]
    assert twice.provenance["file"] == "x"
    assert len(twice.provenance["filters"]) == 2
    assert entry["config"]["attribute_min_items"] == 3
    assert entry["before"] == {
        "users": 1, "items": 9, "items_without_clicks": 0, "interactions": 9, "labels": {"tag": 2}
    }  # fmt: skip
    assert entry["after"]["labels"] == {"tag": 1}
    assert json.loads(json.dumps(twice.provenance)) == twice.provenance
    assert "filters" not in dataset.provenance


def test_a_filter_that_leaves_nothing_is_named_with_its_value():
    dataset = rated([(0, 0, 3.0), (1, 1, 4.0)])
    with pytest.raises(EmptyDatasetError, match=r"min_rating_exclusive=4\.5 .* highest rating is 4"):
        apply_filters(dataset, FilterConfig(min_rating_exclusive=4.5))
    with pytest.raises(EmptyDatasetError, match="min_user_interactions=7"):
        apply_filters(dataset, FilterConfig(min_user_interactions=7))
    with pytest.raises(EmptyDatasetError, match="min_item_interactions=8"):
        apply_filters(dataset, FilterConfig(min_item_interactions=8))


def test_a_rating_threshold_without_ratings_is_a_config_error():
    with pytest.raises(ConfigError, match=r"no ratings, so min_rating_exclusive=3\.0"):
        apply_filters(sample_dataset(n_users=5, n_items=30), PUBLISHED)


def test_ratings_on_other_pairs_than_the_interactions_are_refused():
    dataset = rated([(0, 0, 3.0), (1, 1, 4.0)])
    moved = replace(dataset, ratings=binary_matrix(np.array([0, 1]), np.array([1, 0]), (2, 2)))
    with pytest.raises(DataFormatError, match="not on the same pairs"):
        apply_filters(moved, FilterConfig(min_rating_exclusive=0.0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"attribute_max_share": 0},
        {"attribute_max_share": 1.1},
        {"min_user_interactions": -1},
        {"min_rating": 3},
        {"min_rating_exclusive": float("nan")},
    ],
)
def test_values_out_of_range_and_unknown_fields_are_refused(wrong):
    with pytest.raises(ValidationError):
        FilterConfig(**wrong)


def test_the_published_protocol_on_the_sampled_ratings(real_data):
    dataset = read_hetrec(real_data("hetrec2011-movielens-2k-v2"))
    whole = apply_filters(dataset, PUBLISHED)
    assert whole.n_unclicked_items == dataset.n_unclicked_items == 10_197 - 9029
    kept = whole.of_clicked_items()
    assert np.diff(kept.interactions.indptr).min() >= 5
    assert np.bincount(kept.interactions.indices, minlength=kept.n_items).min() >= 5
    assert kept.ratings.data.min() > 3.0
    for attribute in kept.attributes.values():
        if isinstance(attribute, LabelAttribute):
            counts = attribute.matrix.sum(axis=0)
            assert counts.min() >= 5
            assert counts.max() <= 0.3 * kept.n_items
    assert (kept.n_users, kept.n_items, kept.interactions.nnz) == (2018, 4237, 151223)
