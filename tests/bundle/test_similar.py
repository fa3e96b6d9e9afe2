"""Items like another are those of a slow computation of cosines, and what an index finds is nearly that."""

import dataclasses
import logging

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from coldray.bundle import similar
from coldray.bundle.fitting import fit_bundle
from coldray.bundle.similar import SimilaritySearch, _Projection
from coldray.data.dataset import Dataset, LabelAttribute
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.models.neighbours.content import ContentKNN, ContentKNNConfig
from coldray.serving.engine.engine import Engine
from contracts.bundles import small_bundle


@pytest.fixture(scope="module")
def bundle():
    return small_bundle()


@pytest.fixture(scope="module")
def engine(bundle):
    known, items = Engine(bundle), bundle.item_ids.tolist()
    extended = bundle.add_items({"copy": known.attributes(items[3]), "bare": {}})
    return Engine(extended, removed=[items[8]])


@pytest.fixture(scope="module")
def search(bundle):
    return SimilaritySearch(bundle)


def alike(search, engine, item, k):
    return search.similar(engine.bundle, item, k, allowed=engine.alive)


def cosine(one, other):
    size = np.linalg.norm(one) * np.linalg.norm(other)
    return 0.0 if size == 0 else float(one @ other / size)


def slowly(engine, item):
    """Return the similarity of an item and each other one that is there."""
    features = [f.matrix.toarray() for f in engine.bundle.features.features.values() if hasattr(f, "matrix")]
    clicks = engine.bundle.interactions.toarray()
    found = {}
    for other in range(engine.n_items):
        if other == item or not engine.alive[other]:
            continue
        # Of items that have all attributes, the whole is the mean over attributes; else over those each has.
        own = [f[item] for f in features if f[item].any()]
        theirs = [f[other] for f in features if f[other].any()]
        both = sum(cosine(f[item], f[other]) for f in features)
        attributes = both / np.sqrt(len(own) * len(theirs)) if own and theirs else 0.0
        if not engine.warm[item]:
            found[other] = attributes
        else:
            together = cosine(clicks[:, item], clicks[:, other])
            found[other] = (attributes + together) / 2 if own else together
    return found


@pytest.mark.parametrize("item", ["item-0004", "copy", "item-0040"])
def test_the_nearest_are_those_of_a_slow_computation(engine, search, item):
    found = alike(search, engine, engine.place(item), 15)
    assert (found.search, found.recall) == ("exact", 1.0)
    places = found.places
    expected = slowly(engine, engine.place(item))
    best = sorted(expected, key=lambda place: (-expected[place], place))[:15]
    assert [place.item for place in places] == [engine.ids[place] for place in best]
    np.testing.assert_allclose([place.score for place in places], [expected[place] for place in best], rtol=1e-4)


def test_a_new_item_is_most_like_the_one_it_is_a_copy_of_and_a_bare_one_like_none(engine, search):
    def like(item, k):
        return alike(search, engine, engine.place(item), k).places

    first = like("copy", 1)[0]
    assert (first.item, first.cold) == ("item-0004", False)
    assert first.score == pytest.approx(1, rel=1e-5)
    assert "copy" in [place.item for place in like("item-0004", 10)]
    assert like("bare", 10) == ()
    assert "item-0009" not in [place.item for place in like("copy", 99)]


# ---- a catalogue of families, which is large enough for an index

FAMILIES, SIZE, LABELS, FANS = 40, 30, 12, 25
"""Items of a family have labels of their own, and users that click little else."""


@pytest.fixture(scope="module")
def families():
    """Return a bundle of items of which those of a family are the most like each other, whose places are mixed."""
    rng = np.random.default_rng(3)
    n_items, n_users = FAMILIES * SIZE, FAMILIES * FANS
    family = rng.permutation(np.arange(n_items) % FAMILIES)
    own = family[:, None] * LABELS + rng.random((n_items, LABELS)).argsort(axis=1)[:, :6]
    labels = np.hstack([own, rng.integers(FAMILIES * LABELS, FAMILIES * LABELS + 80, (n_items, 2))])
    chance = np.where(np.arange(n_users)[:, None] % FAMILIES == family, 0.5, 0.01)
    clicks = (rng.random((n_users, n_items)) < chance) & (np.arange(n_items) % 10 > 0)  # every tenth item is new
    bare = np.arange(n_items) % 10 == 1
    names = np.array([f"label {number:03d}" for number in range(labels.max() + 1)])
    attributes = {"genres": LabelAttribute(sp.csr_array(multi_hot(labels) * ~bare[:, None]), names)}
    dataset = Dataset(
        "families",
        np.arange(n_users),
        np.arange(n_items),
        sp.csr_array(clicks, dtype=np.float32),
        attributes,
        ("genres",),
    )
    return fit_bundle(ContentKNN(ContentKNNConfig()), dataset, FeatureEncoder(FeatureConfig()), {}), family


def multi_hot(labels):
    rows = np.zeros((len(labels), labels.max() + 1), np.float32)
    np.put_along_axis(rows, labels, 1, axis=1)
    return rows


@pytest.fixture(scope="module", params=["flat", "hnsw"])
def indexed(request, families):
    made = SimilaritySearch(families[0], index_from=100, hnsw_from=10_000 if request.param == "flat" else 100)
    made.wait()
    return made, request.param


