"""Features as of a moment: of a click, or of who asks for a list, from what was known before it and nothing after.

A feature is an attribute of moments, made of the time, of the columns of context, or of the clicks that its user had
made *earlier*; it is encoded like an attribute of items or users. A moment whose time is unknown is after all that is
known.

Notation used for shapes: m moments, n known clicks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import ConfigError, UnknownAttributeError
from coldray.core.spelling import choices, nearest
from coldray.data.dataset import Attribute, Dataset, NumberAttribute, check_named
from coldray.data.moments import Moments, asked_moments
from coldray.data.signals import numbered
from coldray.features.builder import AttributeKind, FeatureConfig, FeatureEncoder
from coldray.features.feature_set import FeatureSet, ScalarFeature

PREFIX = "at:"
"""What names of features of moments begin with, beside those of users."""
TIME = "at:time"
"""The time itself, in seconds since 1970, NaN where unknown: what is before what is read from it."""
_DAY = 86_400.0
_NAMES = "moment_names"


@dataclass(frozen=True, eq=False)
class KnownClicks:
    """What may be read of the past: clicks, in any order."""

    users: npt.NDArray[np.intp]
    """``[n]``."""
    items: npt.NDArray[np.intp]
    """``[n]``."""
    times: npt.NDArray[np.float64]
    """Seconds since 1970 ``[n]``, NaN where unknown."""
    ratings: npt.NDArray[np.float64]
    """``[n]``, NaN where there is none."""

    @classmethod
    def of(cls, dataset: Dataset, rows: npt.NDArray[np.intp], moments: Moments) -> KnownClicks:
        """Return those of a dataset's interactions that `rows` name, of their `moments`."""
        ratings = np.full(len(rows), np.nan) if dataset.ratings is None else dataset.ratings.data[rows]
        return cls(moments.users, dataset.interactions.indices[rows], moments.times, ratings)

    @classmethod
    def joined(cls, several: Sequence[KnownClicks]) -> KnownClicks:
        """Return the clicks of several, one after another."""
        none = np.zeros(0, np.intp), np.zeros(0)
        parts = [cls(none[0], none[0], none[1], none[1]), *several]
        names = ("users", "items", "times", "ratings")
        return cls(*(np.concatenate([getattr(one, name) for one in parts]) for name in names))

    @cached_property
    def by_user(self) -> npt.NDArray[np.intp]:
        """Places of clicks by user, and of a user by time ``[n]``."""
        return np.lexsort((self.times, self.users))

    def earlier(self, moments: Moments) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Return where in :attr:`by_user` clicks of each moment's user begin, and where those before it end ``[m]``.

        Clicks of the same second are not before it, and one whose time is unknown is before no moment that has one.
        """
        users, times = self.users[self.by_user], self.times[self.by_user]
        begin = np.searchsorted(users, moments.users, side="left")
        end = np.searchsorted(users, moments.users, side="right")
        seconds, whole = np.unique(np.concatenate([times, moments.times]), return_inverse=True)
        width = len(seconds) + 1
        places, asked = whole[: len(times)], whole[len(times) :]
        before = np.searchsorted(users * width + places, moments.users * width + asked, side="left")
        return begin, np.where(np.isnan(moments.times), end, before)


_Maker = Callable[[Moments, KnownClicks], npt.NDArray[np.float64]]


def _hour_part(wave: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> _Maker:
    def part(moments: Moments, known: KnownClicks) -> npt.NDArray[np.float64]:
        return np.asarray(wave(2 * np.pi * (moments.times % _DAY) / _DAY), np.float64)

    return part


def _weekday_part(wave: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> _Maker:
    def part(moments: Moments, known: KnownClicks) -> npt.NDArray[np.float64]:
        return np.asarray(wave(2 * np.pi * (moments.times // _DAY % 7) / 7), np.float64)

    return part


def _activity(moments: Moments, known: KnownClicks) -> npt.NDArray[np.float64]:
    begin, end = known.earlier(moments)
    return np.asarray(np.log1p(end - begin), np.float64)


_WORDS: dict[str, dict[str, _Maker]] = {
    "hour": {"hour:sin": _hour_part(np.sin), "hour:cos": _hour_part(np.cos)},
    "weekday": {"weekday:sin": _weekday_part(np.sin), "weekday:cos": _weekday_part(np.cos)},
    "activity": {"activity": _activity},
}
"""The words of `moment_features.attributes`, and the numbers that each is made into."""
_DEFAULT = ("hour", "weekday", "activity")


def moment_names(config: FeatureConfig, context: Mapping[str, Attribute]) -> tuple[str, ...]:
    """Return the features of moments that are read, in order: words, and columns of context.

    Raises
    ------
    UnknownAttributeError
        If one is neither.
    ConfigError
        If a column of context is called like a word.
    """
    if doubled := sorted(set(context) & set(_WORDS)):
        raise ConfigError(f"The context column {doubled[0]!r} is called like a feature of moments. Rename the column.")
    if config.attributes is None:
        return (*_DEFAULT, *context)
    if config.attributes == "all":
        return (*_WORDS, *context)
    for name in config.attributes:
        if name not in _WORDS and name not in context:
            known = (*_WORDS, *context)
            raise UnknownAttributeError(
                f"moment_features: there is no feature of moments {name!r}.{nearest(name, known)} There are "
                f"{choices(known)}; columns of your own are named by --context-columns."
            )
    return config.attributes


def moment_attributes(moments: Moments, known: KnownClicks, names: tuple[str, ...]) -> dict[str, Attribute]:
    """Return features of moments, not encoded yet, by name: those of words from what was `known` before each."""
    made: dict[str, Attribute] = {}
    for name in names:
        if name in moments.context:
            made[PREFIX + name] = moments.context[name]
        for part, maker in _WORDS.get(name, {}).items():
            made[PREFIX + part] = NumberAttribute(maker(moments, known))
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
        return {**self.encoder.state(), _NAMES: list(self.names)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> MomentEncoder:
        """Restore it."""
        rest = {name: value for name, value in state.items() if name != _NAMES}
        return cls(FeatureEncoder.from_state(rest), tuple(state[_NAMES]))

    @classmethod
    def fit(cls, config: FeatureConfig, clicks: Moments, known: KnownClicks) -> MomentEncoder:
        """Learn how moments are encoded from those of the clicks that a model is fitted on."""
        names = moment_names(config, clicks.context)
        attributes = moment_attributes(clicks, known, names)
        plain = config.model_copy(update={"attributes": tuple(attributes)})
        return cls(FeatureEncoder(plain).fit(_Columns(attributes)), names)

    def encode(self, moments: Moments, known: KnownClicks) -> FeatureSet:
        """Return features of moments by name, with :data:`TIME` the first."""
        read = self.encoder.transform(moment_attributes(moments, known, self.names), len(moments))
        return FeatureSet({TIME: ScalarFeature(moments.times, 1.0), **read.features}, len(moments))


@dataclass(frozen=True, eq=False)
class ClickMoments:
    """What a model that reads moments learns from beside the clicks: a row a click of a training set."""

    features: FeatureSet
    """Of the moments, with :data:`TIME` among them."""
    ratings: npt.NDArray[np.float64]
    """Of the clicks ``[m]``, NaN where there is none: of the past they may be read, of the click itself never."""

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
        encoder = MomentEncoder.fit(config, moments, known)
        read = ClickMoments(encoder.encode(moments, known), known.ratings)
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
    return encoder.encode(asked_moments(moments, held_out), known)
