"""How the service runs."""

from __future__ import annotations

from pathlib import Path
from typing import Self

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

from coldray.errors import ConfigError
from coldray.serving.access import KeyEntry, Keyring, key_lines
from coldray.serving.admission import Limits
from coldray.serving.registry import FolderSource, ModelSource, RegistrySource
from coldray.serving.store import Store


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
    """URL of the database of new items and feedback; replicas on several nodes need one that all reach."""
    replicas: PositiveInt = 1
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
    keys: tuple[str, ...] = ()
    """Who may ask: lines ``NAME sha256:HASH [RATE]`` of :mod:`coldray.serving.access`; everybody if there are none."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.model_name is None) == (self.bundle is None):
            raise ConfigError("Name either a registered model (--model-name) or a folder with a bundle (--bundle).")
        return self

    @field_validator("keys")
    @classmethod
    def _readable(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        return key_lines("\n".join(lines)) if lines else ()

    @property
    def at_once(self) -> int:
        """Requests that a replica has at most; the next one is answered with 503."""
        return self.max_ongoing + self.max_queued

    def limits(self) -> Limits:
        """Return what a replica takes on."""
        keys = Keyring(map(KeyEntry.parse, self.keys)) if self.keys else None
        return Limits(self.at_once, self.timeout_s, self.max_body_bytes, keys)

    def source(self) -> ModelSource:
        """Return where the model comes from."""
        if self.bundle is not None:
            return FolderSource(self.bundle)
        return RegistrySource(self.tracking_uri, str(self.model_name), self.alias)

    def open_store(self) -> Store:
        """Open the store."""
        return Store(self.store)
