"""Features as of a moment: of a click, or of who asks for a list, from what was known before it and nothing after.

A feature is an attribute of moments, made of the time, of the columns of context, or of the clicks that its user had
made *earlier*; it is encoded like an attribute of items or users. A moment whose time is unknown is after all that is
known.

Notation used for shapes: m moments, n known clicks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import ConfigError, MissingFieldError, UnknownAttributeError
from coldray.core.spelling import choices, nearest
from coldray.data.dataset import Attribute, Dataset, NumberAttribute, check_named
from coldray.data.moments import Moments, asked_moments
from coldray.data.signals import numbered
from coldray.features.builder import AttributeKind, FeatureConfig, FeatureEncoder
from coldray.features.feature_set import FeatureSet, ScalarFeature, VectorFeature
from coldray.features.graph.item_graph import COMMUNITY, GRAPH_WORDS, ITEM_PAGERANK, PAIR_WORDS
from coldray.features.graph.measures import require_library
from coldray.features.graph.user_ranks import PAGERANK, UserRanks
from coldray.features.item_moments import ITEM_WORDS
from coldray.features.known_clicks import KnownClicks
from coldray.features.moment_words import TASTE, WORDS, Past, Taste, default_labels

PREFIX = "at:"
"""What names of features of moments begin with, beside those of users."""
TIME = "at:time"
"""The time itself, in seconds since 1970, NaN where unknown: what is before what is read from it."""
EARLIER = "at:earlier"
"""What who asks had clicked before, for features of pairs: see :meth:`KnownClicks.items_before`."""
_NAMES, _ITEMS, _TASTE, _RANKS = "moment_names", "moment_items", "moment_taste", "moment_ranks"
_DEFAULT = ("hour", "weekday", "activity")

_OF_ITEMS = (*ITEM_WORDS, *GRAPH_WORDS)
_WORDS = (*WORDS, TASTE, PAGERANK, *_OF_ITEMS)
_OF_LIBRARY = (PAGERANK, ITEM_PAGERANK, COMMUNITY)
_OF_RATINGS = ("rating_mean", "rating_spread", "item_rating_mean", "item_rating_variance")
_OF_TIMES = tuple(word for word in _WORDS if word not in ("activity", TASTE, *_OF_RATINGS))


def moment_names(
    config: FeatureConfig, context: Mapping[str, Attribute], known: KnownClicks, *, labelled: bool
) -> tuple[str, ...]:
    """Return the features of moments that are read, in order: words, and columns of context.

    Where none are named, words that the known clicks say nothing for are left out.

    Parameters
    ----------
    labelled
        Whether items have labels that a taste can be told by.

    Raises
    ------
    UnknownAttributeError
        If one is neither.
    MissingFieldError
        If one that is named is made of times, ratings or labels, and there are none.
    ConfigError
        If a column of context is called like a word, or like what one is made into.
    MissingExtraError
        If one is computed by a library that is not installed.
    """
    own = {
        TIME.removeprefix(PREFIX),
        EARLIER.removeprefix(PREFIX),
        *_WORDS,
        *(part for parts in WORDS.values() for part in parts),
    }
    if doubled := sorted(own & set(context)):
        raise ConfigError(f"The context column {doubled[0]!r} is called like a feature of moments. Rename the column.")
    lacking = _lacking(known, labelled)
    if config.attributes is None or config.attributes == "all":
        words = _WORDS if config.attributes == "all" else _DEFAULT
        return (*_computed(word for word in words if word not in lacking), *context)
    for name in config.attributes:
        if name not in _WORDS and name not in context:
            there = (*_WORDS, *context)
            raise UnknownAttributeError(
                f"moment_features: there is no feature of moments {name!r}.{nearest(name, there)} There are "
                f"{choices(there)}; columns of your own are named by --context-label-columns and "
                "--context-number-columns."
            )
        if name in lacking:
            raise MissingFieldError(f"moment_features: {name!r} is made of {lacking[name]} Leave it out.")
    return _computed(config.attributes)


def _computed(names: Iterable[str]) -> tuple[str, ...]:
    """Return the same, where what computes them is installed."""
    names = tuple(names)
    for name in names:
        if name in _OF_LIBRARY:
            require_library(name)
    return names


def names_of_moments(config: FeatureConfig, dataset: Dataset) -> tuple[str, ...]:
    """Return the features of moments that are read of a dataset, before any is made; errors as :func:`moment_names`."""
    moments = Moments.of(dataset)
    known = KnownClicks.of(dataset, np.arange(len(moments)), moments)
    return moment_names(config, dataset.context, known, labelled=bool(default_labels(dataset)))


def _lacking(known: KnownClicks, labelled: bool) -> dict[str, str]:
    """Return the words that nothing is known for, and what is not there."""
    lacking: dict[str, str] = {}
    if not known.timed:
        lacking |= dict.fromkeys(_OF_TIMES, "times of clicks, and none is known (--timestamp-column).")
    if not known.rated:
        lacking |= dict.fromkeys(_OF_RATINGS, "ratings of clicks, and there are none (--rating-column).")
    if not labelled:
        lacking[TASTE] = "labels of items, and none are among the default attributes (--label-columns)."
    return lacking


def moment_attributes(past: Past, names: tuple[str, ...], ranks: UserRanks | None = None) -> dict[str, Attribute]:
    """Return features of moments, not encoded yet, by name: those of words from what was known before each."""
    made: dict[str, Attribute] = {}
    for name in names:
        if name in past.moments.context:
            made[PREFIX + name] = past.moments.context[name]
        for part, maker in WORDS.get(name, {}).items():
            made[PREFIX + part] = NumberAttribute(maker(past))
        if name == PAGERANK and ranks is not None:
            made[PREFIX + name] = NumberAttribute(ranks.values(past))
    return made


@dataclass(frozen=True)
class _Columns:
    """Attributes of the moments of known clicks, as an encoder learns from them."""

    attributes: Mapping[str, Attribute]

    @property
    def default_attributes(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self.attributes)

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Nothing is known of how they came to be."""
        return {}

    def check_attributes(self, names: Iterable[str]) -> None:
        """Raise :class:`UnknownAttributeError` for the first name there is not."""
        check_named(names, self.attributes, "The moments of clicks have")


