"""Similarities of clicks against numpy's correlation and sets, and what shrinkage does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from coldray.models.neighbours.similarity import NeighbourConfig, click_similarity


def similar(left, right, *, measure="cosine", shrinkage=0.0):
    """Return the similarities of the rows of two matrices of clicks."""
    left, right = np.asarray(left, np.float32), np.asarray(right, np.float32)
    common, size = left @ right.T, left.shape[1]
    return click_similarity(
        common, left.sum(axis=1), right.sum(axis=1), size=size, measure=measure, shrinkage=shrinkage
    )


def reference(x, y, measure):
    """Return the similarity of two lists from its definition, by library functions and sets."""
    if measure == "cosine":
        return x @ y / (np.linalg.norm(x) * np.linalg.norm(y))
    if measure == "jaccard":
        first, second = set(np.flatnonzero(x)), set(np.flatnonzero(y))
        return len(first & second) / len(first | second)
    return 0.0 if x.all() or y.all() else max(np.corrcoef(x, y)[0, 1], 0.0)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    measure=st.sampled_from(["cosine", "pearson", "jaccard"]),
    shrinkage=st.sampled_from([0.0, 0.5, 20.0]),
    density=st.sampled_from([0.2, 0.6, 0.95]),
)
def test_similarities_are_those_of_the_definitions(seed, measure, shrinkage, density):
    generator = np.random.default_rng(seed)
    left, right = (generator.random((n, 12)) < density for n in (4, 5))
    found = similar(left, right, measure=measure, shrinkage=shrinkage)
    assert found.dtype == np.float32
    for i, x in enumerate(left.astype(float)):
        for j, y in enumerate(right.astype(float)):
            common = x @ y
            expected = reference(x, y, measure) * common / (common + shrinkage) if common else 0.0
            assert found[i, j] == pytest.approx(expected, abs=1e-6)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), measure=st.sampled_from(["cosine", "pearson", "jaccard"]))
def test_a_list_is_most_like_itself_and_the_order_of_two_does_not_matter(seed, measure):
    clicks = np.random.default_rng(seed).random((6, 15)) < 0.5
    found = similar(clicks, clicks, measure=measure)
    np.testing.assert_allclose(found, found.T, atol=1e-6)
    assert (found <= 1 + 1e-6).all()
    proper = clicks.any(axis=1) & ~clicks.all(axis=1)
    np.testing.assert_allclose(np.diag(found)[proper], 1, rtol=1e-5)


def test_pearson_finds_nothing_where_chance_explains_what_is_in_common():
    half, other = np.array([[1, 1, 0, 0]]), np.array([[1, 0, 1, 0], [1, 0, 0, 0], [0, 0, 1, 1]])
    assert similar(half, other, measure="cosine")[0, 0] == pytest.approx(0.5)
    found = similar(half, other, measure="pearson")[0]
    assert found[0] == 0
    assert found[1] == pytest.approx(1 / np.sqrt(3))
    assert found[2] == 0  # below 0


def test_at_as_many_clicks_in_common_as_the_shrinkage_a_similarity_counts_half():
    x = np.array([[1, 1, 1, 1, 0, 0]])
    np.testing.assert_allclose(similar(x, x, shrinkage=4.0), 0.5)
    few, many = np.array([[1, 0, 0, 0, 0, 0]]), x
    assert similar(few, few, shrinkage=2.0) < similar(many, many, shrinkage=2.0)


def test_empty_and_full_lists_are_like_no_other():
    lists = np.array([[0, 0, 0], [1, 1, 1], [1, 0, 1]])
    for measure in ("cosine", "pearson", "jaccard"):
        found = similar(lists, lists, measure=measure)
        assert np.isfinite(found).all()
        assert (found[0] == 0).all()
    assert (found[1, 1:] > 0).all()
    assert (similar(lists, lists, measure="pearson")[1] == 0).all()


def test_adjusted_cosine_which_needs_ratings_is_refused():
    with pytest.raises(ValidationError, match="measure"):
        NeighbourConfig(measure="adjusted_cosine")
