"""The models a study file can name."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from coldray.errors import ConfigError
from coldray.models.base import Recommender
from coldray.spelling import choices, nearest

MODELS = {
    "marec": "MARec",
    "carec": "CARec",
    "uarec": "UARec",
    "gerec": "GERec",
    "marec_plus": "MARecPlus",
    "kernel_align": "KernelAlign",
    "content_knn": "ContentKNN",
    "popularity": "Popularity",
    "ease": "EASE",
    "svd": "SVD",
    "als": "ALS",
    "item_knn": "ItemKNN",
    "user_knn": "UserKNN",
    "mf": "MF",
    "rating_knn": "RatingKNN",
    "rating_svd": "RatingSVD",
    "two_tower": "TwoTower",
    "lightgcn": "LightGCN",
    "session_gru": "SessionGRU",
    "vae": "VAE",
    "vae_marec": "VAEMARec",
    "ncf": "NCF",
    "text_graph": "TextGraph",
}
"""Classes by name; each is in the module of that name. A worker imports that of its study alone, which spares it the
seconds that torch and the like take."""

NETWORKS = ("ncf", "vae", "vae_marec", "lightgcn", "two_tower", "text_graph", "session_gru")
"""Those of the neural family, see :mod:`~coldray.models.neural`; told here, as to import them takes seconds."""


def model_type(name: str) -> type[Recommender[Any]]:
    """Return the model class called `name`.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if name not in MODELS:
        raise ConfigError(f"Unknown model {name!r}.{nearest(name, MODELS)} Known models: {choices(MODELS)}.")
    found: type[Recommender[Any]] = getattr(import_module(f"coldray.models.{name}"), MODELS[name])
    return found
