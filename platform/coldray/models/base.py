"""The one interface of all models.

Notation used for shapes: b users in a block, U users, I items, n items asked for.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from pydantic import BaseModel, ConfigDict, model_validator

from coldray.core.errors import ConfigError, MissingFieldError, NotFittedError
from coldray.core.memory import fit_bytes, require_memory
from coldray.core.spelling import choices
from coldray.data.signals import Reads
from coldray.evaluation.ranking import Scorer
from coldray.features.builder import AttributeKind
from coldray.features.feature_set import FeatureSet
from coldray.features.moments import ClickMoments
from coldray.models.computations import Computations
from coldray.models.forms import Form, StudyOutlook
from coldray.training.options import ONCE_PARAMETERS, FitConfig, FitOptions, current_names, option_words

logger = logging.getLogger(__name__)
Items: TypeAlias = npt.NDArray[np.integer[Any]]
Scores: TypeAlias = npt.NDArray[np.float32]
ProfileScorer: TypeAlias = Callable[[sp.csr_array, FeatureSet], Scores]
"""From histories ``[b, I]`` and the features of those b users to scores ``[b, n]`` of fixed items."""


class ModelConfig(BaseModel):
    """Base of every model's parameters: frozen, and a misspelt name is an error.

    Values that exclude each other are refused by a validator of the whole model that raises
    :class:`~coldray.core.errors.ConfigError`; the default of a parameter goes with any value of another.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _with_current_names(cls, parameters: Any) -> Any:
        if not isinstance(parameters, Mapping):
            return parameters
        for name in parameters:
            if cls.was_option(name):
                raise ConfigError(option_words(name))
        return current_names(parameters)

    @classmethod
    def was_option(cls, name: str) -> bool:
        """Tell whether a name is no parameter, but says how a fit runs, which earlier versions had among them."""
        return name in ONCE_PARAMETERS and name not in cls.model_fields

    @classmethod
    def stored(cls, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters that an earlier version stored, but for how the fit ran."""
        return {name: value for name, value in parameters.items() if not cls.was_option(name)}


ConfigT = TypeVar("ConfigT", bound=ModelConfig)


def users_key(key: str) -> str:
    """Return the key of a training set with users in the place of items."""
    return f"{key}, users as items"


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """What a model is fitted on."""

    interactions: sp.csr_array
    """Clicks ``[U, I]``, float32 ones; the columns of cold items are empty. For a model that reads more of a click than
    that there was one, that stands in its place: see :class:`~coldray.data.signals.Reads`."""
    features: FeatureSet
    """Features of all I items."""
    key: str
    """Unique among the training sets that share computations."""
    users: FeatureSet | None = None
    """Features of all U users, for a model that :attr:`~Recommender.reads_users`."""
    moments: ClickMoments | None = None
    """The moments of clicks, to whose rows the values of `interactions` lead, for a model that reads them."""

    def __post_init__(self) -> None:
        if self.users is not None and self.users.n_items != self.interactions.shape[0]:
            raise ValueError(
                f"The features describe {self.users.n_items} users, the clicks are of {self.interactions.shape[0]}."
            )
        if self.features.n_items != self.interactions.shape[1]:
            raise ValueError(
                f"The features describe {self.features.n_items} items, the clicks {self.interactions.shape[1]}."
            )

    @property
    def of_users(self) -> TrainingSet:
        """The training set with users in the place of items, for a model that :attr:`~Recommender.reads_users`.

        Raises
        ------
        MissingFieldError
            If nothing is known of users but their clicks.
        """
        if self.users is None:
            raise MissingFieldError(f"{self.key} has no attributes of users. Name a table of them (--users, users=).")
        return TrainingSet(sp.csr_array(self.interactions.T), self.users, users_key(self.key))

    @cached_property
    def clicks(self) -> npt.NDArray[np.int64]:
        """Clicks of each item, int64 ``[I]``."""
        return np.bincount(self.interactions.indices, minlength=self.interactions.shape[1])

    @property
    def warm_items(self) -> npt.NDArray[np.int32]:
        """Items with clicks, ascending."""
        return np.flatnonzero(self.clicks > 0).astype(np.int32)

    @property
    def cold_items(self) -> npt.NDArray[np.int32]:
        """Items without a click, ascending."""
        return np.flatnonzero(self.clicks == 0).astype(np.int32)


class Recommender(ABC, Generic[ConfigT]):
    """A model that scores items for users described by what they clicked.

    A subclass names its `config_type`, implements :meth:`fit`, :meth:`scorer`, :meth:`state` and
    :meth:`from_state`, and says through `scores_cold_items` whether attributes alone are enough for it.
    """

    name: ClassVar[str]
    """The model's name in study files and bundles."""
    config_type: ClassVar[type[ModelConfig]]
    scores_cold_items: ClassVar[bool] = False
    """True if an item without clicks gets a score from its attributes."""
    personalised: ClassVar[bool] = True
    """False if what users clicked changes none of their scores: who are told apart by nothing else get the same."""
    fits_by_shared_results: ClassVar[bool] = False
    """True if a fit is little more than results that configurations share: a study then computes them ahead."""
    way_out: ClassVar[str] = (
        "Use fewer items through the filters (min_item_interactions, unclicked_items), or more memory."
    )
    """What helps where a fit does not fit in memory."""
    trains_by_epochs: ClassVar[bool] = False
    """True if a fit is trainings that validate as they go: a study may stop a weak one before its end."""
    fit_options: ClassVar[tuple[str, ...]] = ()
    """Names of the options in :class:`~coldray.training.options.FitConfig` that a fit heeds."""
    reads_users: ClassVar[bool] = False
    """True if it learns from attributes of users, and scores for a user of whom nothing else is known."""
    reads_moments: ClassVar[bool] = False
    """True if it learns from when and in which context clicks were, and from attributes of users if there are any."""
    predicts_ratings: ClassVar[bool] = False
    """True if it predicts how users rate items; it then reads ratings, and its errors are measured beside its lists."""

    def __init__(self, config: ConfigT) -> None:
        self.config = self._given = config
        self.forms: tuple[Form, ...] = ()
        """In which forms it was fitted, where there are several."""

    @classmethod
    def settle(cls, config: ConfigT, outlook: StudyOutlook) -> tuple[ConfigT, tuple[Form, ...]]:
        """Decide what `config` leaves to be chosen by size, for every fit of a study.

        By default nothing is left to be chosen. A model with two forms returns the configuration with the form named,
        and the reason. What a configuration names is left as it is: to settle it again changes nothing.

        Parameters
        ----------
        config
            Of the parameters that a study searches, the values with which a fit takes most memory.
        outlook
            The largest fit of the study, and how many fits there are.

        Returns
        -------
        config
            As given, with the forms named.
        forms
            What was decided, one entry for each form of the configuration, named before or not.
        """
        return config, ()

    @classmethod
    def compared_forms(cls, config: ConfigT, share: float) -> tuple[ConfigT, ConfigT] | None:
        """Return configurations by which the loss of an approximate form is measured; None for an exact one.

        Both are fitted to the same draw of so small a `share` of the items that the exact form fits.

        Returns
        -------
        exact, approximate
            `config` in its exact form, and in its own form made smaller in proportion: through `share` as many items,
            say, where it sees all others through some.
        """
        return None

    def check_options(self, options: FitConfig) -> None:
        """Raise :class:`~coldray.core.errors.ConfigError` if a fit would not heed one of the options.

        A subclass adds those that do not go with its configuration.
        """
        plain = FitConfig()
        for name in FitConfig.model_fields:
            value = getattr(options, name)
            if value != getattr(plain, name) and name not in self.fit_options:
                heeded = f"heeds {choices(self.fit_options)} alone" if self.fit_options else "heeds none of them"
                raise ConfigError(f"{name}={value!r} says how a fit runs, and the model {self.name!r} {heeded}.")

    def settle_on(self, train: TrainingSet, options: FitConfig) -> ConfigT:
        """Name the forms that the configuration leaves open by the size of a training set; return the configuration.

        A fit begins with it. In a study they are named already, by the largest of its fits.
        """
        self.check_options(options)
        n_users, n_items = train.interactions.shape
        labels, label_kinds = train.features.labels
        outlook = StudyOutlook(n_users, n_items, fit_bytes(), labels=labels, label_kinds=label_kinds, options=options)
        self.config, self.forms = self.settle(self._given, outlook)
        for form in self.forms:
            if not form.exact and self.config != self._given:
                logger.warning("%s on %s: %s", self.name, train.key, form.told)
        return self.config

    @classmethod
    def needs_attributes(cls) -> bool:
        """Tell whether it learns nothing where no attribute of items is read; by default if it scores cold ones."""
        return cls.scores_cold_items

    @classmethod
    def reads_items(cls) -> bool:
        """Tell whether it learns from attributes of items; by default if it scores items by nothing else."""
        return cls.scores_cold_items

    @classmethod
    def reads_askers(cls) -> bool:
        """Tell whether scores depend on more of who asks than their clicks: then :meth:`profile_scorer` gives them."""
        return cls.reads_users or cls.reads_moments

    @property
    def reads(self) -> Reads:
        """What stands for clicks in training sets and histories; by default ones, or rows of moments.

        It may depend on the configuration. A training set that holds more than a configuration reads is fine with it,
        as those of a study hold what any of its configurations reads.
        """
        return Reads(moments=self.reads_moments)

    @abstractmethod
    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Learn from `train` and return self; a second call starts afresh.

        Parameters
        ----------
        train
            Clicks and features.
        computations
            Where results that other configurations share are kept; a private cache by default.
        options
            How it runs, and who is told of its epochs; the model heeds its :attr:`fit_options`.
        """

    @property
    @abstractmethod
    def n_items(self) -> int:
        """Number of items the fitted model knows; 0 before the fit."""

    @abstractmethod
    def scorer(self, items: Items) -> Scorer:
        """Return the function that scores `items` for a block of histories.

        What does not depend on the histories is done here, once.
        """

    def profile_scorer(self, items: Items) -> ProfileScorer:
        """Return the function that scores `items` for a block of histories and the features of those who ask.

        Only for models with `reads_users` or `reads_moments`.
        """
        raise NotImplementedError(f"{type(self).__name__} reads nothing of who asks but their clicks.")

    def score(self, histories: sp.csr_array, items: Items) -> Scores:
        """Score `items` for users described by their clicks.

        Parameters
        ----------
        histories
            CSR ``[b, I]`` of what the model :attr:`reads`: float32, or complex64 for ratings and order at once. Users
            the model never saw are served like all others.
        items
            Item indices ``[n]``.

        Returns
        -------
        Scores
            float32 ``[b, n]``, higher is better, comparable within a row.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        """
        return self.scorer(items)(histories)

    def predict_ratings(self, histories: sp.csr_array, rows: Items, items: Items) -> Scores:
        """Predict how users would rate items. Only for models with `predicts_ratings`.

        Parameters
        ----------
        histories
            CSR ``[b, I]``, as for :meth:`score`: what the users rated, and how.
        rows, items
            Rows of the histories and item indices ``[n]``, a pair a place.

        Returns
        -------
        Scores
            float32 ``[n]``, from the lowest to the highest rating of the training set.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        """
        raise NotImplementedError(f"{type(self).__name__} predicts no ratings.")

    @property
    def click_value(self) -> float:
        """What stands in a history for the rating of a click of which nothing more is known."""
        return 1.0

    def add_items(self, features: FeatureSet) -> Self:
        """Return a model that also scores new items, known by their attributes alone.

        The new items take the indices from `n_items` on. Only for models with `scores_cold_items`.
        """
        raise NotImplementedError(f"{type(self).__name__} needs clicks to score an item.")

    @property
    def takes_clicks(self) -> bool:
        """True if clicks on items that it was fitted without are taken up without a new fit, in this configuration."""
        return False

    def with_clicks(self, train: TrainingSet) -> Self:
        """Return a model that also knows clicks on items it was fitted without, with no new fit.

        Only for models with `takes_clicks`.

        Parameters
        ----------
        train
            What it was fitted on, with more clicks on items that had none.
        """
        raise NotImplementedError(f"{type(self).__name__} has to be fitted again to know more clicks.")

    def with_clicks_on(self, items: Items, interactions: sp.csr_array) -> Self:
        """Return a model that also knows the clicks on some items it was fitted without; of others nothing changes.

        Only for models with `takes_clicks`. What was known of these items before is forgotten.

        Parameters
        ----------
        items
            Indices, ascending ``[k]``.
        interactions
            Of all who clicked one of them: what they clicked in the fit, and these items ``[b, I]``.
        """
        raise NotImplementedError(f"{type(self).__name__} has to be fitted again to know more clicks.")

    def ranking_key(self) -> str | None:
        """Name what the order of items within the warm and within the cold side depends on.

        Two fitted models with the same key order the warm items among themselves, and the cold items among
        themselves, in the same way; their cold scores differ by the factor :attr:`cold_scale` alone. None
        (the default) promises nothing.
        """
        return None

    @property
    def cold_scale(self) -> float:
        """Factor of all cold scores, for models with a :meth:`ranking_key`."""
        return 1.0

    def evened(self, clicks: sp.csr_array) -> Self:
        """Return the model with cold items on the scale of warm ones, if that is a parameter of its own.

        Asked for a bundle after a study that ranked cold items among themselves, which has not told how they compare
        with the others. By default a model has one scale for all.

        Parameters
        ----------
        clicks
            What it was fitted on ``[U, I]``.
        """
        return self

    def check_attributes(self, kinds: Mapping[str, AttributeKind]) -> None:
        """Raise :class:`~coldray.core.errors.ConfigError` if the configuration does not go with these item attributes.

        Asked before a study starts. By default no parameter depends on the attributes.

        Parameters
        ----------
        kinds
            What each attribute that the features are made of holds, by name.
        """

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return the bytes that a fit on that much data holds at its peak, besides the data; 0 if nobody knows.

        What depends on more than the two numbers, such as the length of lists of attributes, is left out.
        """
        return 0

    def check_size(self, n_users: int, n_items: int) -> None:
        """Raise :class:`~coldray.core.errors.CatalogTooLargeError` if a fit on that much data cannot fit in memory."""
        self.require_size(
            n_users,
            n_items,
            purpose=f"{type(self).__name__} on {n_items:,} items",
            way_out=self.way_out,
        )

    def require_size(self, n_users: int, n_items: int, *, purpose: str, way_out: str) -> None:
        """Check :meth:`memory_bytes`, for a :meth:`check_size` with words of its own."""
        require_memory(
            self.memory_bytes(n_users, n_items),
            purpose=purpose,
            way_out=way_out,
            need_of_items=lambda count: self.memory_bytes(n_users, count),
            n_items=n_items,
        )

    @abstractmethod
    def state(self) -> Mapping[str, npt.NDArray[Any]]:
        """Return the fitted arrays, by name, from which :meth:`from_state` rebuilds the model."""

    @classmethod
    @abstractmethod
    def from_state(cls, config: ConfigT, state: Mapping[str, npt.NDArray[Any]], features: FeatureSet) -> Self:
        """Rebuild a fitted model from its configuration, its arrays and the features of its items."""

    def check_fitted(self) -> None:
        """Raise :class:`NotFittedError` before the fit."""
        if self.n_items == 0:
            raise NotFittedError(f"{type(self).__name__} was asked for scores before fit().")
