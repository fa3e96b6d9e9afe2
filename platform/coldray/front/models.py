"""A model fitted on a dataset or on a part of one, and measured."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import polars as pl

from coldray.bundle.fitting import fit_bundle
from coldray.bundle.model import Bundle
from coldray.bundle.people import OfAskers, kept_clicks, training_set
from coldray.core.errors import ConfigError, LeakageError, MissingFieldError
from coldray.core.notebook import facts_html
from coldray.data.dataset import Dataset
from coldray.data.splits.items import Fold, Split, TuningSplit
from coldray.data.splits.positives import Positives
from coldray.data.splits.protocols import ColdItemProtocol, MixedProtocol, Protocol
from coldray.evaluation.metrics import check_metric
from coldray.evaluation.ratings import ones_where_stored
from coldray.evaluation.significance import bootstrap_interval
from coldray.experiments.evaluation import Candidates, EvaluationFold
from coldray.experiments.tasks.measured import evaluate_fold
from coldray.features.builder import OF_USERS, FeatureConfig, FeatureEncoder, attribute_kinds, read_attributes
from coldray.features.moments import asked_features
from coldray.front.configs import validated
from coldray.models.base import Recommender, TrainingSet
from coldray.models.registry import model_type
from coldray.training.options import FitOptions

logger = logging.getLogger(__name__)
Part: TypeAlias = Literal["validation", "test"]


def fit(
    model: str | Recommender[Any],
    data: Dataset | Split | TuningSplit,
    *,
    features: FeatureConfig | Mapping[str, Any] | None = None,
    user_features: FeatureConfig | Mapping[str, Any] | None = None,
    moment_features: FeatureConfig | Mapping[str, Any] | None = None,
    options: FitOptions = FitOptions(),
    **parameters: Any,
) -> Bundle:
    """Fit a model, and return it with the ids and the attributes of what it was fitted on.

    Parameters
    ----------
    model
        A name, such as ``"kernel_align"``, with its `parameters`; or a model that has them.
    data
        Of a split, its train part; of a dataset, all.
    features
        Which item attributes are read and how, see :class:`~coldray.features.builder.FeatureConfig`.
    user_features
        The same of attributes of users, for a model that reads them; by default all.
    moment_features
        The same of the moments of clicks, for a model that reads them, see :mod:`~coldray.features.moments`.
    options
        How the fit runs: workers, device, who is told of its epochs.

    Raises
    ------
    ConfigError
        If there is no such model or parameter, or it does not go with the data.
    MissingFieldError
        If the model reads ratings, times or attributes that the data do not have.
    CatalogTooLargeError
        If the fit does not fit into memory.

    Examples
    --------
    >>> import coldray
    >>> films = coldray.load_dataset("sample")
    >>> coldray.fit("ease", films, regularization=50.0)
    Bundle of ease: 600 users, 500 items (0 cold), fitted on all interactions of sample
    """
    unfitted = _model(model, parameters)
    read = _features(features)
    askers = OfAskers(OF_USERS if user_features is None else _features(user_features), _features(moment_features))
    if isinstance(data, Dataset):
        _check(unfitted, data, read)
        trained = f"all interactions of {data.name}"
        manifest = {"trained_on": trained, "notes": list(data.notes)}
        return fit_bundle(unfitted, data, FeatureEncoder(read), manifest, options, askers)
    tuning = data if isinstance(data, TuningSplit) else data.for_tuning()
    return _fit_on(unfitted, tuning.fold, (read, askers), tuning.protocol, options)


def _features(given: FeatureConfig | Mapping[str, Any] | None) -> FeatureConfig:
    return given if isinstance(given, FeatureConfig) else validated(FeatureConfig, given or {})


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model reached on the held-out interactions of a split."""

    part: Part
    metrics: Mapping[str, float]
    """Means over users, by name and cutoff."""
    intervals: Mapping[str, tuple[float, float]]
    """95 % bootstrap interval of a mean over users; coverage, one number for all lists, has none."""
    users: int
    """Users that were measured: those with known and with held-out interactions."""

    @property
    def frame(self) -> pl.DataFrame:
        """A row a metric: ``metric``, ``value``, ``low``, ``high``."""
        nothing = (None, None)
        rows = [(name, value, *self.intervals.get(name, nothing)) for name, value in self.metrics.items()]
        types = {"metric": pl.String, "value": pl.Float64, "low": pl.Float64, "high": pl.Float64}
        return pl.DataFrame(rows, schema=types, orient="row")

    def __getitem__(self, metric: str) -> float:
        return self.metrics[metric]

    def __repr__(self) -> str:
        return f"{self._title}: {', '.join(f'{name} {value}' for name, value in self._shown())}"

    def _repr_html_(self) -> str:
        return facts_html(self._title, self._shown())

    @property
    def _title(self) -> str:
        return f"On the {self.part} part, {self.users:,} users"

    def _shown(self) -> list[tuple[str, str]]:
        ranges = {name: f" [{low:.4f}, {high:.4f}]" for name, (low, high) in self.intervals.items()}
        return [(name, f"{value:.4f}{ranges.get(name, '')}") for name, value in self.metrics.items()]


