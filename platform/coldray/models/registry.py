"""The models a study file can name."""

from __future__ import annotations

import inspect
from importlib.metadata import EntryPoint
from typing import Any

from pydantic import ValidationError

from coldray.core.errors import ConfigError
from coldray.core.plugins import Plugins
from coldray.core.spelling import choices, nearest
from coldray.models.base import ModelConfig, Recommender
from coldray.models.pipeline import JOINT

_OWN = {
    "marec": "marec.model:MARec",
    "carec": "transfer.carec:CARec",
    "uarec": "transfer.uarec:UARec",
    "gerec": "transfer.gerec:GERec",
    "marec_plus": "marec.plus:MARecPlus",
    "kernel_align": "kernel_align.model:KernelAlign",
    "kernel_align_users": "users.kernel:KernelAlignUsers",
    "profile_knn": "neighbours.profile:ProfileKNN",
    "popularity_by_group": "popularity.groups:PopularityByGroup",
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
    "two_tower_users": "neural.two_tower_users:TwoTowerUsers",
    "lightgcn": "neural.lightgcn:LightGCN",
    "session_gru": "neural.session_gru:SessionGRU",
    "sasrec": "neural.sequences.model:SASRec",
    "vae": "neural.vae:VAE",
    "vae_marec": "neural.vae_marec:VAEMARec",
    "ncf": "neural.ncf:NCF",
    "fm": "neural.ranking.model:FM",
    "deepfm": "neural.ranking.model:DeepFM",
    "dcn": "neural.ranking.model:DCN",
    "dropoutnet": "neural.cold.dropoutnet:DropoutNet",
    "heater": "neural.cold.heater:Heater",
    "clcrec": "neural.cold.clcrec:CLCRec",
    "gar": "neural.cold.gar:GAR",
    "aldi": "neural.cold.aldi:ALDI",
    "text_graph": "neural.text_graph.model:TextGraph",
}
"""Module and class of each of the library's own, by name. A worker imports that of its study alone, which spares it the
seconds that torch and the like take."""

NETWORKS = tuple(name for name, place in _OWN.items() if place.startswith("neural."))
"""Those of the neural family, see :mod:`~coldray.models.neural.base`; by their place, as to import them takes
seconds."""


def _fault(name: str, found: Any) -> str:
    """Return why a class of another package cannot be used as the model called `name`; nothing if it can."""
    if not (isinstance(found, type) and issubclass(found, Recommender)):
        return "is no subclass of coldray.models.base.Recommender"
    if inspect.isabstract(found):
        return f"does not implement {choices(found.__abstractmethods__)}"
    if getattr(found, "name", None) != name:
        return f"calls itself {getattr(found, 'name', None)!r}, and its `name` must be that of the entry point"
    if "options" not in inspect.signature(found.fit).parameters:
        return "has a fit without `options`, see coldray.models.base.Recommender.fit"
    parameters = getattr(found, "config_type", None)
    if not (isinstance(parameters, type) and issubclass(parameters, ModelConfig)):
        return "has no `config_type` that is a subclass of coldray.models.base.ModelConfig"
    try:
        parameters()
    except ValidationError as error:
        return f"has no valid default of its parameter {error.errors()[0]['loc'][0]!r}"
    return ""


MODELS: Plugins[type[Recommender[Any]]] = Plugins(
    "model",
    {name: EntryPoint(name, f"coldray.models.{place}", "coldray.models") for name, place in _OWN.items()},
    _fault,
)
"""By name, with those that other packages add."""


def model_type(name: str) -> type[Recommender[Any]]:
    """Return the model class called `name`, or that of the pipeline of two models, ``two_tower+deepfm``.

    Raises
    ------
    ConfigError
        If there is none.
    PluginError
        If another package adds it, and it cannot be used.
    """
    if JOINT in name:
        from coldray.models.two_stage import two_stage_type  # asks for the classes of its stages here

        return two_stage_type(name)
    if name not in MODELS:
        raise ConfigError(f"Unknown model {name!r}.{nearest(name, MODELS)} Known models: {choices(MODELS)}.")
    return MODELS[name]
