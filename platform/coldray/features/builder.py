"""Item attributes → a :class:`FeatureSet`, for the dataset's items and for items that come later.

Notation used for shapes: I items.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator

from coldray.core.errors import ConfigError, DataFormatError, NotFittedError, UnknownAttributeError
from coldray.core.spelling import choices, nearest
from coldray.data.attributes import Attribute, LabelAttribute, NumberAttribute, VectorAttribute, attribute_length
from coldray.data.dataset import Dataset
from coldray.features.counts import count_attributes
from coldray.features.derived import Derived
from coldray.features.described import Described, Encoder
from coldray.features.feature_set import Feature, FeatureSet
from coldray.features.multi_hot import MultiHotConfig, MultiHotEncoder, read_labels
from coldray.features.scalar import ScalarEncoder, read_numbers
from coldray.features.text_embeddings import EmbeddingConfig, EmbeddingEncoder
from coldray.features.tfidf import TfidfConfig, TfidfEncoder, check_languages, read_texts
from coldray.features.vectors import VectorEncoder, check_dim, read_vector_values

logger = logging.getLogger(__name__)

_COUNT = "count"
"""The method of counts: numbers that are made of other attributes, not read."""
AttributeKind: TypeAlias = Literal["labels", "number", "text", "vector"]
"""What an attribute holds for an item: any number of labels, one number, one text, one vector."""


class FeatureConfig(BaseModel):
    """Which attributes are read, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attributes: tuple[str, ...] | Literal["all"] | None = None
    """Attributes to encode, in this order; ``all`` that a new item can have, or the dataset's default attributes if not
    given."""
    min_items: PositiveInt = 2
    """A label needs at least this many items to become a column."""
    max_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """A label may be on at most this share of the items."""
    counts: bool = False
    """Whether how many labels, or words, an item has of each attribute is a number of its own."""
    max_terms: PositiveInt = 10_000
    """Terms kept of a text that is encoded by TF-IDF: the most frequent ones."""
    text: dict[str, Literal["tfidf", "embedding"]] = Field(default_factory=dict)
    """How each text attribute is encoded, by name or by a pattern such as ``review_*``; TF-IDF for those not named."""
    joined: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(default_factory=dict)
    """Texts made of several attributes of an item, ``{about: [title, genres, "review_*"]}``: they are read beside
    `attributes`, whether or not their parts are, and encoded as `text` says."""
    sentiment: tuple[str, ...] = ()
    """Texts, by name or by a pattern such as ``review_*``, whose sentiment is a number, from −1 to 1, of each name or
    pattern: VADER's mean over sentences, of English texts. Read beside `attributes`."""
    stop_words: tuple[str, ...] = ()
    """Languages whose stop words are no terms of TF-IDF: ``[english]``."""
    embedding_model: str = EmbeddingConfig().model
    """A sentence-transformers model: its id on the Hugging Face hub, or a local folder."""
    embedding_cache: Path | None = None
    """Where embeddings are kept; a folder of the user's cache if not given."""

    @field_validator("attributes")
    @classmethod
    def _named_once(cls, names: tuple[str, ...] | str | None) -> tuple[str, ...] | str | None:
        listed = names if isinstance(names, tuple) else ()
        repeated = sorted({name for name in listed if listed.count(name) > 1})
        if repeated:
            raise ValueError(f"Attributes are named twice: {', '.join(repeated)}. Name each once.")
        return names


OF_USERS = FeatureConfig(attributes="all")
"""What is read of users unless something else is named."""


class _Method(NamedTuple):
    """One way to encode an attribute."""

    encoder: type[Encoder]
    kind: AttributeKind
    """Of the attributes that it encodes."""
    new: Callable[[FeatureConfig], Encoder]


_METHODS = {
    "multi_hot": _Method(
        MultiHotEncoder,
        "labels",
        lambda config: MultiHotEncoder(MultiHotConfig(min_items=config.min_items, max_share=config.max_share)),
    ),
    "tfidf": _Method(
        TfidfEncoder,
        "text",
        lambda config: TfidfEncoder(TfidfConfig(max_terms=config.max_terms, stop_words=config.stop_words)),
    ),
    "scalar": _Method(ScalarEncoder, "number", lambda _: ScalarEncoder()),
    "vector": _Method(VectorEncoder, "vector", lambda _: VectorEncoder()),
    "embedding": _Method(
        EmbeddingEncoder,
        "text",
        lambda config: EmbeddingEncoder(
            EmbeddingConfig(model=config.embedding_model, cache_folder=config.embedding_cache)
        ),
    ),
    _COUNT: _Method(ScalarEncoder, "number", lambda _: ScalarEncoder()),
}
_CHOSEN: dict[AttributeKind, str] = {
    "labels": "multi_hot", "number": "scalar", "text": "tfidf", "vector": "vector"
}  # fmt: skip
"""The method of each kind unless another is named."""
_READERS: dict[AttributeKind, Callable[..., Attribute]] = {
    "labels": read_labels,
    "number": read_numbers,
    "text": read_texts,
    "vector": read_vector_values,
}


