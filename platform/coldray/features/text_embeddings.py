"""Text → a sentence embedding an item, computed once and kept on disk.

Notation used for shapes: I items, n distinct texts, d embedding dim.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import platformdirs
import scipy.sparse as sp
from pydantic import BaseModel, ConfigDict, PositiveInt
from rich.console import Console
from rich.progress import Progress
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from coldray.core.errors import ConfigError, DataError, NotFittedError, OutputError
from coldray.core.extras import require_extra
from coldray.core.files import replacing
from coldray.data.dataset import TextAttribute
from coldray.features.feature_set import VectorFeature

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

Vectors: TypeAlias = dict[bytes, npt.NDArray[np.float32]]  # unit vectors [d] by the 16-byte hash of their text
TEXTS_A_FILE = 4096
_MOST_FILES = 32
_PROBED = 8
"""Batches of a rehearsal, of as many texts each."""


class EmbeddingConfig(BaseModel):
    """Which model reads the texts, and where its answers are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """A sentence-transformers model: a local folder, or its id on the Hugging Face hub.

    The cache takes an id to mean the same model for ever; give another cache folder after its authors changed it."""
    batch_size: PositiveInt = 64
    """Texts encoded at once."""
    cache_folder: Path | None = None
    """Where embeddings are kept; the folder ``coldray/embeddings`` of the user's cache if not given."""


@dataclass(frozen=True)
class Rehearsal:
    """What it would take to encode texts on this machine."""

    missing: int
    """Different texts that the cache has not."""
    seconds: float
    """Of them, by those that were tried."""


