"""A small generated dataset in which attributes cause the clicks: for first steps, demonstrations and tests.

Nothing in it is real. Every item has a genre mix, a director, actors, a year and a text; every user has a taste over
the very same labels, and clicks are drawn from taste × item popularity. Most of the popularity is noise that no
attribute explains, as in real catalogues. Every user has an occupation, mostly that of the genre they like best, and an
age, the higher the older the films they like.

Notation used for shapes: U users, I items, d labels of an attribute.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import ConfigError
from coldray.data.dataset import (
    Attribute,
    Dataset,
    FloatArray,
    LabelAttribute,
    NumberAttribute,
    TextAttribute,
    binary_matrix,
)

_MIN_CLICKS = 12
"""Least clicks a user has."""
_THEMES: dict[str, tuple[str, ...]] = {
    "adventure": ("island", "map", "voyage", "treasure", "mountain", "storm", "compass", "expedition"),
    "animation": ("talking", "colourful", "toy", "magical", "forest", "tiny", "friendship", "song"),
    "comedy": ("awkward", "wedding", "prank", "neighbour", "mistaken", "holiday", "hilarious", "boss"),
    "crime": ("heist", "detective", "gang", "betrayal", "evidence", "robbery", "undercover", "informant"),
    "documentary": ("archive", "interview", "history", "witness", "footage", "portrait", "science", "record"),
    "drama": ("family", "loss", "village", "letter", "illness", "promise", "reunion", "silence"),
    "fantasy": ("dragon", "spell", "kingdom", "prophecy", "sword", "wizard", "curse", "throne"),
    "horror": ("haunted", "basement", "scream", "ghost", "midnight", "ritual", "fog", "asylum"),
    "romance": ("kiss", "summer", "letters", "longing", "heartbreak", "dance", "stranger", "train"),
    "science fiction": ("planet", "robot", "spaceship", "clone", "signal", "future", "colony", "android"),
    "thriller": ("conspiracy", "hostage", "chase", "bomb", "agent", "poison", "deadline", "escape"),
    "western": ("sheriff", "saloon", "desert", "horse", "outlaw", "railroad", "canyon", "duel"),
}
"""Genres, and the words their descriptions are made of."""
_OCCUPATIONS = {
    "adventure": "pilot", "animation": "illustrator", "comedy": "barkeeper", "crime": "lawyer",
    "documentary": "journalist", "drama": "nurse", "fantasy": "librarian", "horror": "night porter",
    "romance": "florist", "science fiction": "engineer", "thriller": "accountant", "western": "farmer",
}  # fmt: skip
"""Of those who like a genre best."""
_TYPICAL = 0.8
"""Share of the users whose occupation is that of their genre; that of the others is drawn."""
_MEDIAN_AGE, _AGES = 40.0, (14.0, 90.0)
_FILLER = ("a", "the", "and", "with", "story", "about", "one", "life", "day", "finds", "must", "world", "young", "old")


def sample_dataset(seed: int = 0, n_users: int = 600, n_items: int = 500) -> Dataset:
    """Return the generated dataset; the same arguments give the same data, bit for bit.

    Parameters
    ----------
    seed
        Seed of the generator that every draw comes from, but for those of users' attributes, which have their own.
    n_users, n_items
        Size; at least 1 user and twice the 12 clicks each user has at the least.

    Raises
    ------
    ConfigError
        If a size is too small.
    """
    if n_users < 1 or n_items < 2 * _MIN_CLICKS:
        raise ConfigError(
            f"The sample needs at least 1 user and {2 * _MIN_CLICKS} items; n_users={n_users}, n_items={n_items}."
        )
    rng = np.random.default_rng(seed)
    labels = {
        "genres": _genres(rng, n_items),
        "directors": _people(rng, n_items, "director", n_people=max(8, n_items // 8), most=1),
        "actors": _people(rng, n_items, "actor", n_people=max(16, n_items // 3), most=6),
    }
    year: FloatArray = np.round(np.clip(2012.0 - rng.gamma(2.0, 8.0, n_items), 1930.0, None)).astype(np.float64)
    utilities = _tastes(rng, labels, n_users) - _year_distance(rng, year, n_users)
    attributes: dict[str, Attribute] = {**labels, "year": NumberAttribute(year)}
    attributes["title"], attributes["description"] = _texts(rng, labels["genres"])
    interactions = _clicks(rng, utilities, popularity=rng.normal(0.0, 0.9, n_items))
    return Dataset(
        name="sample",
        user_ids=_names("user", n_users),
        item_ids=_names("item", n_items),
        interactions=interactions,
        attributes=attributes,
        default_attributes=("genres", "directors", "actors", "year", "description"),
        user_attributes=_persons(np.random.default_rng([seed, 1]), utilities, labels["genres"], year),
        synthetic=True,
        provenance={"source": "sample", "seed": seed, "n_users": n_users, "n_items": n_items},
    )


def _genres(rng: np.random.Generator, n_items: int) -> LabelAttribute:
    """One to three genres an item; some genres are far more common than others."""
    names = np.asarray(sorted(_THEMES))
    share = 1.0 / np.arange(2, len(names) + 2)
    keys = rng.gumbel(size=(n_items, len(names))) + np.log(share)
    order = np.argsort(-keys, axis=1)
    counts = rng.integers(1, 4, n_items)
    items, position = np.nonzero(np.arange(3) < counts[:, None])
    return LabelAttribute(binary_matrix(items, order[items, position], (n_items, len(names))), names)


def _people(rng: np.random.Generator, n_items: int, role: str, *, n_people: int, most: int) -> LabelAttribute:
    """One to `most` people an item, a few of them in many items."""
    share = 1.0 / np.arange(3, n_people + 3)
    counts = rng.integers(max(1, most // 2), most + 1, n_items)
    items = np.repeat(np.arange(n_items), counts)
    people = rng.choice(n_people, size=len(items), p=share / share.sum())
    used, columns = np.unique(people, return_inverse=True)
    width = len(str(n_people))
    names = np.asarray([f"{role}-{number + 1:0{max(width, 2)}d}" for number in used])
    return LabelAttribute(binary_matrix(items, columns, (n_items, len(used))), names)


def _tastes(rng: np.random.Generator, labels: dict[str, LabelAttribute], n_users: int) -> FloatArray:
    """How much each user likes each item by its labels, ``[U, I]``: sparse likes of genres, directors and actors."""
    strength = {"genres": 1.6, "directors": 1.6, "actors": 1.2}
    total = np.zeros((n_users, labels["genres"].matrix.shape[0]))
    for name, attribute in labels.items():
        n_labels = attribute.matrix.shape[1]
        liked = rng.random((n_users, n_labels)) < 0.25
        tastes = strength[name] * liked * rng.gamma(2.0, 0.5, (n_users, n_labels))
        total += np.asarray((attribute.matrix @ tastes.T).T, np.float64)
    return total


def _year_distance(rng: np.random.Generator, year: FloatArray, n_users: int) -> FloatArray:
    """Return what an item far from a user's favourite year costs, ``[U, I]``."""
    favourite = rng.choice(year, n_users)
    distance: FloatArray = 0.6 * np.minimum(np.abs(favourite[:, None] - year) / 10.0, 3.0)
    return distance


