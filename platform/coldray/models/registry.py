"""The models a study file can name."""

from __future__ import annotations

from typing import Any

from coldray.errors import ConfigError
from coldray.models.als import ALS
from coldray.models.base import Recommender
from coldray.models.carec import CARec
from coldray.models.content_knn import ContentKNN
from coldray.models.ease import EASE
from coldray.models.gerec import GERec
from coldray.models.item_knn import ItemKNN
from coldray.models.kernel_align import KernelAlign
from coldray.models.marec import MARec
from coldray.models.marec_plus import MARecPlus
from coldray.models.mf import MF
from coldray.models.popularity import Popularity
from coldray.models.rating_knn import RatingKNN
from coldray.models.rating_svd import RatingSVD
from coldray.models.svd import SVD
from coldray.models.uarec import UARec
from coldray.models.user_knn import UserKNN
from coldray.spelling import choices, nearest

MODELS: dict[str, type[Recommender[Any]]] = {
    model.name: model
    for model in (
        MARec,
        CARec,
        UARec,
        GERec,
        MARecPlus,
        KernelAlign,
        ContentKNN,
        Popularity,
        EASE,
        SVD,
        ALS,
        ItemKNN,
        UserKNN,
        MF,
        RatingKNN,
        RatingSVD,
    )
}


def model_type(name: str) -> type[Recommender[Any]]:
    """Return the model class called `name`.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if name not in MODELS:
        raise ConfigError(f"Unknown model {name!r}.{nearest(name, MODELS)} Known models: {choices(MODELS)}.")
    return MODELS[name]
