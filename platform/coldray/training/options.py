"""How fits run: what may change where and how fast a model is computed, and who hears of it, but no hyper-parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from coldray.core.device import DeviceName
from coldray.training.progress import TrainingListener


class FitConfig(BaseModel):
    """How the fits of a study run. A model reads some of it, and refuses what it would not heed."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    workers: PositiveInt = 1
    """Workers of the Ray cluster that share a fit; one fits in the calling process. What is learnt is the same but for
    rounding."""
    device: DeviceName = "auto"
    """Where matrices are computed; ``auto`` takes CUDA where torch finds it. Networks are trained on the CPU unless it
    is ``cuda``: each worker then has a GPU of the Ray cluster."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the steps of a training. ``auto``: bfloat16 on GPUs that have it, float16 on other GPUs, float32 on the CPU.
    Weights stay float32."""
    checkpoint_every: PositiveInt = 1
    """Epochs from one checkpoint to the next."""
    checkpoint_every_steps: PositiveInt | None = None
    """Steps from one checkpoint within an epoch to the next, for long epochs; None takes none within epochs."""
    num_to_keep: PositiveInt = 2
    """Checkpoints kept. Each holds the best weights so far, so neither they nor the last position is ever deleted."""
    max_failures: NonNegativeInt = 3
    """Times that lost workers are replaced before training fails; each time it goes on from the last checkpoint."""

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Show what is not as by default."""
        for name, value in super().__repr_args__():
            if value != type(self).model_fields[str(name)].default:
                yield name, value

    def options(self, listener: TrainingListener | None = None, checkpoints: Path | None = None) -> FitOptions:
        """Return the options of one fit that runs like this."""
        asked = {name: getattr(self, name) for name in FitConfig.model_fields}
        return FitOptions(**asked, listener=listener or TrainingListener(), checkpoints=checkpoints)


class FitOptions(FitConfig):
    """How one fit runs, and who hears of it: ``coldray.fit("ease", films, options=FitOptions(workers=2))``."""

    listener: TrainingListener = Field(default_factory=TrainingListener, repr=False)
    """Told of every epoch of its trainings."""
    checkpoints: Path | None = None
    """Folder from whose checkpoints its trainings go on, and where they leave their own; all nodes of a cluster must
    share it. None keeps none beyond the training. A training that had ended is not repeated."""


TRAINING_OPTIONS = tuple(FitConfig.model_fields)
"""What a model heeds that is trained: all of it."""
ONCE_PARAMETERS = (*FitConfig.model_fields, "use_gpu")
"""What earlier versions had among the parameters of models."""


_EARLIER_SEEDS = ("train_seed", "learning_seed", "kernel_seed", "start_seed", "forest_seed")
"""What `seed` was called; of several in a stored configuration the first counts."""


def current_names(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters of a model as they are called now, of a file that was written before."""
    earlier = [parameters[name] for name in _EARLIER_SEEDS if name in parameters]
    seed = {"seed": earlier[0]} if earlier else {}
    return seed | {name: value for name, value in parameters.items() if name not in _EARLIER_SEEDS}


def option_words(name: str) -> str:
    """Return where to say how a fit runs, as no parameter of a model does."""
    given = "device: cuda" if name == "use_gpu" else f"{name}: …"
    return (
        f"{name} says how a fit runs and is no parameter of the model. Write fit: {{{given}}} in the study file, or "
        "give options=FitOptions(…) to the fit."
    )
