"""Of labels in an order, such as a cast, the first ones alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import coldray
from coldray.core.errors import ConfigError

CLICKS = {"user_id": ["ann", "bob"], "item_id": [0, 1]}
CELLS = st.lists(st.lists(st.sampled_from(["a", "b", "c ", " c", "d", "", " "]), max_size=6), min_size=2, max_size=5)


def load(cells, most, **options):
    films = {"item_id": list(range(len(cells))), "cast": cells, "genre": [["g", "h"]] * len(cells)}
    return coldray.load_dataset(CLICKS, films, labels=["cast", "genre"], first_labels={"cast": most}, **options)


def labels_of(data, name="cast"):
    attribute = data.attributes[name]
    return [set(attribute.labels[attribute.matrix[[row]].indices].tolist()) for row in range(data.n_items)]


@given(CELLS, st.integers(1, 4))
def test_the_first_of_each_item_are_read_and_the_others_counted(cells, most):
    named = [list(dict.fromkeys(label.strip() for label in cell if label.strip())) for cell in cells]
    left = sum(max(0, len(labels) - most) for labels in named)
    data = load(cells, most)
    assert labels_of(data) == [set(labels[:most]) for labels in named]
    assert labels_of(data, "genre") == [{"g", "h"}] * len(cells)
    told = f"column 'cast': {left:,} labels beyond the first {most} of a row are left out."
    assert [note for note in data.notes if "beyond the first" in note] == ([f"items, {told}"] if left else [])


def test_text_and_users_and_what_is_written_on_a_command_line():
    films = {"item_id": [0, 1], "cast": ["x|y|z", "['q', 'p', 'x']"]}
    people = {"user_id": ["ann", "bob"], "likes": ["k|j|i", "j"]}
    options = {"labels": ["cast"], "users": people, "user_labels": ["likes"]}
    data = coldray.load_dataset(CLICKS, films, first_labels="cast=2, likes=1", **options)
    assert labels_of(data) == [{"x", "y"}, {"p", "q"}]
    assert data.user_attributes["likes"].labels.tolist() == ["j", "k"]


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ({"casts": 2}, "first_labels names 'casts', which is no column of labels.*Did you mean 'cast'"),
        ("cast", "first_labels: 'cast' is no column with a number. Write cast=5,crew=2"),
        ("cast=1,cast=2", "the column 'cast' has two numbers, 1 and 2"),
        ({"cast": 0}, "greater than 0"),
    ],
)
def test_what_makes_no_sense_is_refused(first, said):
    films = {"item_id": [0, 1], "cast": ["x|y", "z"]}
    with pytest.raises(ConfigError, match=said):
        coldray.load_dataset(CLICKS, films, labels=["cast"], first_labels=first)
