"""Search by name finds what a slow reading of every name finds, and the best of it first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.data.dataset import LabelAttribute, NumberAttribute, TextAttribute, binary_matrix
from coldray.data.item_names import ItemNames, _name_attribute
from coldray.serving.engine.names import NameIndex, _folded

words = st.text("aàbBe'-é ", max_size=8)


def slowly(names, sought):
    """Return the places of names in which each word that is sought begins a word, best first."""
    wanted = _folded(sought).split()
    whole = " ".join(wanted)
    found = []
    for place, name in enumerate(map(_folded, names)):
        if wanted and all(any(word.startswith(want) for word in name.split()) for want in wanted):
            match = 0 if name == whole else 1 if name.startswith(whole) else 2 if f" {whole}" in f" {name}" else 3
            found.append((match, place))
    return [place for _, place in sorted(found)]


@given(st.lists(words, max_size=12), st.lists(words, max_size=4), words)
def test_a_search_finds_what_reading_every_name_finds(known, added, sought):
    names = [*known, *added]
    index = NameIndex(known).extended(added)
    assert len(index) == len(names)
    assert index.search(sought, np.zeros(len(names)), 99) == slowly(names, sought)


@pytest.mark.parametrize(
    ("sought", "name"),
    [
        ("AMELIE", "Amélie"),
        ("schindlers", "Schindler’s List"),
        ("iv star", "Star Wars: Episode IV"),
        ("straße", "Strasse"),
    ],
)
def test_case_accents_and_apostrophes_do_not_count(sought, name):
    assert NameIndex(["x", name]).search(sought, np.zeros(2), 5) == [1]


def test_the_more_popular_of_equal_matches_comes_first_and_what_is_not_allowed_not_at_all():
    index = NameIndex(["The Star", "Star Trek", "Star Wars", "Star", "Mustard"])
    popularity = np.array([9, 1, 5, 0, 99])
    assert index.search("star", popularity, 9) == [3, 2, 1, 0]
    assert index.search("star", popularity, 2) == [3, 2]
    assert index.search("star", popularity, 9, allowed=popularity < 5) == [3, 1]


def labels(rows):
    items, columns = np.nonzero(rows)
    names = np.array(["a", "b"])
    return LabelAttribute(binary_matrix(items, columns, np.shape(rows)), names)


def test_a_title_is_preferred_to_a_label_and_that_to_any_text():
    plot, title = TextAttribute(("long", "")), TextAttribute(("T", " "))
    one, many = labels([[1, 0], [0, 0]]), labels([[1, 1], [0, 0]])
    attributes = {"year": NumberAttribute(np.zeros(2)), "plot": plot, "name": one, "movie_title": title}
    assert _name_attribute(attributes) == "movie_title"
    assert list(ItemNames(attributes, [7, 8])) == ["T", "8"]
    assert _name_attribute({"plot": plot, "name": one}) == "name"
    assert list(ItemNames({"plot": plot, "name": one}, [7, 8])) == ["a", "8"]
    assert _name_attribute({"name": many, "plot": plot}) == "plot"
    assert _name_attribute({"name": many}) is None
    assert ItemNames({}, ["x", "y"])[0:2] == ["x", "y"]
