"""How the service runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from coldray.bundle import MIN_ITEM_OVERLAP
from coldray.core.commands import called
from coldray.core.environment import variable
from coldray.core.errors import ConfigError
from coldray.core.spelling import nearest
from coldray.serving.admission.access import KeyEntry, Keyring, key_lines, read_keys
from coldray.serving.admission.limits import Limits
from coldray.serving.exploration.explore import ExplorationConfig
from coldray.serving.live.cache import SCHEMES, KeptLists, ListCache, MemoryCache, RedisCache
from coldray.serving.live.model import LiveModel
from coldray.serving.live.registry import FolderSource, ModelSource, RegistrySource
from coldray.serving.live.store import Store
from coldray.serving.live.versions import Role, ServedModels

_ENVIRONMENT = "env:"
"""Before the name of an environment variable that holds a value."""


class ServiceSettings(BaseModel):
    """Where the model and the store are, and how much is taken on at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tracking_uri: str = "sqlite:///mlflow.db"
    """The MLflow registry."""
    model_name: str | None = None
    """Name of the registered model."""
    alias: str = "champion"
    bundle: Path | None = None
    """A folder to serve in the place of a registered model."""
    store: str = "sqlite:///coldray-store.db"
    """URL of the database of new items and feedback; replicas on several nodes need one that all reach. ``env:NAME``
    takes it from an environment variable of the replica: the place for one with a password."""
    replicas: PositiveInt = 1
    max_replicas: PositiveInt | None = None
    """Serve adds replicas up to so many while there is more to do, and ends them again; `replicas` stay as they are
    unless given."""
    target_ongoing: PositiveFloat = 16.0
    """Requests that a replica then has at once on average: with more Serve adds one."""
    gpus: NonNegativeFloat = 0.0
    """GPUs, or a share of one, of each replica."""
    max_batch: PositiveInt = 32
    """Lists that are made together at most."""
    batch_wait_s: NonNegativeFloat = 0.0
    """How long the first of a batch waits for others."""
    max_ongoing: PositiveInt = 64
    """Requests that a replica works on at once, or nearly so."""
    max_queued: NonNegativeInt = 128
    """Requests that wait beyond; more are answered with 503."""
    timeout_s: PositiveFloat = 10.0
    """After which a request is answered with 408."""
    poll_s: PositiveFloat = 0.5
    """How often a replica looks for another champion, new items and feedback."""
    threads: PositiveInt = 1
    """BLAS threads of a replica."""
    max_body_bytes: PositiveInt = Field(default=1 << 20)
    cache: str = "memory"
    """Where lists of users are kept that may be asked for again: ``memory``, of each replica; the URL of a Redis, such
    as ``redis://host:6379/0``, for all of them; or ``none``."""
    cache_ttl_s: PositiveFloat = 60.0
    """Age up to which a kept list is given. Feedback, items and promotions show at once whatever it is."""
    cache_entries: PositiveInt = 50_000
    """Lists that a replica keeps in memory at most, a list of ten being some kilobytes."""
    cache_bytes: PositiveInt = 64 << 20
    """What they may take."""
    canary_alias: str | None = None
    """Alias of a version that answers some of the users in the champion's place; there may be none with it."""
    canary_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Of the users. A user stays with the model that answers them, and a larger share adds users to a smaller one."""
    shadow_alias: str | None = None
    """Alias of a version that is asked too, once the client has its answer: how much the lists have in common is a
    metric, ``coldray_shadow_overlap``."""
    shadow_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Of the lists that are made for single requests; those that were kept are not compared again."""
    named_versions: NonNegativeInt = 2
    """Other versions that a replica keeps because requests named them, each taking the memory of a model; 0: none."""
    min_item_overlap: Annotated[float, Field(ge=0, le=1)] = MIN_ITEM_OVERLAP
    """Share of the items of the champion that is served which a version has to know to take its place, or another role.
    It must also be of ids of the same types, have the attributes that the champion reads, and not be of generated data
    over real ones; a version that is not is refused, and the one before goes on, after a restart too. 0 lets any
    version follow any other, whatever its data."""
    exploration: ExplorationConfig = ExplorationConfig()
    """Whether items are tried out, and how; lists in which they are come from no cache."""
    keys: tuple[str, ...] = ()
    """Who may ask: lines ``NAME sha256:HASH [RATE]`` of `access`; everybody if there are none."""
    keys_file: Path | None = None
    """A file of more such lines, which each replica reads as it starts: where a Kubernetes Secret puts them."""
    open: bool = False
    """Let everybody ask: a config file without keys has to say so."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.model_name is None) == (self.bundle is None):
            raise ConfigError("Name either a registered model (--model-name) or a folder with a bundle (--bundle).")
        return self

    @model_validator(mode="after")
    def _aliases_of_a_registry(self) -> Self:
        for field in ("canary_alias", "shadow_alias"):
            alias = getattr(self, field)
            if alias is not None and self.bundle is not None:
                raise ConfigError(f"{field}: a folder has no aliases. Serve a registered model (--model-name).")
            if alias == self.alias:
                raise ConfigError(f"{field}: {alias!r} is the alias of the model itself. Give it one of its own.")
        return self

    @model_validator(mode="after")
    def _replicas_in_order(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ConfigError(
                f"max_replicas: {self.max_replicas} is fewer than the {self.replicas} replicas there are always."
            )
        return self

    @model_validator(mode="after")
    def _open_or_not(self) -> Self:
        if self.open and self.has_keys:
            raise ConfigError("open: true lets everybody ask, and there are keys. Leave one of them out.")
        return self

    @field_validator("keys")
    @classmethod
    def _readable(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        return key_lines("\n".join(lines)) if lines else ()

    @field_validator("cache")
    @classmethod
    def _known_cache(cls, cache: str) -> str:
        if cache.startswith(SCHEMES):
            RedisCache(cache, ttl_s=1.0)
        elif cache not in ("memory", "none"):
            raise ConfigError(
                f"cache: {cache!r} is neither 'memory' nor 'none' nor the URL of a Redis, such as redis://host:6379/0."
                f"{nearest(cache, ('memory', 'none'))}"
            )
        return cache

    @property
    def has_keys(self) -> bool:
        """Whether one has to have a key."""
        return bool(self.keys) or self.keys_file is not None

    def require_access(self) -> None:
        """Check that it was said who may ask.

        Raises
        ------
        ConfigError
            If there are no keys, and nobody said that everybody may.
        """
        if not self.has_keys and not self.open:
            raise ConfigError(
                "keys: there are none, and a cluster's service can be reached from other machines. Make one with "
                f"`{called('serve')} --new-key NAME` and put the line it prints into keys, or the path of a file of "
                "such lines into keys_file; or let everybody ask with `open: true`."
            )

    def key_lines(self) -> tuple[str, ...]:
        """Return the lines of `keys` and of `keys_file`.

        Raises
        ------
        ConfigError
            If the file cannot be read, has no line, or has a name or a line that is wrong.
        """
        if self.keys_file is None:
            return self.keys
        return key_lines("\n".join((*self.keys, *read_keys(self.keys_file))))

    @property
    def at_once(self) -> int:
        """Requests that a replica has at most; the next one is answered with 503."""
        return self.max_ongoing + self.max_queued

    def limits(self) -> Limits:
        """Return what a replica takes on."""
        keys = Keyring(map(KeyEntry.parse, self.key_lines())) if self.has_keys else None
        return Limits(self.at_once, self.timeout_s, self.max_body_bytes, keys)

    def source(self) -> ModelSource:
        """Return where the model comes from."""
        if self.bundle is not None:
            return FolderSource(self.bundle)
        return RegistrySource(self.tracking_uri, str(self.model_name), self.alias)

    def served_models(self, store: Store) -> ServedModels:
        """Load the champion; return it and what follows it.

        Raises
        ------
        TrackingError
            If the registry cannot be reached or has no model with the alias.
        BundleError
            If the model cannot be read or does not pass the self-test.
        """
        aliases: dict[Role, str | None] = {"canary": self.canary_alias, "shadow": self.shadow_alias}
        return ServedModels(
            self.source(),
            lambda bundle, version: LiveModel(bundle, version, store, self.exploration),
            {role: alias for role, alias in aliases.items() if alias is not None},
            canary_share=self.canary_share,
            named=self.named_versions,
            min_item_overlap=self.min_item_overlap,
            memory=store,
        )

    def kept_lists(self) -> KeptLists:
        """Return where lists are kept."""
        cache: ListCache | None = None
        if self.cache == "memory":
            cache = MemoryCache(self.cache_ttl_s, entries=self.cache_entries, max_bytes=self.cache_bytes)
        elif self.cache != "none":
            cache = RedisCache(self.cache, self.cache_ttl_s)
        return KeptLists(cache)

    def open_store(self) -> Store:
        """Open the store.

        Raises
        ------
        ConfigError
            If its URL is in an environment variable that is not there.
        StoreError
            If it cannot be opened.
        """
        if not self.store.startswith(_ENVIRONMENT):
            return Store(self.store)
        name = self.store.removeprefix(_ENVIRONMENT)
        if not variable(name):
            raise ConfigError(f"store: the environment of the replica has no variable {name!r}. Set it to the URL.")
        return Store(variable(name))