def evaluate(
    bundle: Bundle,
    split: Split,
    metrics: Sequence[str] | str | None = None,
    *,
    part: Part = "validation",
    candidates: Candidates | None = None,
    positives: Mapping[str, Any] | None = None,
    seed: int = 0,
    options: FitOptions = FitOptions(),
) -> Evaluation:
    """Measure a model on what a split holds out.

    Parameters
    ----------
    bundle
        What :func:`fit` made of the same split.
    metrics
        Names with cutoffs, such as ``"ndcg@10"``; by default ndcg, recall and coverage at 10.
    part
        ``validation``, as often as you like. ``test``: the model is fitted again with the same configuration, with the
        test items known by their attributes, and measured. Choose models by the validation part: what was chosen by
        the test part is not tested any more.
    candidates
        What is ranked: ``cold``, the held-out cold items, or ``all`` items; by default ``cold`` where a split holds out
        items.
    positives
        Of what is held out, what is to be found, as in a study: ``{"rating": ">=4"}``. By default all of it.
    seed
        Of the bootstrap.
    options
        How the fit for the test part runs.

    Raises
    ------
    ConfigError
        If a metric is unknown, or the candidates do not go with the split, or positives with a model that predicts
        ratings.
    MissingFieldError, EmptyDatasetError
        If there are no ratings for the rule of the positives, or it leaves nothing to be found.
    LeakageError
        If the model was fitted on other interactions than the train part of the split.

    Examples
    --------
    >>> import coldray
    >>> split = coldray.split(coldray.load_dataset("sample"), "item-cold")
    >>> model = coldray.fit("marec", split)
    >>> result = coldray.evaluate(model, split, "ndcg@10")
    >>> result.part, result["ndcg@10"] > 0.2
    ('validation', True)
    """
    wanted = _metrics(metrics, ratings=bundle.model.predicts_ratings)
    cutoffs = tuple(dict.fromkeys(int(name.partition("@")[2]) for name in wanted if "@" in name)) or (10,)
    cold = split.protocol in get_args(ColdItemProtocol)
    chosen: Candidates = candidates or ("cold" if cold else "all")
    if chosen == "cold" and not (cold or split.protocol in ("item-warming", *get_args(MixedProtocol))):
        raise ConfigError(f"candidates='cold' ranks held-out items, and {split.protocol!r} holds out interactions.")
    if chosen == "cold" and cold and not bundle.model.scores_cold_items:
        raise ConfigError(
            f"The model {bundle.model.name!r} knows items by their clicks alone and cannot rank cold ones. Use "
            "candidates='all', or hold out interactions: split(dataset, 'holdout')."
        )
    rule = None if positives is None else validated(Positives, positives)
    if rule is not None:
        rule.check(split.dataset, bundle.model.name, predicts_ratings=bundle.model.predicts_ratings)
        rule.check_splits((split,))
    fold = split.for_tuning().fold
    _check_fitted_on(bundle, fold, split.protocol)
    if part == "test":
        logger.warning("The test part is measured: the model is fitted again, with the test items known.")
        fold = split.test_fold
        unfitted = type(bundle.model)(bundle.model.config)
        askers = OfAskers() if bundle.people is None else bundle.people.configs
        bundle = _fit_on(unfitted, fold, (bundle.encoder.config, askers), split.protocol, options)
    elif part != "validation":
        raise ConfigError(f"part is {part!r}; it is 'validation' or 'test'.")
    task = _task(bundle, fold.as_read(bundle.model.reads), rule)
    measured = evaluate_fold(bundle.model, task, candidates=chosen, cutoffs=cutoffs, options=options)
    intervals = {
        name: bootstrap_interval(measured.per_user[name], generator=np.random.default_rng(seed))
        for name in wanted
        if name in measured.per_user
    }
    if measured.ratings is not None:
        every = measured.ratings.intervals(np.random.default_rng(seed))
        intervals |= {name: every[name] for name in wanted if name in every}
    means = measured.means()
    return Evaluation(part, {name: means[name] for name in wanted}, intervals, len(measured.users))


