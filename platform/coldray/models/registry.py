"""The models a study file can name."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from coldray.core.errors import ConfigError
from coldray.core.spelling import choices, nearest
from coldray.models.base import Recommender

MODELS = {
    "marec": "marec.model:MARec",
    "carec": "transfer.carec:CARec",
    "uarec": "transfer.uarec:UARec",
    "gerec": "transfer.gerec:GERec",
    "marec_plus": "marec.plus:MARecPlus",
    "kernel_align": "kernel_align.model:KernelAlign",
    "content_knn": "neighbours.content:ContentKNN",
    "popularity": "popularity.model:Popularity",
    "ease": "linear.ease:EASE",
    "svd": "linear.svd:SVD",
    "als": "linear.als:ALS",
    "item_knn": "neighbours.item:ItemKNN",
    "user_knn": "neighbours.user:UserKNN",
    "mf": "ratings.mf:MF",
    "rating_knn": "ratings.knn:RatingKNN",
    "rating_svd": "ratings.svd:RatingSVD",
    "two_tower": "neural.two_tower:TwoTower",
    "lightgcn": "neural.lightgcn:LightGCN",
    "session_gru": "neural.session_gru:SessionGRU",
    "vae": "neural.vae:VAE",
    "vae_marec": "neural.vae_marec:VAEMARec",
    "ncf": "neural.ncf:NCF",
    "text_graph": "neural.text_graph.model:TextGraph",
}
"""Module and class of each, by name. A worker imports that of its study alone, which spares it the
seconds that torch and the like take."""

NETWORKS = tuple(name for name, place in MODELS.items() if place.startswith("neural."))
"""Those of the neural family, see :mod:`~coldray.models.neural.base`; by their place, as to import them takes
seconds."""


def model_type(name: str) -> type[Recommender[Any]]:
    """Return the model class called `name`.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if name not in MODELS:
        raise ConfigError(f"Unknown model {name!r}.{nearest(name, MODELS)} Known models: {choices(MODELS)}.")
    module, _, kind = MODELS[name].partition(":")
    found: type[Recommender[Any]] = getattr(import_module(f"coldray.models.{module}"), kind)
    return found