class FeatureEncoder:
    """One fitted encoder an attribute.

    Parameters
    ----------
    config
        The defaults of :class:`FeatureConfig` if not given.
    """

    def __init__(self, config: FeatureConfig | None = None) -> None:
        self.config = config or FeatureConfig()
        self._methods: dict[str, str] | None = None
        self._encoders: dict[str, Encoder] = {}
        self._empty: dict[str, str] = {}
        self._derived, self._parts = Derived({}, {}), dict[str, AttributeKind]()

    @property
    def methods(self) -> Mapping[str, str]:
        """How each attribute is encoded, in order: multi_hot, tfidf, scalar, vector, embedding or count.

        NotFittedError before fit.
        """
        if self._methods is None:
            raise NotFittedError("The feature encoder has seen no dataset yet. Call fit, or from_state, first.")
        return self._methods

    @property
    def kinds(self) -> dict[str, AttributeKind]:
        """What each attribute to be read holds: what :func:`attributes_from_records` needs to read new items."""
        made = self._derived.names
        read = {name: _METHODS[method].kind for name, method in self._read.items() if name not in made}
        return {**read, **self._parts}

    @property
    def _read(self) -> dict[str, str]:
        """How each attribute is encoded that is no count."""
        return {name: method for name, method in self.methods.items() if method != _COUNT}

    def fit(self, dataset: Described) -> Self:
        """Learn the vocabulary of each attribute from all items of `dataset`; a second fit forgets the first.

        Raises
        ------
        UnknownAttributeError
            If the config names an attribute that the dataset does not have.
        ConfigError
            If `text` names an attribute that is not a text or not encoded, or the embedding model cannot be loaded.
        """
        self._methods, self._encoders, self._empty = None, {}, {}
        methods, read = choose_methods(dataset, self.config), read_attributes(dataset, self.config)
        self._derived = _derived(dataset, self.config)
        self._parts = {name: _kind_of(dataset.attributes[name]) for name in self._derived.parts if name not in methods}
        counted = count_attributes(dataset.attributes, methods) if self.config.counts else {}
        for name in counted:
            if name in dataset.attributes:
                raise ConfigError(f"Counts are on, and the dataset has an attribute {name!r} itself. Rename that one.")
        for name, method in methods.items():
            self._encoders[name] = _METHODS[method].new(self.config).fit(read[name])
            self._note_if_empty(name, read[name])
        self._encoders |= {name: ScalarEncoder().fit(count) for name, count in counted.items()}
        self._methods = {**methods, **dict.fromkeys(counted, _COUNT)}
        return self

    @property
    def labels_read(self) -> dict[str, frozenset[str]]:
        """The labels that were on enough items of :meth:`fit`, by attribute of labels; others say nothing."""
        encoders = self._encoders.items()
        return {name: frozenset(one.labels) for name, one in encoders if isinstance(one, MultiHotEncoder)}

    def unread_labels(self, records: Iterable[Mapping[str, object]]) -> dict[str, list[str]]:
        """Return the labels of new items, or users, that say nothing, by attribute: the fit did not keep them.

        Attributes that are not read at all are left out.
        """
        found: dict[str, dict[str, None]] = {}
        read = self.labels_read
        for record in records:
            for name, value in record.items():
                labels = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else []
                if name in read:
                    unread = (str(label) for label in labels if label not in read[name])
                    found.setdefault(name, {}).update(dict.fromkeys(unread))
        return {name: list(labels) for name, labels in found.items() if labels}

    def check_usable(self) -> None:
        """Raise ConfigError if the items of :meth:`fit` can be compared by no attribute, saying why for each."""
        if len(self._empty) == len(self._read):
            raise ConfigError(" ".join(["There is nothing to compare items by.", *self._empty.values()]))

    def transform(
        self, attributes: Mapping[str, Attribute], n_items: int, *, encoded: Mapping[str, Feature] | None = None
    ) -> FeatureSet:
        """Encode items with the fitted vocabularies.

        Parameters
        ----------
        attributes
            Attributes of the I items by name. One that is missing is unknown for all of them: an empty row, or NaN.
            One that the encoder was not fitted on is not read.
        n_items
            I.
        encoded
            Features of these items that are there already, by name; they are taken as they are.

        Raises
        ------
        DataFormatError
            If an attribute describes another number of items, or is not of the kind the encoder was fitted on.
        """
        given, read = encoded or {}, dict[str, Attribute]()
        for name, kind in self.kinds.items():
            if name in given:
                read |= {name: attributes[name]} if name in attributes else {}
                continue
            read[name] = attributes[name] if name in attributes else _READERS[kind]([None] * n_items, name)
            if _kind_of(read[name]) != kind:
                raise DataFormatError(
                    f"Attribute {name!r} was fitted as {kind}, but these items have {_kind_of(read[name])}."
                )
            if attribute_length(read[name]) != n_items:
                raise DataFormatError(
                    f"Attribute {name!r} describes {attribute_length(read[name])} items, not {n_items}."
                )
            encoder, given_one = self._encoders.get(name), read[name]
            if isinstance(encoder, VectorEncoder) and isinstance(given_one, VectorAttribute):
                check_dim(f"Attribute {name!r}", given_one, encoder.dim)
        described = {**read, **self._derived.without(given).made(read)}
        features = {
            name: given[name] if name in given else self._encoders[name].transform(described[name])
            for name in self._read
        }
        counts = count_attributes(read, self.methods) if _COUNT in self.methods.values() else {}
        features |= {name: self._encoders[name].transform(count) for name, count in counts.items()}
        return FeatureSet(features, n_items)

    def state(self) -> dict[str, Any]:
        """Return what :meth:`from_state` needs, flat: arrays of numbers, and JSON values, under string keys.

        The keys are ``config``, ``methods`` and ``<attribute>/<part of its encoder's state>``, with ``derived`` and
        ``parts`` where attributes are made of others. The embedding cache belongs to a machine and stays out.
        """
        state: dict[str, Any] = {
            "config": self.config.model_dump(mode="json", exclude={"embedding_cache"}),
            "methods": [[name, method] for name, method in self.methods.items()],
        }
        if self._derived.names:
            state |= {"derived": self._derived.state(), "parts": self._parts}
        for name, encoder in self._encoders.items():
            state |= {f"{name}/{part}": value for part, value in encoder.state().items()}
        return state

    @classmethod
    def from_state(
        cls, state: Mapping[str, Any], *, embedding_model: str | None = None, embedding_cache: Path | None = None
    ) -> Self:
        """Restore a fitted encoder from :meth:`state`, also after its JSON values went through JSON.

        `embedding_model` is where this machine has the embedding model, if not where the fit had it;
        `embedding_cache` is as in :class:`FeatureConfig`.

        Raises
        ------
        DataFormatError
            If a part is missing or not what :meth:`state` gives.
        """
        changed: dict[str, Any] = {"embedding_cache": embedding_cache}
        if embedding_model is not None:
            changed["embedding_model"] = embedding_model
        try:
            encoder = cls(FeatureConfig.model_validate({**state["config"], **changed}))
            encoder._methods = {str(name): str(method) for name, method in state["methods"]}
            if "derived" in state:
                encoder._derived, encoder._parts = Derived.from_state(state["derived"]), dict(state["parts"])
            for name, method in encoder._methods.items():
                prefix = f"{name}/"
                part = {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}
                restored: Encoder
                if method == "embedding":
                    restored = EmbeddingEncoder.from_state(part, model=embedding_model, cache_folder=embedding_cache)
                else:
                    restored = _METHODS[method].encoder.from_state(part)
                encoder._encoders[name] = restored
        except (KeyError, TypeError, ValueError) as error:
            raise DataFormatError(
                f"The state of a feature encoder is incomplete or damaged ({type(error).__name__}: {error}). "
                "Save it again from a fitted encoder."
            ) from error
        return encoder

    def _note_if_empty(self, name: str, attribute: Attribute) -> None:
        """Say which attribute compares nothing: legal, as every similarity is then 0, but hardly meant."""
        encoder = self._encoders[name]
        if isinstance(encoder, MultiHotEncoder) and not encoder.labels:
            self._empty[name] = (
                f"Attribute {name!r} has no columns: no label is on at least {self.config.min_items} and at most "
                f"{self.config.max_share:.0%} of the items. Lower min_items or raise max_share."
            )
        elif isinstance(encoder, TfidfEncoder) and not encoder.terms:
            self._empty[name] = f"Attribute {name!r} has no columns: no text holds a word. Leave the attribute out."
        elif isinstance(attribute, NumberAttribute) and not np.isfinite(attribute.values).any():
            self._empty[name] = f"Attribute {name!r} has no values: no number is known. Leave the attribute out."
        elif isinstance(attribute, VectorAttribute) and not np.nan_to_num(attribute.vectors).any():
            self._empty[name] = f"Attribute {name!r} has no vectors: no item has one. Leave the attribute out."
        if name in self._empty:
            logger.warning("%s", self._empty[name])