@dataclass(frozen=True, eq=False)
class MomentEncoder:
    """Features of moments, as they were fitted on those of known clicks."""

    encoder: FeatureEncoder
    names: tuple[str, ...]
    taste: Taste | None
    """What a taste is told by; None if it is not asked for."""
    ranks: UserRanks | None
    """What PageRank is made of; None if it is not asked for."""
    n_items: int
    """Items that anything can be known of."""

    @classmethod
    def fit(cls, config: FeatureConfig, clicks: Moments, known: KnownClicks, dataset: Dataset) -> MomentEncoder:
        """Learn how moments are encoded from those of the clicks that a model is fitted on."""
        names = moment_names(config, clicks.context, known, labelled=bool(default_labels(dataset)))
        ranks = UserRanks.of(known, dataset.n_items) if PAGERANK in names else None
        attributes = moment_attributes(Past(clicks, known), names, ranks)
        plain = config.model_copy(update={"attributes": tuple(attributes)})
        taste = Taste.of(dataset, known) if TASTE in names else None
        return cls(FeatureEncoder(plain).fit(_Columns(attributes)), names, taste, ranks, dataset.n_items)

    @property
    def config(self) -> FeatureConfig:
        """What was asked for, by names of words and columns."""
        return self.encoder.config.model_copy(update={"attributes": self.names})

    @property
    def context_kinds(self) -> dict[str, AttributeKind]:
        """What each column of context that is read holds."""
        kinds = self.encoder.kinds
        return {name: kinds[PREFIX + name] for name in self.names if name not in _WORDS}

    def state(self) -> dict[str, Any]:
        """Return what :meth:`from_state` needs: arrays and JSON values."""
        parts: dict[str, Taste | UserRanks | None] = {_TASTE: self.taste, _RANKS: self.ranks}
        made = {name: one.state() for name, one in parts.items() if one is not None}
        kept = {f"{name}/{part}": value for name, state in made.items() for part, value in state.items()}
        return {**self.encoder.state(), _NAMES: list(self.names), _ITEMS: self.n_items, **kept}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> MomentEncoder:
        """Restore it."""
        parts: dict[str, dict[str, Any]] = {_TASTE: {}, _RANKS: {}}
        for name, value in state.items():
            under, _, part = name.partition("/")
            if under in parts:
                parts[under][part] = value
        own = (_NAMES, _ITEMS, *parts)
        rest = {name: value for name, value in state.items() if name.partition("/")[0] not in own}
        taste = Taste.from_state(parts[_TASTE]) if parts[_TASTE] else None
        ranks = UserRanks.from_state(parts[_RANKS]) if parts[_RANKS] else None
        # A bundle of an earlier version has no word of pairs, which alone need the number of items.
        n_items = int(state.get(_ITEMS, 0))
        return cls(FeatureEncoder.from_state(rest), tuple(state[_NAMES]), taste, ranks, n_items)

    @property
    def of_items(self) -> tuple[str, ...]:
        """The words that tell of items at a moment."""
        return tuple(name for name in self.names if name in _OF_ITEMS)

    def encode(self, moments: Moments, known: KnownClicks) -> FeatureSet:
        """Return features of moments by name, with :data:`TIME` the first."""
        past = Past(moments, known)
        read = self.encoder.transform(moment_attributes(past, self.names, self.ranks), len(moments))
        tastes = {} if self.taste is None else {PREFIX + TASTE: self.taste.shares(past)}
        return FeatureSet({TIME: ScalarFeature(moments.times, 1.0), **read.features, **tastes}, len(moments))

    def encode_asked(self, moments: Moments, known: KnownClicks) -> FeatureSet:
        """Return the same of moments at which lists are asked for, with :data:`EARLIER` where a word is of pairs."""
        features = self.encode(moments, known)
        if not set(self.names) & set(PAIR_WORDS):
            return features
        earlier = VectorFeature(known.items_before(moments, self.n_items), _numbers(self.n_items))
        return features.beside(FeatureSet({EARLIER: earlier}, len(moments)))


