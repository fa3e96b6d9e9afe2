"""The fit of a bundle in a process of its own: what kills it costs the bundle alone, not the job."""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from threadpoolctl import threadpool_limits

from coldray.bundle.fitting import even_bundle, fit_bundle
from coldray.bundle.io import save_bundle
from coldray.bundle.people import BY_DEFAULT, OfAskers
from coldray.core.device import cpu_count
from coldray.core.errors import BundleFitError, ColdrayError, ModelError
from coldray.data.dataset import Dataset
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.models.base import Recommender
from coldray.models.notes import kept_warnings
from coldray.training.cluster.mailbox import Delivery, Forwarding, ListenerOf, new_mailbox
from coldray.training.options import FitConfig
from coldray.training.progress import ParameterCount, TrainingListener, TrainingListeners, TrainingPlace

_CRASH = "bundle-fit.crash"
"""The file, beside the bundle, where the process says where it was when a signal ended it."""
_RESUME = (
    "What was tested is recorded, in the report and logged. --resume goes on with the bundle alone; if it dies again, "
    "give it more memory, fewer items (filters), or name another form of the model in the study file."
)


def fit_on_worker(
    winner: Recommender[Any],
    dataset: Dataset,
    features: FeatureConfig,
    manifest: Mapping[str, Any],
    folder: Path,
    listener_of: ListenerOf | None = None,
    *,
    fit: FitConfig = FitConfig(),
    even: bool = False,
    gpus: float = 0.0,
    askers: OfAskers = BY_DEFAULT,
) -> tuple[str, ...]:
    """Fit `winner` on every interaction of `dataset`, on this node, and write the bundle to `folder`.

    Parameters
    ----------
    listener_of
        Gives the listener of each training of the fit.
    fit
        How it is fitted.
    even
        As of :func:`~coldray.bundle.fitting.even_bundle`.
    gpus
        GPUs that are reserved for it.
    askers
        What is read of who asks, if anything is.

    Returns
    -------
    notes
        What the fit had to leave out or fall back on.

    Raises
    ------
    BundleFitError
        If the process ended, by a signal or for want of memory.
    ColdrayError
        What :func:`~coldray.bundle.fitting.fit_bundle` and :func:`~coldray.bundle.io.save_bundle` raise.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    crash = folder.parent / _CRASH
    mailbox = new_mailbox()
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    fitting = _fit.options(scheduling_strategy=here, num_gpus=gpus).remote(
        winner, [ray.put(dataset)], (features, askers), dict(manifest), fit, even, folder, crash, mailbox
    )
    try:
        with Delivery(mailbox, listener_of or (lambda _: TrainingListener())):
            notes: list[str] = ray.get(fitting)
            return tuple(notes)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ColdrayError):
            raise error.cause from None
        raise ModelError(
            f"{winner.name} could not be fitted for the bundle: {error.cause or error}. {_RESUME}"
        ) from error
    except ray.exceptions.RayError as error:
        raise BundleFitError(
            f"The process that fitted {winner.name} for the bundle {_cause(error, crash)}. {_RESUME}"
        ) from error
    except BaseException:  # who interrupts the job ends the fit too
        ray.cancel(fitting, force=True)
        raise
    finally:
        crash.unlink(missing_ok=True)


def _cause(error: ray.exceptions.RayError, crash: Path) -> str:
    """Return how a process ended, in words."""
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "was ended by Ray, as the node had no memory left"
    told = crash.read_text(encoding="utf-8", errors="replace") if crash.is_file() else ""
    if not told:
        return "was killed without a word, which most often is the kernel's doing, for want of memory"
    signal = told.splitlines()[0].removeprefix("Fatal Python error: ")
    place = next((line.strip() for line in told.splitlines() if line.lstrip().startswith("File ")), "")
    return f"died of a signal ({signal}){f' at {place}' if place else ''}"


@ray.remote(num_cpus=0, max_retries=0, max_calls=1)
def _fit(
    winner: Recommender[Any],
    data: list[ray.ObjectRef[Dataset]],
    features: tuple[FeatureConfig, OfAskers],
    manifest: dict[str, Any],
    fit: FitConfig,
    even: bool,
    folder: Path,
    crash: Path,
    mailbox: Any,
) -> list[str]:
    """Fit and save with all threads of the node: no trial runs beside it."""
    os.environ["OMP_NUM_THREADS"] = str(cpu_count())  # for what is loaded from now on
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(cpu_count())
    with ExitStack() as stack:
        faulthandler.enable(stack.enter_context(crash.open("w", encoding="utf-8")), all_threads=False)
        stack.callback(faulthandler.enable)
        stack.enter_context(threadpool_limits(cpu_count()))
        notes = stack.enter_context(kept_warnings())
        count = ParameterCount()
        options = fit.options(TrainingListeners(Forwarding(mailbox, TrainingPlace("bundle")), count))
        bundle = fit_bundle(winner, ray.get(data[0]), FeatureEncoder(features[0]), manifest, options, features[1])
        bundle, note = even_bundle(bundle) if even else (bundle, None)
        form = bundle.lists_form
        trained = {"n_parameters": count.total} if count.total else {}
        save_bundle(replace(bundle, manifest={**bundle.manifest, "lists": asdict(form), **trained}), folder)
    return [*notes, *([] if note is None else [note]), *([] if form.exact else [form.told])]
