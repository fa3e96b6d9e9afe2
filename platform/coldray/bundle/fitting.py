"""A bundle of a model that is fitted on a whole dataset, and of one whose lists are to mix new items with others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from coldray.bundle.model import Bundle
from coldray.bundle.people import BY_DEFAULT, OfAskers, kept_clicks, training_set
from coldray.data.dataset import Dataset
from coldray.features.builder import FeatureEncoder
from coldray.models.base import Recommender
from coldray.training.options import FitOptions


def fit_bundle(
    model: Recommender[Any],
    dataset: Dataset,
    encoder: FeatureEncoder,
    manifest: Mapping[str, Any],
    options: FitOptions = FitOptions(),
    askers: OfAskers = BY_DEFAULT,
) -> Bundle:
    """Fit `model` on every interaction of `dataset`, for serving; `askers` says what is read of who asks, if anything.

    Raises
    ------
    MissingFieldError
        If the model reads ratings, the order of clicks or attributes of users, and the dataset has none.
    """
    interactions = model.reads.of(dataset).interactions
    features = encoder.fit(dataset).transform(dataset.attributes, dataset.n_items)
    train, people = training_set(model, dataset, interactions, features, "all interactions", askers)
    model.fit(train, options=options)
    return Bundle(
        model,
        encoder,
        dataset.user_ids,
        dataset.item_ids,
        dataset.attributes,
        features,
        kept_clicks(model, train),
        manifest,
        people=people,
    )


def even_bundle(bundle: Bundle) -> tuple[Bundle, str | None]:
    """Return a bundle whose lists mix items with clicks and without on one scale, and what its notes say if it changes.

    For the winner of a study that ranked cold items among themselves: how they compare with the others it has not
    measured.
    """
    model = bundle.model.evened(bundle.interactions)
    if model is bundle.model:
        return bundle, None
    note = (
        "Lists mix items with and without clicks so that both reach the top as easily, as the study ranked cold items "
        "among themselves; the order within each kind is that of the study."
    )
    notes = [*bundle.manifest.get("notes", ()), note]
    return replace(bundle, model=model, manifest={**bundle.manifest, "notes": notes}), note
