"""Items like another are those of a slow computation of cosines."""

import numpy as np
import pytest

from coldray.serving.engine import Engine
from coldray.serving.similar import similar


@pytest.fixture(scope="module")
def engine(bundle):
    known, items = Engine(bundle), bundle.item_ids.tolist()
    extended = bundle.add_items({"copy": known.attributes(items[3]), "bare": {}})
    return Engine(extended, removed=[items[8]])


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
def test_the_nearest_are_those_of_a_slow_computation(engine, item):
    places = similar(engine, engine.place(item), 15)
    expected = slowly(engine, engine.place(item))
    best = sorted(expected, key=lambda place: (-expected[place], place))[:15]
    assert [place.item for place in places] == [engine.ids[place] for place in best]
    np.testing.assert_allclose([place.score for place in places], [expected[place] for place in best], rtol=1e-4)


def test_a_new_item_is_most_like_the_one_it_is_a_copy_of_and_a_bare_one_like_none(engine):
    first = similar(engine, engine.place("copy"), 1)[0]
    assert (first.item, first.cold) == ("item-0004", False)
    assert first.score == pytest.approx(1, rel=1e-5)
    assert "copy" in [place.item for place in similar(engine, engine.place("item-0004"), 10)]
    assert similar(engine, engine.place("bare"), 10) == ()
    assert "item-0009" not in [place.item for place in similar(engine, engine.place("copy"), 99)]
