"""Fold workers in the process of the test: an actor takes seconds to start, and most tests are of the driver."""

from typing import Any

import ray

from coldray.experiments.ablation.folds import FoldWorkers, _FoldWorker

Worker = _FoldWorker.__ray_metadata__.modified_class
"""The class that the actors are of."""


class LocalWorkers(FoldWorkers):
    """Calls what its workers would be called for at once, and keeps the outcome where theirs would be."""

    def of(self, position: int) -> "LocalWorkers":
        if not hasattr(self, "worker"):
            self.worker = Worker(self.plan)
        return self

    def __getattr__(self, name: str) -> "Call":
        if name not in ("validate", "test"):
            raise AttributeError(name)
        return Call(getattr(self.worker, name))


class Call:
    def __init__(self, method: Any) -> None:
        self.method = method

    def remote(self, *given: Any) -> Any:
        return ray.put(self.method(*[ray.get(v) if isinstance(v, ray.ObjectRef) else v for v in given]))
