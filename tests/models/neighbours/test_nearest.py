"""Neighbours as sparse matrices, on numbers that can be read off."""

import numpy as np
import scipy.sparse as sp

from coldray.models.neighbours.nearest import by_neighbour, nearest


def test_only_those_above_0_are_kept_the_nearest_first():
    likeness = np.array([[0.2, 0.0, 0.5, 0.3], [0.0, 0.1, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], np.float32)
    found = nearest(likeness, 2)
    assert found.shape == likeness.shape
    assert (found.indptr.tolist(), found.indices.tolist()) == ([0, 2, 3, 3], [2, 3, 1])
    np.testing.assert_array_equal(found.data, np.float32([0.5, 0.3, 0.1]))
    np.testing.assert_array_equal(nearest(likeness, 9).toarray(), likeness)


def test_a_history_adds_up_what_neighbours_say_and_none_is_no_item_0():
    neighbours = np.array([[3, 1], [2, 0]], np.int32), np.array([[0.5, 0.25], [0.75, 0.0]], np.float32)
    similar = by_neighbour(neighbours, 4)
    assert similar.nnz == 3
    history = sp.csr_array(np.array([[1, 1, 0, 1]], np.float32))
    np.testing.assert_array_equal((history @ similar).toarray(), [[0.75, 0.0]])
