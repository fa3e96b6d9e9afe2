"""Attributes that are made of other attributes of the same item: one text of several, and the sentiment of texts.

Notation used for shapes: I items.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from coldray.core.errors import ConfigError, UnknownAttributeError
from coldray.core.extras import require_extra
from coldray.core.spelling import choices, nearest
from coldray.data.attributes import Attribute, NumberAttribute, TextAttribute, VectorAttribute

SENTIMENT = "sentiment of "
"""``sentiment of review_*`` is the sentiment of the attributes that the pattern names."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")


@dataclass(frozen=True)
class Derived:
    """Which attributes are made, and of which others."""

    joined: Mapping[str, tuple[str, ...]]
    """Names of the parts, by that of the text that is made of them."""
    sentiment: Mapping[str, tuple[str, ...]]
    """Names of the texts, by that of the number that is made of them."""

    @classmethod
    def of(
        cls, joined: Mapping[str, tuple[str, ...]], sentiment: Iterable[str], attributes: Mapping[str, Attribute]
    ) -> Derived:
        """Return what names and patterns such as ``review_*`` say of the attributes there are.

        Raises
        ------
        UnknownAttributeError
            If one names no attribute.
        ConfigError
            If what is made is called like an attribute, or a sentiment is asked for of what is no text, or words of a
            vector.
        MissingExtraError
            If a sentiment is asked for, and the extra is not installed.
        """
        for name in joined:
            if name in attributes:
                raise ConfigError(
                    f"`joined` makes {name!r}, and there is an attribute of that name. Call it otherwise."
                )
        texts = {SENTIMENT + pattern: _named(pattern, "sentiment", attributes) for pattern in sentiment}
        for names in texts.values():
            for name in names:
                if not isinstance(attributes[name], TextAttribute):
                    raise ConfigError(f"`sentiment` names {name!r}, which is no text. Leave it out.")
        if texts:
            require_extra("sentiment", "The sentiment of texts")
        made = {
            name: tuple(dict.fromkeys(part for one in parts for part in _named(one, "joined", attributes)))
            for name, parts in joined.items()
        }
        for part in (part for parts in made.values() for part in parts):
            if isinstance(attributes[part], VectorAttribute):
                raise ConfigError(f"`joined` names {part!r}, which is a vector and has no words. Leave it out.")
        return cls(made, texts)

    @property
    def names(self) -> tuple[str, ...]:
        """Of what is made."""
        return (*self.joined, *self.sentiment)

    @property
    def kinds(self) -> dict[str, Literal["text", "number"]]:
        """What each holds that is made."""
        return {name: "text" if name in self.joined else "number" for name in self.names}

    def without(self, names: Collection[str]) -> Derived:
        """Return what makes all but some."""
        rest = (
            {name: parts for name, parts in one.items() if name not in names} for one in (self.joined, self.sentiment)
        )
        return Derived(*rest)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of what it is made of, each once."""
        every = (*self.joined.values(), *self.sentiment.values())
        return tuple(dict.fromkeys(part for parts in every for part in parts))

    def made(self, attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
        """Return what is made of the attributes of I items, by name."""
        found: dict[str, Attribute] = {}
        for name, parts in self.joined.items():
            columns = [_words(attributes[part]) for part in parts]
            found[name] = TextAttribute(
                tuple(". ".join(word for word in row if word) for row in zip(*columns, strict=True))
            )
        for name, parts in self.sentiment.items():
            texts = [attribute.texts for part in parts if isinstance(attribute := attributes[part], TextAttribute)]
            found[name] = NumberAttribute(np.array([_mood(row) for row in zip(*texts, strict=True)], np.float64))
        return found

    def state(self) -> dict[str, Any]:
        """Return JSON values for :meth:`from_state`."""
        return {
            "joined": {name: list(parts) for name, parts in self.joined.items()},
            "sentiment": {name: list(parts) for name, parts in self.sentiment.items()},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Derived:
        """Return what :meth:`state` is of."""
        named = ({name: tuple(parts) for name, parts in state[kind].items()} for kind in ("joined", "sentiment"))
        return cls(*named)


def _named(pattern: str, field: str, attributes: Mapping[str, Attribute]) -> tuple[str, ...]:
    """Return the attributes that a name or a pattern names."""
    found = (pattern,) if pattern in attributes else tuple(name for name in attributes if fnmatchcase(name, pattern))
    if not found:
        raise UnknownAttributeError(
            f"`{field}` names {pattern!r}, and there is no such attribute.{nearest(pattern, attributes)} There are "
            f"{choices(attributes)}."
        )
    return found


def _words(attribute: Attribute) -> list[str]:
    """Return what an attribute says of each item, in words; nothing where it is unknown."""
    if isinstance(attribute, TextAttribute):
        return [text.strip().removesuffix(".") for text in attribute.texts]
    if isinstance(attribute, NumberAttribute):
        return [f"{value:.15g}" if np.isfinite(value) else "" for value in attribute.values.tolist()]
    if isinstance(attribute, VectorAttribute):
        raise TypeError("A vector has no words.")
    matrix, labels = attribute.matrix, [str(label) for label in attribute.labels]
    return [", ".join(labels[column] for column in matrix.indices[at:end]) for at, end in pairwise(matrix.indptr)]


def _mood(texts: Iterable[str]) -> float:
    """Return the mean sentiment of sentences, from −1 to 1, of some texts of an item; NaN where all are blank."""
    known = [_mood_of(text) for text in texts if text.strip()]
    return float(np.mean(known)) if known else float("nan")


@lru_cache(maxsize=1 << 16)  # the texts of a study are read once a fold
def _mood_of(text: str) -> float:
    sentences = [sentence for sentence in _SENTENCE.split(text) if sentence.strip()]
    return float(np.mean([_analyser().polarity_scores(sentence)["compound"] for sentence in sentences]))


@cache
def _analyser() -> Any:
    require_extra("sentiment", "The sentiment of texts")
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()