def _clicks(rng: np.random.Generator, utilities: FloatArray, *, popularity: FloatArray) -> sp.csr_array:
    """Each user's clicks: draws without replacement, weighted by exp(utility + popularity), as Gumbel top-n."""
    n_users, n_items = utilities.shape
    keys = utilities + popularity + rng.gumbel(size=utilities.shape)
    most = max(_MIN_CLICKS, n_items // 4)
    counts = np.minimum(_MIN_CLICKS + rng.geometric(1.0 / max(n_items / 25.0, 2.0), n_users) - 1, most)
    order = np.argsort(-keys, axis=1)[:, :most]
    users, position = np.nonzero(np.arange(most) < counts[:, None])
    return binary_matrix(users, order[users, position], (n_users, n_items))


def _persons(
    rng: np.random.Generator, utilities: FloatArray, genres: LabelAttribute, year: FloatArray
) -> dict[str, Attribute]:
    """Return occupations and ages that go with what users like."""
    n_users = len(utilities)
    by_genre = _standardised(utilities @ genres.matrix.toarray() / np.maximum(genres.matrix.sum(axis=0), 1))  # [U, d]
    drawn = rng.integers(len(_OCCUPATIONS), size=n_users)
    chosen = np.where(rng.random(n_users) < _TYPICAL, by_genre.argmax(axis=1), drawn)
    names, columns = np.unique([_OCCUPATIONS[str(genres.labels[genre])] for genre in chosen], return_inverse=True)
    occupation = LabelAttribute(binary_matrix(np.arange(n_users), columns, (n_users, len(names))), names)
    recent = _standardised((utilities - utilities.mean(axis=1, keepdims=True)) @ (year - year.mean())[:, None])[:, 0]
    ages = np.clip(np.round(_MEDIAN_AGE - 12 * recent + rng.normal(0, 6, n_users)), *_AGES)
    return {"occupation": occupation, "age": NumberAttribute(ages.astype(np.float64))}


def _standardised(values: FloatArray) -> FloatArray:
    """Return columns with mean 0 and deviation 1; those that are all equal are 0."""
    centred = values - values.mean(axis=0)
    deviation = centred.std(axis=0)
    result: FloatArray = centred / np.where(deviation > 0, deviation, 1)
    return result


def _texts(rng: np.random.Generator, genres: LabelAttribute) -> tuple[TextAttribute, TextAttribute]:
    """Return titles, and descriptions of twenty words, mostly from the themes of the item's genres."""
    titles, descriptions = [], []
    for row in range(genres.matrix.shape[0]):
        own = genres.matrix.indices[genres.matrix.indptr[row] : genres.matrix.indptr[row + 1]]
        words = [word for genre in own for word in _THEMES[str(genres.labels[genre])]]
        theme = rng.choice(words, 12)
        descriptions.append(" ".join(rng.permutation(np.concatenate([theme, rng.choice(_FILLER, 8)]))))
        titles.append(f"The {theme[0]} {theme[1]} {row + 1}")
    return TextAttribute(tuple(titles)), TextAttribute(tuple(descriptions))


def _names(kind: str, count: int) -> npt.NDArray[np.str_]:
    width = max(4, len(str(count)))
    return np.asarray([f"{kind}-{number:0{width}d}" for number in range(1, count + 1)])
