"""The models that a replica serves: which version has which role, who is answered by which, and how they change.

The champion answers. A canary answers a share of the users in its place, a shadow is asked too and its answers are
thrown away; both are versions of the same registered model, each followed by an alias. Any other version is loaded when
a request names it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Literal, Protocol, TypeAlias, get_args

from coldray.bundle import MIN_ITEM_OVERLAP
from coldray.bundle.family import refusal
from coldray.bundle.model import Bundle
from coldray.core.errors import ColdrayError, ConfigError, TrackingError, UnknownIdError
from coldray.serving.api.schemas import RecommendRequest
from coldray.serving.engine.ids import whole_number
from coldray.serving.engine.queries import Answer, Query
from coldray.serving.live.cache import canonical
from coldray.serving.live.model import LiveModel, ModelVersion
from coldray.serving.live.rare_warning import RareWarning
from coldray.serving.live.registry import ModelSource

Role: TypeAlias = Literal["champion", "canary", "shadow"]
_MOST_LOADING = 4
"""Versions that wait to be loaded because requests named them; a request for one more is refused."""
_KEPT_REFUSALS = 100
logger = logging.getLogger("coldray.serving")


class _Memory(Protocol):
    """Knows which version of a model was served last, whatever process served it."""

    def champion(self, name: str) -> tuple[str, str] | None:
        """Return its number and its identity; None if none was."""

    def put_champion(self, name: str, version: str, identity: str) -> None:
        """Keep which version is served now."""


class ServedModels:
    """Live models by role and by version, each loaded once."""

    def __init__(
        self,
        source: ModelSource,
        living: Callable[[Bundle, ModelVersion], LiveModel],
        aliases: Mapping[Role, str] | None = None,
        canary_share: float = 0.0,
        named: int = 2,
        *,
        min_item_overlap: float = MIN_ITEM_OVERLAP,
        memory: _Memory | None = None,
    ) -> None:
        """Load the champion: the one that has the alias, unless it must not follow the one that was served last.

        Parameters
        ----------
        source
            Where models come from.
        living
            Makes a bundle follow the store.
        aliases
            Of the canary and of the shadow, if there are to be any.
        canary_share
            Share of the users that the canary answers.
        named
            Versions without a role that are kept, those that requests named last; if 0, requests may name none.
        min_item_overlap
            Share of the champion's items that a version has to know to get a role; 0 lets any version have any.
        memory
            Knows which version was served last.
        """
        self.source = source
        self._living, self._aliases, self._canary_share = living, dict(aliases or {}), canary_share
        self._most_named = named
        self._min_item_overlap, self._memory = min_item_overlap, memory
        self._asked: OrderedDict[ModelVersion, LiveModel] = OrderedDict()
        self._refused: dict[Role, tuple[ModelVersion, str]] = {}
        self._unfit: OrderedDict[ModelVersion, None] = OrderedDict()
        self._fetching: dict[ModelVersion, asyncio.Task[LiveModel | ColdrayError]] = {}
        self._loading, self._changing = asyncio.Lock(), asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None
        self._warn = RareWarning(logger)
        self._roles: dict[Role, LiveModel] = {"champion": self._first(source.current())}
        self._remember()

    def _first(self, wanted: ModelVersion) -> LiveModel:
        """Return the champion to begin with: a replica that starts does not serve what the others have refused."""
        live = self._living(self.source.load(wanted), wanted)
        last = None if self._memory is None else self._memory.champion(wanted.name)
        before = last and ModelVersion(wanted.name, *last)
        if before is None or before == wanted:
            return live
        try:
            if self.source.named(before.version) != before:
                return live
            old = self._living(self.source.load(before), before)
        except ColdrayError as error:
            logger.warning("%s, which was served last, cannot be held against %s: %s", before, wanted, error)
            return live
        reason = self._unfit_to_follow(live, old)
        if reason is None:
            return live
        self._refuse("champion", wanted, ConfigError(reason))
        return old

    def _unfit_to_follow(self, new: LiveModel, champion: LiveModel) -> str | None:
        """Return why a model must not have a role beside or after the champion."""
        if not self._min_item_overlap:
            return None
        reason = refusal(new.family, champion.family, self._min_item_overlap)
        return reason and f"{reason}. {champion.version} goes on; min_item_overlap 0 lets any version follow"

    def _refuse(self, role: Role, version: ModelVersion, error: Exception) -> None:
        self._refused[role] = version, str(error)
        logger.error("Version %s is refused as %s: %s", version, role, error)

    @property
    def refusals(self) -> dict[ModelVersion, str]:
        """Why versions whose aliases give them a role do not have it."""
        return {version: f"as {role}: {reason}" for role, (version, reason) in self._refused.items()}

    def _remember(self) -> None:
        if self._memory is not None:
            version = self.champion.version
            self._memory.put_champion(version.name, version.version, version.identity)

    # ---- who answers

    @property
    def champion(self) -> LiveModel:
        """The model that answers unless something else is said."""
        return self._roles["champion"]

    @property
    def shadow(self) -> LiveModel | None:
        """The model whose answers are compared with those of others."""
        return self._roles.get("shadow")

    def roles(self) -> list[tuple[Role, ModelVersion, float]]:
        """Return which version has which role, and the share of the users that it answers."""
        canary = self._canary_share if "canary" in self._roles else 0.0
        shares: dict[Role, float] = {"champion": round(1 - canary, 12), "canary": canary, "shadow": 0.0}
        return [(role, self._roles[role].version, shares[role]) for role in get_args(Role) if role in self._roles]

    def of_role(self, role: Role) -> LiveModel:
        """Return the model of a role that there is."""
        return self._roles[role]

    def chosen(self, request: RecommendRequest) -> LiveModel:
        """Return the model that answers a request which names no version: the canary, or the champion."""
        canary = self._roles.get("canary")
        return canary if canary is not None and _place_of(request) < self._canary_share else self.champion

    async def asked(self, request: RecommendRequest) -> LiveModel:
        """Return the model that answers a request.

        Raises
        ------
        UnknownIdError
            If it names a version that is not there.
        ConfigError
            If it names one that cannot be served.
        TrackingError
            If the version has to be fetched and the registry cannot be reached, or is asked for too much.
        """
        if request.version is None:
            return self.chosen(request)
        live = next((live for live in self._all() if live.version.version == request.version), None)
        wanted = None if live is None else live.version
        if live is None or wanted is None:
            wanted = await asyncio.to_thread(self.source.named, request.version)
            live = self._held(wanted) or await self._fetched(wanted)
        if wanted in self._asked:
            self._asked.move_to_end(wanted)
        return live

    def _held(self, version: ModelVersion) -> LiveModel | None:
        return next((live for live in self._all() if live.version == version), None)

    def _all(self) -> list[LiveModel]:
        """Return the models that are loaded, each once."""
        return list({id(live): live for live in (*self._roles.values(), *self._asked.values())}.values())

    # ---- loading

    async def _fetched(self, version: ModelVersion) -> LiveModel:
        """Load a version for a request, and keep it; all who ask for it meanwhile wait for the same."""
        if not self._most_named:
            raise ConfigError(f"version: {version.version!r} is not served now, and this service loads no others.")
        if version in self._unfit:
            raise _unfit(version)
        task = self._fetching.get(version)
        if task is None:
            if len(self._fetching) >= _MOST_LOADING:
                raise TrackingError(f"{_MOST_LOADING} versions are being loaded; ask for another in a while.")
            task = self._fetching[version] = asyncio.get_running_loop().create_task(self._fetch(version))
        found = await asyncio.shield(task)  # one who waits no longer takes nothing from the others
        if isinstance(found, ColdrayError):
            raise found
        return found

    async def _fetch(self, version: ModelVersion) -> LiveModel | ColdrayError:
        try:
            live = await self._loaded(version)
        except TrackingError as error:
            return error
        except Exception as error:
            logger.error("Version %s, which a request named, cannot be served: %s", version, error)
            self._unfit[version] = None
            while len(self._unfit) > _KEPT_REFUSALS:
                self._unfit.popitem(last=False)
            return _unfit(version)
        else:
            self._asked[version] = live
            while len(self._asked) > self._most_named:
                self._asked.popitem(last=False)
            return live
        finally:
            del self._fetching[version]

    async def _loaded(self, version: ModelVersion) -> LiveModel:
        """Return a version that is loaded, or load it; one at a time, as models are large."""
        async with self._loading:
            held = self._held(version)
            if held is not None:
                return held
            bundle = await asyncio.to_thread(self.source.load, version)
            return await asyncio.to_thread(self._living, bundle, version)

    # ---- keeping up to date

    async def follow(self) -> None:
        """Serve the versions that the aliases point to now, and take in what the store has; nothing is raised."""
        for role in get_args(Role):
            if role == "champion" or role in self._aliases:
                await self._tried(role, self._follow(role))
        await self._tried("champion", self._forget_replaced())
        await self._tried("champion", self.refresh())

    async def _tried(self, role: Role, act: Awaitable[None]) -> None:
        try:
            await act
        except ColdrayError as error:  # the registry or the store is away: what is served goes on
            self._warn("The %s cannot be followed, %s goes on: %s", role, self.champion.version, error)
        except Exception:
            logger.exception("Still serving %s.", self.champion.version)

    async def _follow(self, role: Role) -> None:
        """Give a role to the version that its alias points to; one that does not load or is not fit is refused."""
        wanted = await asyncio.to_thread(self._wanted, role)
        before = self._roles.get(role)
        if role in self._refused and wanted != self._refused[role][0]:
            del self._refused[role]
        if wanted == (before and before.version) or role in self._refused:
            return
        fresh = None
        if wanted is not None:
            try:
                loaded = await self._loaded(wanted)
                reason = await asyncio.to_thread(self._unfit_to_follow, loaded, self.champion)
                if reason is not None:
                    raise ConfigError(reason)
                fresh = loaded
            except TrackingError:
                raise
            except Exception as error:
                self._refuse(role, wanted, error)
        await self._give(role, fresh)

    async def _forget_replaced(self) -> None:
        """Let go of versions that requests named and that were deleted since, or made again under their numbers."""
        for version in list(self._asked):
            try:
                now = await asyncio.to_thread(self.source.named, version.version)
            except UnknownIdError:
                now = None
            if now != version and self._asked.pop(version, None) is not None:
                logger.warning("%s was deleted, or made again: it is loaded anew if a request names it.", version)

    def _wanted(self, role: Role) -> ModelVersion | None:
        return self.source.current() if role == "champion" else self.source.aliased(self._aliases[role])

    async def _give(self, role: Role, live: LiveModel | None) -> None:
        """Give a role to a model, or to none; there is always a champion."""
        if live is None and role == "champion":
            return
        async with self._changing:
            if live is not None:  # nothing that came while it was loaded is missing from its first list
                await asyncio.to_thread(live.refresh)
            before = self._roles.pop(role, None)
            if live is not None:
                self._roles[role] = live
                if role == "champion":
                    await asyncio.to_thread(self._remember)
        logger.warning("The %s is %s; it was %s.", role, live and live.version, before and before.version)

    async def refresh(self) -> None:
        """Have all models take in what the store has that they have not seen.

        Those who wait for the next look share it. One who comes while the store is looked at waits for another look,
        which has what they wrote.
        """
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())
        await asyncio.shield(self._looking)

    async def _look(self) -> None:
        async with self._changing:
            self._looking = None
            for live in self._all():
                await asyncio.to_thread(live.refresh)


def _unfit(version: ModelVersion) -> ConfigError:
    return ConfigError(f"version: {version.version!r} cannot be served; the log of the service says why.")


def _place_of(request: RecommendRequest) -> float:
    """Return a number from 0 to 1 that is always the same for a user, or else for a request; evenly spread."""
    who = canonical(request) if request.user_id is None else whole_number(request.user_id)
    digest = blake2b(json.dumps(who).encode(), digest_size=8, person=b"canary").digest()
    return int.from_bytes(digest) / 2**64


def answered(asked: Sequence[tuple[LiveModel, Query]]) -> list[Answer]:
    """Return the answers of models to queries, those to one model made together."""
    answers: dict[int, Answer] = {}
    for live in {id(live): live for live, _ in asked}.values():
        places = [place for place, (wanted, _) in enumerate(asked) if wanted is live]
        answers |= zip(places, live.engine.answer([asked[place][1] for place in places]), strict=True)
    return [answers[place] for place in range(len(asked))]
