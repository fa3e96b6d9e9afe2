"""coldray: train, tune, compare and serve recommenders on a Ray cluster, cold-start items first.

What a notebook needs is here, and loaded when it is first used, so that ``import coldray`` takes no time.

>>> import coldray
>>> films = coldray.load_dataset("sample")
>>> split = coldray.split(films, "item-cold", seed=42)
>>> model = coldray.fit("marec", split)
>>> coldray.evaluate(model, split, "ndcg@10").part
'validation'
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from coldray.core.environment import yield_waiting_threads

if TYPE_CHECKING:
    from coldray.bundle.frames import ScoreParts
    from coldray.bundle.io import load_bundle
    from coldray.bundle.model import Bundle
    from coldray.core.errors import ColdrayError
    from coldray.data.dataset import Dataset
    from coldray.data.splits.items import Split
    from coldray.front.comparisons import ModelComparison, compare
    from coldray.front.data import load_dataset, split
    from coldray.front.models import Evaluation, evaluate, fit
    from coldray.front.studies import Study, tune
    from coldray.models.base import Recommender
    from coldray.training.options import FitOptions

yield_waiting_threads()

try:
    __version__ = version("coldray")
except PackageNotFoundError:  # shipped to a cluster as a py_module, not installed
    __version__ = "0+unknown"

_PLACES = {
    "load_dataset": "front.data",
    "split": "front.data",
    "fit": "front.models",
    "evaluate": "front.models",
    "load_bundle": "bundle.io",
    "tune": "front.studies",
    "Study": "front.studies",
    "compare": "front.comparisons",
    "ModelComparison": "front.comparisons",
    "ScoreParts": "bundle.frames",
    "Dataset": "data.dataset",
    "Split": "data.splits.items",
    "Recommender": "models.base",
    "Bundle": "bundle.model",
    "Evaluation": "front.models",
    "ColdrayError": "core.errors",
    "FitOptions": "training.options",
}
"""In which module of the package each name is."""

__all__ = [
    "Bundle",
    "ColdrayError",
    "Dataset",
    "Evaluation",
    "FitOptions",
    "ModelComparison",
    "Recommender",
    "ScoreParts",
    "Split",
    "Study",
    "__version__",
    "compare",
    "evaluate",
    "fit",
    "load_bundle",
    "load_dataset",
    "split",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