def encoded(config: FeatureConfig, dataset: Dataset, whose: str) -> tuple[FeatureEncoder, FeatureSet]:
    """Return an encoder fitted on all items of a dataset, and these encoded.

    Parameters
    ----------
    whose
        What the items are, for the error: ``items of`` a fold, or ``users of`` it.

    Raises
    ------
    ConfigError
        If they can be compared by nothing that is read.
    """
    encoder = FeatureEncoder(config).fit(dataset)
    try:
        encoder.check_usable()
    except ConfigError as error:
        raise ConfigError(f"The {dataset.n_items:,} {whose}: {error}") from error
    return encoder, encoder.transform(dataset.attributes, dataset.n_items)


def attribute_kinds(attributes: Mapping[str, Attribute]) -> dict[str, AttributeKind]:
    """Return what each attribute of a dataset holds."""
    return {name: _kind_of(attribute) for name, attribute in attributes.items()}


def attributes_from_records(
    records: Sequence[Mapping[str, object]], kinds: Mapping[str, AttributeKind], whose: str = "New item"
) -> dict[str, Attribute]:
    """Read new items, or users, given as plain dicts, one each.

    Parameters
    ----------
    records
        Attribute values by name: labels as a list of str or one str, a number as an int or a float, a text as a str, a
        vector as a list of numbers. A field that is missing or None is unknown.
    kinds
        What each attribute holds: :attr:`FeatureEncoder.kinds`, or :func:`attribute_kinds` of a dataset.
    whose
        What a record is of, before its number, for errors.

    Returns
    -------
    dict
        Every attribute of `kinds`, for the I records in their order.

    Raises
    ------
    UnknownAttributeError
        If a record has a field that is not in `kinds`.
    DataFormatError
        If a record is no dict, or a value is not of its attribute's kind.
    """
    for position, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise DataFormatError(
                f"{whose} {position} (counted from 0) is {record!r:.60}; attributes are a dict by name."
            )
        for name in record:
            if name not in kinds:
                raise UnknownAttributeError(
                    f"{whose} {position} (counted from 0) has an unknown attribute {name!r}.{nearest(name, kinds)} "
                    f"Known are: {choices(kinds)}."
                )
    return {name: _READERS[kind]([record.get(name) for record in records], name, whose) for name, kind in kinds.items()}