def _task(bundle: Bundle, fold: Fold, positives: Positives | None) -> EvaluationFold:
    """Return what a bundle that was fitted on the train part of a fold is measured on."""
    people = bundle.people
    of_users = None if people is None or not people.encoder.kinds else people.features
    train = TrainingSet(bundle.interactions, bundle.features, fold.name, of_users)
    task = EvaluationFold.of(fold, train, ratings=bundle.model.predicts_ratings, positives=positives)
    if people is None or people.moments is None:
        return task
    clicks = {"train": fold.train, "given": fold.given, "held_out": fold.held_out}
    return replace(task, asked=asked_features(people.moments.encoder, fold.dataset, **clicks))


def _model(model: str | Recommender[Any], parameters: Mapping[str, Any]) -> Recommender[Any]:
    if isinstance(model, str):
        kind = model_type(model)
        return kind(validated(kind.config_type, parameters))
    if parameters:
        raise ConfigError(
            f"{next(iter(parameters))!r} is given beside a model that has its parameters. Give the name of the model, "
            "or set it there."
        )
    return model


def _check(model: Recommender[Any], data: Dataset, features: FeatureConfig) -> None:
    """Find out what can be wrong before the fit."""
    read = read_attributes(data, features)
    if model.needs_attributes() and not read:
        raise MissingFieldError(
            f"The model {model.name!r} learns from item attributes, and dataset {data.name!r} has none that are read. "
            "Give load_dataset the items with labels=, numbers= or texts=."
        )
    if model.reads_users:
        data.require_user_attributes()
    model.check_attributes(attribute_kinds(read))
    model.check_size(data.n_users, data.n_items)


def _fit_on(
    model: Recommender[Any],
    fold: Fold,
    read: tuple[FeatureConfig, OfAskers],
    protocol: Protocol,
    options: FitOptions,
) -> Bundle:
    """Fit on the train part of a fold alone; its items all are in the bundle, known by their attributes."""
    data, (features, askers) = fold.dataset, read
    _check(model, data, features)
    encoder = FeatureEncoder(features).fit(data)
    if model.scores_cold_items and encoder.methods:
        encoder.check_usable()
    encoded = encoder.transform(data.attributes, data.n_items)
    clicks = fold.as_read(model.reads).train
    train, people = training_set(model, data, clicks, encoded, fold.name, askers)
    model.fit(train, options=options)
    manifest = {"trained_on": _train_part(fold, protocol), "notes": list(data.notes)}
    ids = data.user_ids, data.item_ids
    kept = kept_clicks(model, train)
    return Bundle(model, encoder, *ids, data.attributes, encoded, kept, manifest, people=people)


def _train_part(fold: Fold, protocol: Protocol) -> str:
    return f"the train part of {fold.name} by {protocol} of {fold.dataset.name}"


def _check_fitted_on(bundle: Bundle, fold: Fold, protocol: Protocol) -> None:
    known, train = ones_where_stored(bundle.interactions), ones_where_stored(fold.train)
    same_ids = np.array_equal(bundle.item_ids, fold.dataset.item_ids)
    if not (same_ids and np.array_equal(bundle.user_ids, fold.dataset.user_ids) and (known != train).nnz == 0):
        raise LeakageError(
            f"The model was fitted on {bundle.manifest.get('trained_on', 'other interactions')}, not on "
            f"{_train_part(fold, protocol)}: it may have seen what it is to find. Fit it on the split: "
            "coldray.fit(model, split), or coldray fit with the same --split and --seed."
        )


def _metrics(names: Sequence[str] | str | None, *, ratings: bool) -> tuple[str, ...]:
    wanted = (names,) if isinstance(names, str) else tuple(names or ("ndcg@10", "recall@10", "coverage@10"))
    cutoffs = [int(text) for name in wanted if (text := name.partition("@")[2]).isdigit() and int(text) > 0]
    for name in wanted:
        check_metric("The metric", name, dict.fromkeys(cutoffs or [10]), ratings=ratings)
    return wanted
