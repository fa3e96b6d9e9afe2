"""What a bundle knows of its users beside their clicks, and how the profile of a new one is read."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from coldray.data.dataset import Attribute, Dataset
from coldray.features.builder import FeatureConfig, FeatureEncoder, attributes_from_records, encoded
from coldray.features.feature_set import FeatureSet, VectorFeature

logger = logging.getLogger(__name__)
Profile: TypeAlias = Mapping[str, object]
"""Attributes of a user by name: labels as a list of str or one str, a number, a text; what is missing is unknown."""


@dataclass(frozen=True, eq=False)
class People:
    """Attributes of users, as a model reads them."""

    encoder: FeatureEncoder
    attributes: Mapping[str, Attribute]
    """Of all users of the bundle, by name: what the encoder reads."""
    features: FeatureSet
    """The same, encoded."""

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

    def read(self, profiles: Sequence[Profile]) -> FeatureSet:
        """Return profiles of new users as the model reads them.

        Raises
        ------
        UnknownAttributeError
            If a profile has an attribute that no user has.
        DataFormatError
            If a value is not of its attribute's kind.
        """
        attributes = attributes_from_records(profiles, self.encoder.kinds, "Profile")
        return self.encoder.transform(attributes, len(profiles))

    def read_telling(self, profiles: Sequence[Profile]) -> FeatureSet:
        """Return the same as :meth:`read`, and warn of labels that say nothing."""
        read = self.read(profiles)
        for name, labels in self.unread(profiles).items():
            told = (len(labels), name, labels[0])
            logger.warning("Nobody the model was fitted on has %d labels of %r; the first is %r.", *told)
        return read

    def unread(self, profiles: Sequence[Profile]) -> dict[str, list[str]]:
        """Return the labels of new users that say nothing to the model, as nobody it was fitted on has them."""
        found = {}
        for name, feature in self.features.features.items():
            if self.encoder.methods[name] == "multi_hot" and isinstance(feature, VectorFeature):
                given = [profile.get(name) or () for profile in profiles]
                labels = {label for one in given for label in ([one] if isinstance(one, str) else one)}  # type: ignore[attr-defined]
                if unknown := sorted(labels - set(feature.terms)):
                    found[name] = unknown
        return found

    def rows(self, rows: Sequence[int | None]) -> FeatureSet:
        """Return the features of users of the bundle by row; those of a user without one are unknown."""
        unknown = self.features.n_items
        return self._and_unknown.take(np.array([unknown if row is None else row for row in rows], np.intp))

    @cached_property
    def _and_unknown(self) -> FeatureSet:
        """The features of all users, and after them those of one of whom nothing is known."""
        return self.features.append(self.read([{}]))


def read_people(model: Any, config: FeatureConfig, dataset: Dataset) -> People | None:
    """Return what a model reads of users; None where it reads nothing of them."""
    return People.of(config, dataset) if model.reads_users else None
