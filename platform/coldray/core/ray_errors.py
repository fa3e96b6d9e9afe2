"""Errors of Ray in one line of words: its own texts are tracebacks of other machines, and pages of advice."""

from __future__ import annotations

import re
import sys

from coldray.core.errors import ClusterError, ColdrayError

_LONGEST = 400
"""Characters of what Ray says."""
_MEANINGS = {
    "OutOfMemoryError": "a worker was ended because memory was short. Use fewer --cpus, end other processes, or use a "
    "machine with more memory",
    "OutOfDiskError": "the disk of a machine is full. Free space, or set RAY_TMPDIR to a folder on another disk",
    "ObjectStoreFullError": "the object store is full. Use fewer --cpus, or a machine with more memory",
    "RuntimeEnvSetupError": "the runtime environment of the job cannot be made. Mend it, or submit the job without it",
    "NodeDiedError": "a machine of the cluster was lost",
    "LocalRayletDiedError": "Ray's process on a machine was lost, most often for want of memory",
    "WorkerCrashedError": "a worker died, most often for want of memory or by a crash of a library",
    "ActorDiedError": "a worker died, most often for want of memory or by a crash of a library",
    "ActorUnavailableError": "a worker does not answer",
    "ObjectLostError": "a result was lost with the machine that held it",
    "OwnerDiedError": "a result was lost with the worker that had made it",
    "GetTimeoutError": "a result did not come in time",
    "TaskCancelledError": "a task was cancelled",
}
"""Names of Ray's errors, the closest to it first, and what they mean."""


def is_of_ray(error: BaseException) -> bool:
    """Return whether an error is one of Ray's; nothing is loaded to find out."""
    loaded = sys.modules.get("ray.exceptions")
    return loaded is not None and isinstance(error, loaded.RayError)


def cause_of(error: BaseException) -> BaseException:
    """Return what a task raised, of the errors that Ray has wrapped around it."""
    cause = error
    while is_of_ray(cause) and isinstance(getattr(cause, "cause", None), BaseException):
        cause = cause.cause  # type: ignore[attr-defined]
    return cause


def in_words(error: BaseException) -> str:
    """Return what happened in one line: the error of a task, or what became of its worker."""
    cause = cause_of(error)
    if not is_of_ray(cause):
        return str(cause) if isinstance(cause, ColdrayError) else f"{type(cause).__name__}: {_line(cause)}"
    for kind in type(cause).__mro__:
        if kind.__name__ in _MEANINGS:
            return f"{_MEANINGS[kind.__name__]} ({type(cause).__name__}: {_line(cause)})"
    return f"{type(cause).__name__}: {_line(cause)}"


def of_ray(error: BaseException) -> ColdrayError:
    """Return an error of ours for one of Ray's: that of the task if it was ours, else one of the cluster."""
    cause = cause_of(error)
    if isinstance(cause, ColdrayError):
        return cause
    return ClusterError(f"Work on the Ray cluster failed: {in_words(error)}. What was done before is kept.")


def _line(error: BaseException) -> str:
    """Return the line of a text that says it: the last of a traceback, the first of anything else."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    traced = any(line.startswith(("File ", "Traceback ")) for line in lines)
    return (lines[-1] if traced else lines[0])[:_LONGEST].rstrip(".")
