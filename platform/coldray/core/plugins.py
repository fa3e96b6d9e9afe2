"""The lists of models, sources and metrics: the library's own, and what other packages add by entry points."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from coldray.core.errors import MissingExtraError, PluginError

T = TypeVar("T")


class Plugins(Mapping[str, T], Generic[T]):
    """What there is of a kind, by name: the library's own first.

    Another package adds to it by an entry point of the group that is called ``coldray.`` and the kind in the plural.
    Names are found without loading anything; what is behind one is loaded when it is asked for.

    Parameters
    ----------
    kind
        ``model``, ``source`` or ``metric``.
    own
        The library's own; an entry point in the place of what takes long to import.
    fault
        Tells why something cannot be of this kind under a name, as ``it …``; nothing if it can.
    """

    def __init__(
        self, kind: str, own: Mapping[str, T | EntryPoint], fault: Callable[[str, Any], str] = lambda *_: ""
    ) -> None:
        self._kind, self._own, self._fault = kind, own, fault

    @cached_property
    def _added(self) -> Mapping[str, list[EntryPoint]]:
        """Entry points of other packages, by name; several of one name where packages do not agree."""
        found = defaultdict(list)
        for point in sorted(entry_points(group=f"coldray.{self._kind}s"), key=lambda point: point.name):
            found[point.name].append(point)
        return dict(found)

    def __getitem__(self, name: str) -> T:
        """Return what is called `name`.

        Raises
        ------
        KeyError
            If nothing is.
        PluginError
            If another package adds it and it cannot be loaded or used, or the name is taken.
        """
        points = self._added.get(name, [])
        if len(points) + (name in self._own) > 1:
            others = [*(["coldray itself"] if name in self._own else []), *map(_package_of, points[1:])]
            raise self._error(points[0], f"takes a name that {' and '.join(others)} has, too", "another name")
        if points:
            return self._load(points[0])
        own: Any = self._own[name]
        return own.load() if isinstance(own, EntryPoint) else own  # type: ignore[no-any-return]

    def _load(self, point: EntryPoint) -> T:
        try:
            found = point.load()
        except Exception as error:  # whatever a module of others does when it is imported
            reason = f"cannot be loaded ({type(error).__name__}: {error})"
            raise self._error(point, reason, "what it lacks") from error
        if fault := self._fault(point.name, found):
            raise self._error(point, f"is not of this kind: it {fault}", "what is expected")
        return found  # type: ignore[no-any-return]

    def _error(self, point: EntryPoint, reason: str, wanted: str) -> PluginError:
        return PluginError(
            f"The {self._kind} {point.name!r} of {_package_of(point)} (entry point {point.name} = {point.value} of "
            f"{point.group}) {reason}. Give it {wanted}, or uninstall the package."
        )

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._added

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from (name for name in self._added if name not in self._own)

    def __len__(self) -> int:
        return len({*self._own, *self._added})

    def package_of(self, name: str) -> str:
        """Return the package that adds a name, with its version, such as ``my-models 1.0``; nothing for our own."""
        return _package_of(self._added[name][0]) if name in self._added else ""

    @cached_property
    def usable(self) -> tuple[Mapping[str, T], list[str]]:
        """All that can be used, by name, and why the rest cannot: a broken package costs itself alone.

        Raises
        ------
        PluginError
            If a name of the library's own is taken.
        """
        found, faults = {}, []
        for name in self:
            try:
                found[name] = self[name]
            except PluginError as error:
                if name in self._own:
                    raise
                faults.append(str(error))
            except MissingExtraError as error:
                faults.append(str(error))
        return found, faults


def plugin_packages() -> dict[str, str]:
    """Return the version of every package that adds something, by its name: workers must have the same."""
    points = [point for kind in ("models", "sources", "metrics") for point in entry_points(group=f"coldray.{kind}")]
    return {point.dist.name: point.dist.version for point in points if point.dist is not None}


def _package_of(point: EntryPoint) -> str:
    return "another package" if point.dist is None else f"{point.dist.name} {point.dist.version}"