def attribute_names(dataset: Described, config: FeatureConfig) -> tuple[str, ...]:
    """Return the attributes that are read, in order.

    ``all`` leaves out those that the dataset's provenance lists under ``later_attributes``, as they come with an
    audience; of users (:attr:`~coldray.data.dataset.Dataset.of_users`) that are those under ``later_user_attributes``,
    as they come with what a user has done.
    """
    if config.attributes == "all":
        later = dataset.provenance.get("later_attributes", ())
        names = tuple(name for name in dataset.attributes if name not in later)
    else:
        names = dataset.default_attributes if config.attributes is None else config.attributes
    return tuple(dict.fromkeys((*names, *_derived(dataset, config).names)))


def _derived(dataset: Described, config: FeatureConfig) -> Derived:
    return Derived.of(config.joined, config.sentiment, dataset.attributes)


def read_attributes(dataset: Described, config: FeatureConfig) -> dict[str, Attribute]:
    """Return the attributes that are read, in order, those among them that are made of others; errors as of a fit."""
    methods, derived = choose_methods(dataset, config), _derived(dataset, config)
    described = {**dataset.attributes, **derived.made(dataset.attributes)}
    return {name: described[name] for name in methods}


def choose_methods(dataset: Described, config: FeatureConfig) -> dict[str, str]:
    """Return how each attribute is to be encoded, in order; errors as in :meth:`FeatureEncoder.fit`."""
    names, derived = attribute_names(dataset, config), _derived(dataset, config)
    text: dict[str, str] = {}
    for pattern, method in config.text.items():
        text |= dict.fromkeys([name for name in names if fnmatchcase(name, pattern)] or [pattern], method)
    dataset.check_attributes(name for name in (*names, *text) if name not in derived.names)
    kinds = {**attribute_kinds(dataset.attributes), **derived.kinds}
    for name in text:
        if kinds[name] != "text":
            raise ConfigError(f"`text` names {name!r}, which holds {kinds[name]}. Leave it out.")
        if name not in names:
            raise ConfigError(f"`text` names {name!r}, which is not encoded. Add it to `attributes` or leave it out.")
    check_languages(config.stop_words)
    return {name: text.get(name) or _CHOSEN[kinds[name]] for name in names}


def _kind_of(attribute: Attribute) -> AttributeKind:
    if isinstance(attribute, LabelAttribute):
        return "labels"
    if isinstance(attribute, VectorAttribute):
        return "vector"
    return "number" if isinstance(attribute, NumberAttribute) else "text"
