"""Results that several configurations share, computed once.

A model asks for what does not depend on its whole configuration through :meth:`Computations.get`. Alone, a model
gets a plain cache; in a study the same calls are answered from the cluster's object store.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from coldray.training.options import FitOptions

P = ParamSpec("P")
T = TypeVar("T")


class _Keyed(Protocol):
    """Data with a name that tells it from other data."""

    @property
    def key(self) -> str:
        """Unique among the data of one study."""


D = TypeVar("D", bound=_Keyed)


@dataclass(frozen=True)
class Shared:
    """A parameter of a shared computation that is itself the shared result of a function of the same data."""

    function: Callable[..., Any]
    """A module-level function of the data."""
    parameters: Mapping[str, Any]
    """Plain values that it is called with."""

    def __repr__(self) -> str:
        return computation_key(self.function, "", dict(self.parameters))


def result_of(function: Callable[Concatenate[D, P], T], /, *args: P.args, **parameters: P.kwargs) -> T:
    """Return what stands for ``function(data, **parameters)`` among the parameters of a shared computation.

    :meth:`Computations.get` puts the result in its place. Positional parameters are refused.
    """
    _check_named(function, args)
    return cast(T, Shared(function, parameters))


class Computations:
    """A cache of functions of a training set, in this process."""

    def __init__(self) -> None:
        self._results: dict[str, Any] = {}
        self._latest: dict[str, tuple[Hashable, Any]] = {}

    def get(self, function: Callable[Concatenate[D, P], T], data: D, /, *args: P.args, **parameters: P.kwargs) -> T:
        """Return ``function(data, **parameters)``, computing it the first time it is asked for.

        Parameters
        ----------
        function
            A module-level function; it must not depend on anything but its arguments.
        data
            Told from other data by its ``key``.
        **parameters
            Plain values, told from others by their ``repr``, or :func:`result_of` another function. Positional ones
            are refused. :class:`~coldray.training.options.FitOptions` tell nothing apart: whoever asks first says how
            it is computed.
        """
        _check_named(function, args)
        key = computation_key(function, data.key, parameters)
        if key not in self._results:
            resolved: Any = {
                name: self.get(value.function, data, **value.parameters) if isinstance(value, Shared) else value
                for name, value in parameters.items()
            }
            self._results[key] = function(data, **resolved)  # type: ignore[call-arg]
        result: T = self._results[key]
        return result

    def latest(self, kind: str, key: Hashable, make: Callable[[], T]) -> T:
        """Return ``make()``, or what it made the last time for this kind of result if the key is still the same.

        For what is made of shared results, in this process: configurations with the same key that come one after the
        other make it once, and no more than one result a kind is held.
        """
        if kind not in self._latest or self._latest[kind][0] != key:
            self._latest[kind] = (key, make())
        result: T = self._latest[kind][1]
        return result


def _check_named(function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if args:
        raise TypeError(f"{function.__name__} was given positional parameters; name them.")


def computation_key(function: Callable[..., Any], data: str, parameters: dict[str, Any]) -> str:
    """Return the name under which a result of the data with this key is shared."""
    told = sorted(name for name, value in parameters.items() if not isinstance(value, FitOptions))
    listed = ", ".join(f"{name}={parameters[name]!r}" for name in told)
    return f"{function.__module__}.{function.__qualname__}({data}; {listed})"