@lru_cache(maxsize=4)
def _numbers(n: int) -> tuple[str, ...]:
    return tuple(map(str, range(n)))


@dataclass(frozen=True, eq=False)
class ClickMoments:
    """What a model that reads moments learns from beside the clicks: a row a click of a training set."""

    features: FeatureSet
    """Of the moments, with :data:`TIME` among them."""
    ratings: npt.NDArray[np.float64]
    """Of the clicks ``[m]``, NaN where there is none: of the past they may be read, of the click itself never."""
    of_items: tuple[str, ...] = ()
    """The words of features that an item has at a moment, which the model makes itself: see
    :class:`~coldray.features.item_moments.ItemMoments` and :class:`~coldray.features.graph.item_graph.ItemGraph`."""

    @property
    def times(self) -> npt.NDArray[np.float64]:
        """Seconds since 1970 ``[m]``, NaN where unknown."""
        return time_of(self.features)


def time_of(features: FeatureSet) -> npt.NDArray[np.float64]:
    """Return the times of moments ``[m]``, NaN where unknown."""
    feature = features.features[TIME]
    if not isinstance(feature, ScalarFeature):
        raise TypeError(f"{TIME} is a number.")
    return feature.values


@dataclass(frozen=True, eq=False)
class ReadMoments:
    """Moments of the clicks that a model is fitted on, and what reads those of who asks."""

    encoder: MomentEncoder
    known: KnownClicks
    clicks: sp.csr_array
    """Clicks ``[U, I]``, whose values are the rows of `moments`, 1 the first."""
    moments: ClickMoments
    """Of these clicks."""

    @classmethod
    def of(cls, config: FeatureConfig, dataset: Dataset, train: sp.csr_array) -> ReadMoments:
        """Read the moments of clicks ``[U, I]``, whose values are places among a dataset's interactions, 1 the first.

        What is not among them is not read: neither learned from nor known to a feature.
        """
        rows = train.data.astype(np.intp) - 1
        moments = Moments.of(dataset).take(rows)
        known = KnownClicks.of(dataset, rows, moments)
        encoder = MomentEncoder.fit(config, moments, known, dataset)
        read = ClickMoments(encoder.encode(moments, known), known.ratings, encoder.of_items)
        return cls(encoder, known, numbered(train), read)


def asked_features(
    encoder: MomentEncoder,
    dataset: Dataset,
    *,
    train: sp.csr_array,
    given: sp.csr_array | None,
    held_out: sp.csr_array,
) -> FeatureSet:
    """Return the features of the moments at which lists are asked for ``[U]``, from the clicks known before each.

    All matrices are clicks ``[U, I]`` whose values are places among the dataset's interactions, 1 the first.

    Parameters
    ----------
    train, given
        Clicks that models are fitted on, and those that describe users they are not fitted on.
    held_out
        Clicks to be found: the first of each user's is when the list is asked for.
    """
    moments = Moments.of(dataset)
    rows = np.unique(np.concatenate([one.data for one in (train, given) if one is not None]).astype(np.intp)) - 1
    known = KnownClicks.of(dataset, rows, moments.take(rows))
    return encoder.encode_asked(asked_moments(moments, held_out), known)