def rehearse(texts: Sequence[str], config: EmbeddingConfig, folder: Path) -> Rehearsal:
    """Encode a few of the texts that the cache has not, and fill another cache with stand-ins for all.

    What hangs on the number of texts and on the length of a vector alone, such as the time of a fit, can be measured
    with the stand-ins; nothing else can. The cache of `config` is read and not written.

    Parameters
    ----------
    texts
        Any texts; blank ones and repetitions cost nothing.
    folder
        The cache with the stand-ins, for :attr:`EmbeddingConfig.cache_folder`.

    Raises
    ------
    ConfigError
        If the model is not on this machine; none is fetched.
    """
    wanted = {_key(text): text for text in texts if text.strip()}
    identity = _model_identity(config.model)
    known = _load(_cache_of(config) / identity, set(wanted))
    # Of every length some: a long text takes many times as long as a short one.
    missing = sorted((text for key, text in wanted.items() if key not in known), key=lambda text: (len(text), text))
    vectors, seconds = list(known.values()), 0.0
    if missing:
        model = load_model(config.model, fetch=False)
        few = missing[:: max(1, len(missing) // _PROBED**2)]
        encode_batch(model, few[:1], config.model)  # the first call sets up what later ones find
        started = time.perf_counter()
        for start in range(0, len(few), _PROBED):
            vectors.extend(encode_batch(model, few[start : start + _PROBED], config.model))
        seconds = (time.perf_counter() - started) * len(missing) / len(few)
    if wanted:
        _write(folder / identity, {key: vectors[at % len(vectors)] for at, key in enumerate(wanted)})
    return Rehearsal(len(missing), seconds)


class EmbeddingEncoder:
    """Unit-length sentence embeddings, stored as CSR; a blank text has an empty row.

    Equal bit by bit as long as the cache lasts; without it the last digits depend on the batch a text was in.
    """

    def __init__(self, config: EmbeddingConfig | None = None) -> None:
        self.config = config or EmbeddingConfig()
        self._dim: int | None = None
        self._identity: str | None = None
        self._model: SentenceTransformer | None = None
        # Of the last call: a transform after its fit encodes nothing, even where no disk can be written.
        self._recent: Vectors = {}

    @property
    def embedding_dim(self) -> int:
        """Length of an embedding; NotFittedError before :meth:`fit`."""
        if self._dim is None:
            raise NotFittedError("The embedding encoder has no dimension yet. Call fit, or from_state, first.")
        return self._dim

    def fit(self, attribute: TextAttribute) -> Self:
        """Encode the texts, which fills the cache, and note the model; errors as in :meth:`transform`."""
        self._identity = self._identity_here
        vectors = self._embed(attribute.texts) or self._embed(["."])  # some text, to see the dimension
        self._dim = len(next(iter(vectors.values())))
        return self

    def transform(self, attribute: TextAttribute) -> VectorFeature:
        """Encode texts; those seen before come from the cache.

        Returns
        -------
        VectorFeature
            float32 ``[I, d]``, rows of unit length, or empty where the text is blank.

        Raises
        ------
        ConfigError
            If the model cannot be loaded.
        DataError
            If the model gives another dimension than in the fit, or NaN or infinite values.
        """
        dim = self.embedding_dim
        if self._identity_here != self._identity:
            consequence = "new vectors may not compare with the fitted ones. Give the original model, or fit again"
            logger.warning("The embedding model %s is not the fitted one: %s.", self.config.model, consequence)
        vectors = self._embed(attribute.texts)
        if any(len(vector) != dim for vector in vectors.values()):
            raise DataError(
                f"Fitted with {dim} dimensions, but {self.config.model!r} gives others. Give the fitted model."
            )
        dense = np.zeros((len(attribute.texts), dim), np.float32)  # [I, d]
        for row, text in enumerate(attribute.texts):
            if text.strip():
                dense[row] = vectors[_key(text)]
        return VectorFeature(sp.csr_array(dense), tuple(str(number) for number in range(dim)), dense=True)

    def state(self) -> dict[str, Any]:
        """Return what :meth:`from_state` needs, as JSON values; the cache folder belongs to a machine and stays out."""
        config = self.config.model_dump(mode="json", exclude={"cache_folder"})
        return {"config": config, "embedding_dim": self.embedding_dim, "identity": self._identity}

    @classmethod
    def from_state(
        cls, state: Mapping[str, Any], *, model: str | None = None, cache_folder: Path | None = None
    ) -> Self:
        """Restore a fitted encoder from :meth:`state`.

        `model` is where this machine has the model, if not where the fit had it; `cache_folder` is as in
        :class:`EmbeddingConfig`.
        """
        config = EmbeddingConfig.model_validate({**state["config"], "cache_folder": cache_folder})
        encoder = cls(config if model is None else config.model_copy(update={"model": model}))
        encoder._dim, encoder._identity = int(state["embedding_dim"]), str(state["identity"])
        return encoder

    def __getstate__(self) -> dict[str, Any]:
        # Another process loads the weights itself, if it needs them, from what it finds under the model's name.
        return {key: value for key, value in self.__dict__.items() if key != "_identity_here"} | {"_model": None}

    @cached_property
    def _identity_here(self) -> str:
        return _model_identity(self.config.model)

    def _embed(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of all texts that are not blank: of the last call, from disk, or from the model."""
        wanted = {_key(text): text for text in texts if text.strip()}
        vectors = {key: self._recent[key] for key in wanted if key in self._recent}
        if len(vectors) < len(wanted):
            folder = _cache_of(self.config) / self._identity_here
            vectors |= _load(folder, wanted.keys() - vectors.keys())
            missing = {key: text for key, text in wanted.items() if key not in vectors}
            for part in self._encode(missing):
                _store(folder, part)
                vectors |= part
        self._recent = vectors
        return vectors

    def _encode(self, texts: Mapping[bytes, str]) -> Iterator[Vectors]:
        """Yield the vectors of `texts` in parts, each to be stored before the next is computed."""
        if not texts:
            return
        model = self._model = self._model or load_model(self.config.model)
        # Texts of like length share a batch, which is what padding costs least in.
        ordered = sorted(texts.items(), key=lambda pair: (-len(pair[1]), pair[1]))
        part: Vectors = {}
        with encoding_progress(len(ordered), self.config) as advance:
            for start in range(0, len(ordered), self.config.batch_size):
                batch = ordered[start : start + self.config.batch_size]
                matrix = encode_batch(model, [text for _, text in batch], self.config.model)
                part |= {key: vector for (key, _), vector in zip(batch, matrix, strict=True)}
                advance(len(batch))
                if len(part) >= TEXTS_A_FILE:
                    yield part
                    part = {}
        if part:
            yield part


def _cache_of(config: EmbeddingConfig) -> Path:
    return config.cache_folder or Path(platformdirs.user_cache_dir("coldray")) / "embeddings"


def _model_identity(model: str) -> str:
    """Return 32 hex digits: of a folder's content, so that it may move between machines, or of a hub model's id."""
    digest = hashlib.sha256(b"coldray embeddings 1\0")
    folder = Path(model)
    if folder.is_dir():
        for name in sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()):
            if not any(part.startswith(".") for part in name.split("/")):  # notes of git and of download tools
                with (folder / name).open("rb") as file:
                    digest.update(name.encode() + hashlib.file_digest(file, "sha256").digest())
    else:
        digest.update(model.encode())
    return digest.hexdigest()[:32]


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


def _checksum(keys: npt.NDArray[np.uint8], vectors: npt.NDArray[np.float32]) -> str:
    return hashlib.sha256(hashlib.sha256(keys.data).digest() + hashlib.sha256(vectors.data).digest()).hexdigest()


def _load(folder: Path, keys: set[bytes] | None = None) -> Vectors:
    """Return the stored vectors of `keys`, or all of them; a damaged file is left out with a warning."""
    found: Vectors = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            found |= _read(path, keys)
        except FileNotFoundError:
            continue  # another process has just merged it into a larger file
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            logger.warning("Ignoring the embedding cache file %s: %s. Its texts are encoded again.", path, error)
    return found


def _store(folder: Path, vectors: Vectors) -> None:
    """Add `vectors` as one file; merge the files once there are many, as when items arrive one at a time.

    A file never changes once written, so any number of processes may share the folder: the worst a race can do is to
    have a vector computed twice. A folder that cannot be written costs a warning: the vectors in hand are right.
    """
    try:
        _write(folder, vectors)
        files = sorted(folder.glob("*.safetensors"))
        if len(files) > _MOST_FILES:
            merged = _write(folder, _load(folder) | vectors)
            for path in files:
                if path != merged:
                    path.unlink(missing_ok=True)
    except (OutputError, OSError) as error:
        logger.warning("The embeddings are not cached: %s", error)


def _write(folder: Path, vectors: Vectors) -> Path:
    ordered = sorted(vectors)
    keys = np.frombuffer(b"".join(ordered), np.uint8).reshape(-1, 16)  # [n, 16]
    matrix = np.stack([vectors[key] for key in ordered])  # [n, d]
    # Named by its texts: encoding the texts of a damaged file again overwrites that file.
    path = folder / f"{hashlib.sha256(keys.tobytes()).hexdigest()[:32]}.safetensors"
    with replacing(path) as temporary:
        save_file({"keys": keys, "vectors": matrix}, temporary, metadata={"sha256": _checksum(keys, matrix)})
    return path


def _read(path: Path, wanted: set[bytes] | None) -> Vectors:
    """Return the wanted vectors of one cache file; ValueError if its content is not what was written."""
    with safe_open(path, framework="numpy") as file:
        keys = file.get_tensor("keys")  # [n, 16]
        position_of = {key.tobytes(): position for position, key in enumerate(keys)}
        chosen = [key for key in position_of if wanted is None or key in wanted]
        if not chosen:
            return {}
        vectors = file.get_tensor("vectors")  # [n, d]
        if _checksum(keys, vectors) != (file.metadata() or {}).get("sha256"):
            raise ValueError("its checksum does not fit its content")
    # A copy of the rows: views would keep the whole file in memory.
    return dict(zip(chosen, vectors[[position_of[key] for key in chosen]], strict=True))


def load_model(model: str, *, fetch: bool = True) -> SentenceTransformer:
    """Return the model, which may be fetched from the hub; ConfigError if it cannot be loaded."""
    require_extra("text", "A sentence model")
    # Imported here because it takes seconds, which a run without embeddings should not spend.
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    quiet = not sys.stderr.isatty() and transformers_logging.is_progress_bar_enabled()
    if quiet:
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        # Weights as safetensors only: nothing that came over a network is unpickled.
        return SentenceTransformer(model, model_kwargs={"use_safetensors": True}, local_files_only=not fetch)
    except Exception as error:  # of five libraries, each with errors of its own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"The embedding model {model!r} cannot be loaded: {reason} Check the name and the connection, or give the "
            "path of a local folder that holds a sentence-transformers model with safetensors weights."
        ) from error
    finally:
        if quiet:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def encode_batch(model: SentenceTransformer, texts: list[str], name: str) -> npt.NDArray[np.float32]:
    """Return unit vectors ``[n, d]``."""
    raw = model.encode(texts, batch_size=len(texts), convert_to_numpy=True, show_progress_bar=False)
    matrix = np.asarray(raw, np.float32)
    if not np.isfinite(matrix).all():
        raise DataError(f"The embedding model {name!r} returned NaN or infinite values. Use another model.")
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.asarray(matrix / np.where(norms > 0, norms, 1.0), np.float32)


@contextmanager
def encoding_progress(n_texts: int, config: EmbeddingConfig) -> Iterator[Callable[[int], None]]:
    """Yield a function of the number of texts done: a bar on a terminal, a line elsewhere, nothing for one batch."""
    console = Console(stderr=True)
    title = f"Encoding {n_texts:,} texts with {config.model}"
    long = n_texts > config.batch_size
    if long and not console.is_terminal:
        console.print(title, highlight=False, soft_wrap=True, markup=False)
    with Progress(console=console, disable=not (long and console.is_terminal)) as progress:
        task = progress.add_task(title, total=n_texts)
        yield lambda done: progress.advance(task, done)