def test_an_index_finds_what_a_comparison_with_all_finds(families, indexed):
    (bundle, family), (search, kind) = families, indexed
    engine, exact = Engine(bundle), SimilaritySearch(bundle, index_from=10**9)
    shares = []
    for item in range(0, engine.n_items, 23):
        found, expected = (alike(one, engine, item, 10) for one in (search, exact))
        assert (found.search, expected.search) == (kind, "exact")
        assert {family[place.item] for place in found.places} == {family[item]}
        known = {place.item: place.score for place in alike(exact, engine, item, 500).places}
        assert [place.score for place in found.places] == [pytest.approx(known[place.item]) for place in found.places]
        scores = np.array([place.score for place in found.places])
        shares.append(np.mean(scores >= expected.places[-1].score - 1e-6))
    assert found.recall >= 0.95
    assert np.mean(shares) >= 0.95


def test_an_item_without_attributes_is_compared_by_clicks_alone(families, indexed):
    (bundle, family), (search, kind) = families, indexed
    item = int(np.flatnonzero(family == 5)[0] // 10 * 10 + 1)
    clicks = bundle.interactions.toarray()
    found = alike(search, Engine(bundle), item, 10)
    assert found.search == kind
    expected = [cosine(clicks[:, item], clicks[:, place.item]) for place in found.places]
    assert [place.score for place in found.places] == [pytest.approx(score, rel=1e-4) for score in expected]


def test_an_index_is_not_rebuilt_for_new_items_and_leaves_out_removed_ones(families, indexed, monkeypatch):
    (bundle, family), (search, kind) = families, indexed
    monkeypatch.setattr(similar, "_ItemIndex", None)
    first, second = np.flatnonzero(family == 7)[:2].tolist()
    known = Engine(bundle)
    best = alike(search, known, first, 1).places[0].item
    extended = bundle.add_items({5000: known.attributes(first), 5001: known.attributes(second)})
    engine = Engine(extended, removed=[best])
    found = alike(search, engine, first, 10)
    assert found.search == kind
    assert best not in [place.item for place in found.places]
    (twin,) = alike(search, engine, engine.place(5000), 1).places
    assert twin.score == pytest.approx(1, rel=1e-5)
    assert 5000 in [place.item for place in alike(search, engine, engine.place(5001), 30).places]
    changed = Engine(bundle.add_items({5000: known.attributes(second)}))
    assert alike(search, changed, changed.place(5000), 1).places[0].item == second


def test_a_list_that_an_index_cannot_fill_is_found_by_comparing_all(families, indexed):
    (bundle, family), (search, kind) = families, indexed
    item = int(np.flatnonzero(family == 3)[0])
    others = [place for place in np.flatnonzero(family == 3).tolist() if place != item]
    known = Engine(bundle)
    assert alike(search, known, item, 100).search == "exact"  # for so many the index is no help
    last = [place.item for place in alike(search, known, item, 1000).places[-5:]]
    engine = Engine(bundle, removed=[other for other in range(known.n_items) if other not in last])
    found = alike(search, engine, item, 5)
    assert ([place.item for place in found.places], found.search) == (last, "exact")
    assert alike(search, Engine(bundle, removed=others[:-3]), item, 3).search == kind


def test_an_index_that_misses_too_much_or_does_not_fit_is_not_used(families, monkeypatch, caplog):
    bundle, _ = families
    noise = dataclasses.replace(bundle, interactions=scattered(bundle.interactions.shape))
    monkeypatch.setattr(similar, "_POOLS", (20,))
    for made, expected in ((noise, "That is too little"), (bundle, "GiB of memory")):
        search = SimilaritySearch(made, index_from=100)
        with caplog.at_level(logging.WARNING):
            search.wait()
        assert expected in caplog.text
        assert alike(search, Engine(made), 1, 5).search == "exact"
        monkeypatch.setattr(similar, "_index_bytes", lambda space: 2**60)


def scattered(shape):
    """Return clicks without any structure."""
    rng = np.random.default_rng(0)
    return sp.csr_array((rng.random(shape) < 0.02).astype(np.float32))


def test_a_small_catalogue_gets_no_index(families, indexed):
    search = SimilaritySearch(families[0])
    search.wait()
    assert alike(search, Engine(families[0]), 0, 5).search == "exact"
    assert search.measured_recall is None
    assert 0.95 <= indexed[0].measured_recall <= 1


@given(st.integers(0, 2**32 - 1), st.integers(20, 60), st.integers(2, 40))
def test_a_projection_keeps_inner_products_and_all_of_them_where_it_has_room(seed, n_rows, n_columns):
    """Of n rows the leading directions hold all there is if there are as many."""
    rng = np.random.default_rng(seed)
    narrow = sp.csr_array(sp.random_array((n_rows, n_columns), density=0.2, rng=rng, dtype=np.float32))
    for rows, directions in ((narrow, 64), (narrow.T.tocsr() @ narrow, n_columns)):
        vectors = _Projection(sp.csr_array(rows), rng, directions)(sp.csr_array(rows))
        np.testing.assert_allclose(vectors @ vectors.T, (rows @ rows.T).toarray(), atol=1e-3)


def test_what_the_leading_directions_leave_is_right_on_average():
    rows = sp.csr_array(sp.random_array((30, 400), density=0.1, rng=np.random.default_rng(0), dtype=np.float32))
    projections = (_Projection(rows, np.random.default_rng(seed), 8) for seed in range(300))
    products = np.mean([vectors @ vectors.T for vectors in (projection(rows) for projection in projections)], axis=0)
    exact = (rows @ rows.T).toarray()
    assert np.abs(products - exact).max() < 0.1 * exact.max()
