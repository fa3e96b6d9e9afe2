"""Text embeddings of many items, computed by several workers of a Ray cluster before anything is fitted.

What is computed goes where :class:`~coldray.features.text_embeddings.EmbeddingEncoder` looks first, so a study that
comes later finds all of it there. Workers only encode; what they send is stored by the calling process, part after
part: an interrupted job goes on from the last part, and no machine but this one needs the folder.

Notation used for shapes: n texts of a batch, d embedding dim.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import ray.data

from coldray.core import errors
from coldray.core.errors import ClusterError, ColdrayError
from coldray.core.masking import masked
from coldray.core.ray_errors import in_words
from coldray.data.dataset import TextAttribute
from coldray.features.text_embeddings import (
    TEXTS_A_FILE,
    EmbeddingConfig,
    EmbeddingEncoder,
    Vectors,
    encode_batch,
    encoding_progress,
    load_model,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _EmbeddingCounts:
    """What came of a job."""

    texts: int
    """Different texts that are not blank."""
    cached: int
    """Of these, how many were there before."""
    encoded: int
    """How many were encoded now."""


def embed_texts(texts: Sequence[str], config: EmbeddingConfig, *, workers: int, fewest: int = 0) -> _EmbeddingCounts:
    """Encode the texts that the cache has not, by workers of the connected cluster.

    Parameters
    ----------
    texts
        Any texts; blank ones and repetitions cost nothing.
    config
        The model, which every machine must have under its name, and the cache.
    workers
        Processes that encode, of one CPU each.
    fewest
        Fewer texts than that are encoded by the calling process: workers would still be loading the model.

    Raises
    ------
    ConfigError
        If a worker cannot load the model.
    DataError
        If the model gives NaN or infinite values.
    ClusterError
        If Ray gives up on the workers. What they had sent is kept.
    """
    wanted = {text for text in texts if text.strip()}
    encoder = _ClusterEncoder(config, workers, fewest)
    if wanted:
        encoder.fit(TextAttribute(tuple(wanted)))
    return _EmbeddingCounts(len(wanted), len(wanted) - encoder.encoded, encoder.encoded)


class _ClusterEncoder(EmbeddingEncoder):
    """An encoder of which workers of the cluster do the work.

    Parameters
    ----------
    config, workers, fewest
        As in :func:`embed_texts`.
    """

    def __init__(self, config: EmbeddingConfig, workers: int, fewest: int = 0) -> None:
        super().__init__(config)
        self.workers, self.fewest, self.encoded = workers, fewest, 0

    def _encode(self, texts: Mapping[bytes, str]) -> Iterator[Vectors]:
        """Yield the vectors of `texts` in parts, as they are finished."""
        for part in super()._encode(texts) if len(texts) < self.fewest else self._encode_apart(texts):
            self.encoded += len(part)
            yield part

    def _encode_apart(self, texts: Mapping[bytes, str]) -> Iterator[Vectors]:
        part: Vectors = {}
        with encoding_progress(len(texts), self.config) as advance:
            for vectors in _encoded(texts, self.config, self.workers):
                part |= vectors
                advance(len(vectors))
                if len(part) >= TEXTS_A_FILE:
                    yield part
                    part = {}
        if part:
            yield part


def _encoded(texts: Mapping[bytes, str], config: EmbeddingConfig, workers: int) -> Iterator[Vectors]:
    """Yield the vectors of a batch of texts at a time."""
    if not texts:
        return
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False  # there is one of all texts
    # Texts of like length share a batch, which is what padding costs least in.
    keys, ordered = zip(*sorted(texts.items(), key=lambda pair: (-len(pair[1]), pair[1])), strict=True)
    table = pa.table({"key": pa.array(keys, pa.binary()), "text": pa.array(ordered, pa.string())})
    # A block a batch, so that no worker waits for the rows of another.
    blocks = [table.slice(start, config.batch_size) for start in range(0, len(table), config.batch_size)]
    done = ray.data.from_arrow(blocks).map_batches(
        _TextWorker,
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(blocks))),
        fn_constructor_args=(config,),
        num_cpus=1,
    )
    try:
        for batch in done.iter_batches(batch_size=None, batch_format="numpy"):
            if refusal := str(batch["error"][0]):
                name, _, message = refusal.partition(": ")
                raise getattr(errors, name)(message)
            yield dict(zip(map(bytes, batch["key"]), np.stack(list(batch["vector"])), strict=True))
    except ray.exceptions.RayError as error:
        raise ClusterError(
            f"The workers that encode texts failed: {in_words(error)}. What they had sent is kept; the same "
            "job goes on with the rest."
        ) from error


class _TextWorker:
    """One worker.

    Parameters
    ----------
    config
        The model.
    """

    def __init__(self, config: EmbeddingConfig) -> None:
        self.config, self.model, self.refusal = config, None, ""
        try:
            self.model = load_model(config.model)
        except ColdrayError as error:
            self.refusal = _told(error)

    def __call__(self, batch: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Return the keys ``[n]``, their unit vectors ``[n, d]``, and an error of ours or an empty text ``[n]``.

        Ray Data would bring an error as the text of its traceback.
        """
        keys = batch["key"]
        matrix, refusal = np.zeros((len(keys), 1), np.float32), self.refusal
        if self.model is not None:
            try:
                matrix = encode_batch(self.model, [str(text) for text in batch["text"]], self.config.model)
            except ColdrayError as error:
                refusal = _told(error)
        return {"key": keys, "vector": matrix, "error": np.array([refusal] * len(keys))}


def _told(error: ColdrayError) -> str:
    return f"{type(error).__name__}: {masked(str(error))}"
