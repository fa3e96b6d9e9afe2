"""What a bundle knows of who asks beside their clicks, and how what is given of a new user, or of a moment, is read.

Notation used for shapes: b who ask, U users of the bundle.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from numbers import Real
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import DataFormatError
from coldray.data.dataset import Attribute, Dataset
from coldray.data.moments import Moments
from coldray.evaluation.ratings import ones_where_stored
from coldray.features.builder import (
    OF_USERS,
    AttributeKind,
    FeatureConfig,
    FeatureEncoder,
    attributes_from_records,
    encoded,
)
from coldray.features.feature_set import FeatureSet
from coldray.features.known_clicks import KnownClicks
from coldray.features.moments import PREFIX, MomentEncoder, ReadMoments
from coldray.models.base import Recommender, TrainingSet

logger = logging.getLogger(__name__)
Profile: TypeAlias = Mapping[str, object]
"""Attributes of a user by name: labels as a list of str or one str, a number, a text; what is missing is unknown."""
Context: TypeAlias = Mapping[str, object]
"""What is known of the moment of a question: columns of context by name, as of a profile, and ``time``."""
TIME_OF_CONTEXT = "time"
"""When it is, in a context: seconds since 1970, or a text as of ISO 8601, without a zone in UTC."""


class OfAskers(NamedTuple):
    """What is read of who asks, and how, by a model that reads any of it."""

    users: FeatureConfig = OF_USERS
    moments: FeatureConfig = FeatureConfig()


BY_DEFAULT = OfAskers()


@dataclass(frozen=True, eq=False)
class PeopleMoments:
    """How moments are read, and what has been clicked before them."""

    encoder: MomentEncoder
    known: KnownClicks
    """Of all clicks of the bundle, in the order in which these are stored."""
    starts: npt.NDArray[np.int64]
    """Where the clicks of each user begin, and where the last end ``[U + 1]``."""

    @property
    def kinds(self) -> Mapping[str, AttributeKind]:
        """What each column of context holds."""
        return self.encoder.context_kinds

    def asked(
        self,
        rows: Sequence[int | None],
        contexts: Sequence[Context | None] | None,
        histories: Sequence[Mapping[int, float | None] | None] | None,
    ) -> FeatureSet:
        """Return the features of the moments of those who ask ``[b]``; see :meth:`People.asking`."""
        own = [self._clicks_of(row, who) for who, row in enumerate(rows)]
        later = [_given_clicks(one or {}, own[who], who) for who, one in enumerate(histories or ())]
        moments = self.read([one or {} for one in contexts or [None] * len(rows)])
        return self.encoder.encode_asked(moments, KnownClicks.joined([*own, *later]))

    def read(self, contexts: Sequence[Context]) -> Moments:
        """Return moments as they are given, a user each.

        Raises
        ------
        UnknownAttributeError
            If there is a column that the model does not read.
        DataFormatError
            If a value is not of its column's kind, or the time is none.
        """
        columns = [
            {name: value for name, value in one.items() if name != TIME_OF_CONTEXT} if isinstance(one, Mapping) else one
            for one in contexts
        ]
        attributes = attributes_from_records(columns, self.kinds, "Context")
        times = np.array([_seconds(one.get(TIME_OF_CONTEXT), place) for place, one in enumerate(contexts)], np.float64)
        return Moments(np.arange(len(times)), times, attributes)

    def missing(self, context: Context) -> tuple[str, ...]:
        """Return the columns that the model reads and a context does not have."""
        return tuple(name for name in self.kinds if context.get(name) is None)

    def unread(self, contexts: Sequence[Context]) -> dict[str, list[str]]:
        """Return the labels of contexts that say nothing to the model, as no click it was fitted on has them."""
        prefixed = [{PREFIX + name: value for name, value in one.items() if name in self.kinds} for one in contexts]
        return {
            name.removeprefix(PREFIX): labels for name, labels in self.encoder.encoder.unread_labels(prefixed).items()
        }

    def labels_of(self, name: str) -> list[str]:
        """Return the labels of a column that say something to the model; none of a number."""
        return sorted(self.encoder.encoder.labels_read.get(PREFIX + name, ()))

    def tell(self, contexts: Sequence[Context | None] | None, n_asked: int) -> None:
        """Warn of columns that the model reads and contexts do not have, and of labels that say nothing to it."""
        given = [one or {} for one in contexts or [None] * n_asked]
        for name in self.kinds:
            if lacking := sum(name in self.missing(one) for one in given):
                told = (lacking, n_asked, name)
                logger.warning("%d of %d who ask have no %r in their context, which the model reads: unknown.", *told)
        _tell_unread("No click", self.unread(given))

    def _clicks_of(self, row: int | None, who: int) -> KnownClicks:
        place = slice(0, 0) if row is None else slice(self.starts[row], self.starts[row + 1])
        known = self.known
        own = np.full(place.stop - place.start, who, np.intp)
        return KnownClicks(own, known.items[place], known.times[place], known.ratings[place])


def _given_clicks(history: Mapping[int, float | None], known: KnownClicks, who: int) -> KnownClicks:
    """Return the clicks of a given history that are not `known`: nobody knows when they were, but before any moment."""
    own = set(known.items.tolist())
    later = {item: np.nan if rating is None else rating for item, rating in history.items() if item not in own}
    ratings, items = np.array(list(later.values()), np.float64), np.fromiter(later, np.intp, len(later))
    return KnownClicks(np.full(len(items), who, np.intp), items, np.full(len(items), -np.inf), ratings)


def _seconds(value: object, place: int) -> float:
    """Return a time as seconds since 1970, NaN where there is none."""
    if value is None:
        return np.nan
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise DataFormatError(
                f"Context {place} (counted from 0): the time is {value!r:.60}. Give seconds since 1970, or a text such "
                "as 2026-05-04T18:30."
            ) from error
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, bool) or not isinstance(value, Real) or not np.isfinite(float(value)):
        raise DataFormatError(
            f"Context {place} (counted from 0): the time must be seconds since 1970, or a date, not {value!r:.60}."
        )
    return float(value)


@dataclass(frozen=True, eq=False)
class People:
    """Attributes of users, and their moments, as a model reads them."""

    encoder: FeatureEncoder
    attributes: Mapping[str, Attribute]
    """Of all users of the bundle, by name: what the encoder reads; none where a model of moments has none to read."""
    features: FeatureSet
    """The same, encoded ``[U]``."""
    moments: PeopleMoments | None = None
    """Of a model that reads moments."""

    @classmethod
    def of(cls, config: FeatureConfig, dataset: Dataset) -> People:
        """Encode the users of a dataset.

        Raises
        ------
        MissingFieldError
            If it knows nothing of them but their clicks.
        ConfigError
            If they can be compared by nothing that is read.
        """
        dataset.require_user_attributes()
        encoder, features = encoded(config, dataset.of_users, f"users of {dataset.name}")
        return cls(encoder, {name: dataset.user_attributes[name] for name in encoder.kinds}, features)

    @property
    def configs(self) -> OfAskers:
        """How it was read."""
        of_moments = FeatureConfig() if self.moments is None else self.moments.encoder.config
        return OfAskers(self.encoder.config if self.encoder.kinds else OF_USERS, of_moments)

    def asking(
        self,
        rows: Sequence[int | None],
        profiles: Sequence[Profile | None] | None = None,
        contexts: Sequence[Context | None] | None = None,
        histories: Sequence[Mapping[int, float | None] | None] | None = None,
    ) -> FeatureSet:
        """Return what is known of those who ask beside their histories ``[b]``.

        Parameters
        ----------
        rows
            Of users of the bundle; None of others, of whom nothing is known.
        profiles
            Attributes that take the place of known ones.
        contexts
            Of the moments at which they ask, for a model that reads them; what is missing is unknown.
        histories
            Ratings by index of the item, beside the clicks that the bundle has of a user; read of a moment alone.

        Raises
        ------
        UnknownAttributeError
            If a profile has an attribute that no user has, or a context an unknown column.
        DataFormatError
            If a value is not of its attribute's kind.
        """
        unknown = self.features.n_items
        known = self._and_unknown.take(np.array([unknown if row is None else row for row in rows], np.intp))
        if profiles is not None:
            read = self.read([{} if one is None else one for one in profiles])
            given = np.array([one is not None for one in profiles])
            known = known.append(read).take(np.arange(len(rows)) + len(rows) * given)
        return known if self.moments is None else known.beside(self.moments.asked(rows, contexts, histories))

    def read(self, profiles: Sequence[Profile]) -> FeatureSet:
        """Return attributes of new users as the model reads them.

        Raises
        ------
        UnknownAttributeError
            If a profile has an attribute that no user has.
        DataFormatError
            If a value is not of its attribute's kind.
        """
        attributes = attributes_from_records(profiles, self.encoder.kinds, "Profile")
        return self.encoder.transform(attributes, len(profiles))

    def tell_unread(self, profiles: Sequence[Profile | None]) -> None:
        """Warn of labels that say nothing to the model."""
        _tell_unread("Nobody", self.unread([one or {} for one in profiles]))

    def unread(self, profiles: Sequence[Profile]) -> dict[str, list[str]]:
        """Return the labels of new users that say nothing to the model, as nobody it was fitted on has them."""
        return self.encoder.unread_labels(profiles)

    @cached_property
    def _and_unknown(self) -> FeatureSet:
        """The features of all users, and after them those of one of whom nothing is known."""
        return self.features.append(self.read([{}]))


def _tell_unread(who: str, unread: Mapping[str, Sequence[str]]) -> None:
    for name, labels in unread.items():
        told = (who, len(labels), name, labels[0])
        logger.warning("%s the model was fitted on has %d labels of %r; the first is %r.", *told)


def training_set(
    model: Recommender[Any], dataset: Dataset, clicks: sp.csr_array, features: FeatureSet, key: str, askers: OfAskers
) -> tuple[TrainingSet, People | None]:
    """Return what a model is fitted on, and what it reads of who asks; None where that is nothing but their clicks.

    Parameters
    ----------
    clicks
        Those of the dataset that are learned from, as the model reads them ``[U, I]``.
    features
        Of all items.

    Raises
    ------
    MissingFieldError
        If it reads attributes of users, and the dataset has none.
    """
    if not model.reads_askers():
        return TrainingSet(clicks, features, key), None
    if model.reads_users or dataset.user_attributes:
        people = People.of(askers.users, dataset)
    else:
        nobody = FeatureEncoder(FeatureConfig(attributes=())).fit(dataset.of_users)
        people = People(nobody, {}, nobody.transform({}, dataset.n_users))
    of_users = people.features if people.features.features else None
    if not model.reads_moments:
        return TrainingSet(clicks, features, key, of_users), people
    read = ReadMoments.of(askers.moments, dataset, clicks)
    moments = PeopleMoments(read.encoder, read.known, clicks.indptr.astype(np.int64))
    whole = People(people.encoder, people.attributes, people.features, moments)
    return TrainingSet(read.clicks, features, key, of_users, read.moments), whole


def kept_clicks(model: Recommender[Any], train: TrainingSet) -> sp.csr_array:
    """Return the clicks that a bundle keeps ``[U, I]``, as the model reads them in histories."""
    return ones_where_stored(train.interactions) if model.reads_moments else train.interactions
