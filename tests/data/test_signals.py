"""What stands for clicks: ones, ratings, places, or both in one number."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import MissingFieldError
from coldray.data.dataset import keep_entries
from coldray.data.signals import Reads, places_in, ratings_in
from coldray.data.sources.sample import sample_dataset

ALL = [Reads(ratings, order) for ratings in (False, True) for order in (False, True)]
"""What is read of ratings and order; weights of events stand where ratings do: tests/data/test_events.py."""


@pytest.fixture(scope="module")
def dataset():
    data = sample_dataset(0, 40, 30)
    clicks, generator = data.interactions, np.random.default_rng(0)
    times, ratings = generator.permutation(clicks.nnz), generator.integers(0, 6, clicks.nnz)  # a 0 is a rating too

    def matrix(values, kind):
        return sp.csr_array((values.astype(kind), clicks.indices, clicks.indptr), shape=clicks.shape)

    return replace(data, timestamps=matrix(times, np.int64), ratings=matrix(ratings, np.float32))


@given(st.lists(st.tuples(st.floats(-1e6, 1e6, width=32) | st.just(np.nan), st.integers(1, 2**24)), max_size=9))
def test_what_is_read_can_be_read_again(clicks):
    """To the bit, ratings that are not known included."""
    ratings, places = (np.array([click[i] for click in clicks], np.float32) for i in (0, 1))
    for reads in ALL:
        values = reads.values(ratings, places)
        assert values.dtype == (np.complex64 if reads == Reads(True, True) else np.float32)
        if reads.ratings:
            np.testing.assert_array_equal(ratings_in(values), ratings)
        if reads.order:
            np.testing.assert_array_equal(places_in(values), places)
        if not reads:
            np.testing.assert_array_equal(values, np.ones(len(clicks)))


@pytest.mark.parametrize("reads", ALL, ids=str)
def test_a_dataset_holds_what_is_read_in_place_of_clicks(dataset, reads):
    read = reads.of(dataset).interactions
    np.testing.assert_array_equal(read.indices, dataset.interactions.indices)
    np.testing.assert_array_equal(read.indptr, dataset.interactions.indptr)
    np.testing.assert_array_equal(dataset.interactions.data, 1)
    for user in range(40):
        row = slice(read.indptr[user], read.indptr[user + 1])
        if reads.ratings:
            np.testing.assert_array_equal(ratings_in(read.data[row]), dataset.ratings.data[row])
        if reads.order:
            order = dataset.timestamps.data[row].argsort().argsort() + 1
            np.testing.assert_array_equal(places_in(read.data[row]), order)


def test_a_part_of_the_clicks_keeps_both(dataset):
    read = Reads(ratings=True, order=True).of(dataset).interactions
    keep = np.random.default_rng(1).random(read.nnz) < 0.5
    part = keep_entries(read, keep)
    np.testing.assert_array_equal(ratings_in(part.data), dataset.ratings.data[keep])
    np.testing.assert_array_equal(part.data, read.data[keep])


def test_what_any_reads_is_what_one_or_the_other_does():
    for one in ALL:
        for other in ALL:
            assert one | other == Reads(one.ratings or other.ratings, one.order or other.order)
            assert bool(one) == (one != Reads())


def test_what_the_dataset_lacks_is_asked_for_in_vain(dataset):
    bare = replace(dataset, ratings=None, timestamps=None)
    assert Reads().of(bare) is bare
    for reads in ALL[1:]:
        missing = "has no ratings.*--rating-column" if reads.ratings else "has no timestamps.*--timestamp-column"
        with pytest.raises(MissingFieldError, match=missing):
            reads.of(bare)
