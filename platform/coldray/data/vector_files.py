"""Vectors by file: those of items or users by their id, in three formats, and plain tables of numbers.

Nothing is unpickled: torch reads tensors and plain values alone (``weights_only``), numpy no objects.

Notation used for shapes: n vectors, d dimensions.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from coldray.core.errors import DataFileError, DataFormatError, EmptyDatasetError, NumericalError
from coldray.core.memory import require_memory
from coldray.data.sources.assembly import refuse_repeated
from coldray.data.tables.files import explained
from coldray.data.tables.ids import read_ids
from coldray.data.tables.parquet import parquet_files, scan_files

Matrix: TypeAlias = npt.NDArray[np.float32]
_IDS, _VECTORS = "ids", "vectors"
_TORCH, _NUMPY, _PARQUET = (".pt", ".pth"), (".npz",), (".parquet", ".pq")
_NUMBERS = "fiu"
"""Kinds of types of numpy that hold numbers."""
_COPIES = 3
"""Of the vectors, in single precision, that lie in memory while they are read and put in the order of the items."""


def read_vectors(path: Path, notes: list[str], name: str = "") -> tuple[pl.Series, Matrix]:
    """Read vectors and the ids they are of.

    Parameters
    ----------
    path
        ``.pt``: a mapping of ``ids`` (a list, or a tensor of whole numbers) and ``vectors`` (a tensor ``[n, d]``), or
        of each id to its vector ``[d]``. ``.npz``: arrays of these two names. ``.parquet``, or a folder of such files:
        the column of lists that is called `name`, or the only one, has the vectors, the first without lists the ids.
    notes
        What is to be known of the reading is added, a sentence each.
    name
        What the vectors are.

    Returns
    -------
    tuple
        Ids ``[n]``, Int64 or String, each once, and float32 ``[n, d]``, all finite.

    Raises
    ------
    DataFileError
        If the file is missing or unreadable, or of another format.
    DataFormatError
        If it holds something else, objects that only unpickling could read, vectors of several lengths, or an id that
        is blank or there twice.
    EmptyDatasetError
        If it has no vector.
    NumericalError
        If a vector is not finite.
    CatalogTooLargeError
        If the vectors do not fit in memory.
    """
    if not path.exists():
        raise DataFileError(f"{path} does not exist. Correct the path.")
    suffix = path.suffix.lower()
    if suffix in _TORCH:
        ids, vectors = _of_torch(path)
    elif suffix in _NUMPY:
        ids, vectors = _of_numpy(path)
    elif suffix in _PARQUET or path.is_dir():
        ids, vectors = _of_parquet(path, notes, name)
    else:
        raise DataFileError(
            f"{path.name} ends in {suffix or 'nothing'!r}; vectors are read from {', '.join(_TORCH + _NUMPY)} and "
            ".parquet. Write ids and vectors into one of these."
        )
    if len(ids) != len(vectors):
        raise DataFormatError(f"{path.name} has {len(ids):,} ids and {len(vectors):,} vectors. There must be one each.")
    if 0 in vectors.shape:
        raise EmptyDatasetError(f"{path.name} has {len(vectors):,} vectors of {vectors.shape[1]:,} numbers: nothing.")
    ids = read_ids(ids, f"{path.name}, {_IDS}", notes)
    refuse_repeated(ids.alias("id").to_frame(), ("id",), path.name)
    return ids, _finite(vectors, path.name, ids)


def read_matrix(path: Path) -> Matrix:
    """Read a table of numbers as :func:`numpy.save` writes it, float32 ``[n, d]``, all finite.

    Raises
    ------
    DataFileError
        If the file is missing or unreadable.
    DataFormatError
        If it is none, or has another number of dimensions.
    NumericalError
        If a row is not finite.
    """
    try:
        found = np.load(path, allow_pickle=False)
    except OSError as error:
        raise DataFileError(f"The vectors {path} cannot be read: {error}.") from error
    except (ValueError, EOFError) as error:
        raise DataFormatError(f"{path.name} is no .npy file of numbers: {error}.") from error
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind not in _NUMBERS:
        kind = f"{found.dtype} of shape {found.shape}" if isinstance(found, np.ndarray) else "several arrays"
        raise DataFormatError(f"{path.name} holds {kind}; numbers [rows, dimensions] are needed, as numpy.save writes.")
    return _finite(found, path.name)


def _finite(found: npt.NDArray[Any], file: str, ids: pl.Series | None = None) -> Matrix:
    with np.errstate(over="ignore"):  # what is beyond single precision becomes infinite, and is refused
        vectors = found.astype(np.float32, copy=False)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        row = int(bad[0])
        first = f"that of row {row} (counted from 0)" if ids is None else f"that of {ids[row]!r}"
        raise NumericalError(
            f"{file}: {len(bad):,} of {len(vectors):,} vectors are not finite, the first is {first}. Save them again, "
            "without NaN and within single precision."
        )
    return vectors


def _require(path: Path, n_bytes: int) -> None:
    require_memory(
        _COPIES * n_bytes,
        purpose=f"Reading the vectors of {path.name}",
        way_out="Use shorter vectors, those of fewer items, or more memory.",
    )


# ---- torch


def _of_torch(path: Path) -> tuple[pl.Series, npt.NDArray[Any]]:
    import torch  # takes seconds to load

    _require(path, path.stat().st_size)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on other protocols of pickle, which it then refuses
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataFormatError(
            f"{path.name} holds more than tensors and plain values, or is no file of torch; to read it could run code "
            "of whoever wrote it, and it is not read. Save torch.save({'ids': ids, 'vectors': tensor}, file)."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise DataFileError(
            f"{path} cannot be read: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from error
    if not isinstance(found, Mapping):
        raise DataFormatError(
            f"{path.name} holds a {type(found).__name__}, which says nothing of ids. Save {{'ids': ids, 'vectors': "
            "tensor}, or a mapping of each id to its vector."
        )
    if found.keys() == {_IDS, _VECTORS}:
        ids, vectors = found[_IDS], found[_VECTORS]
        listed = ids.tolist() if isinstance(ids, torch.Tensor) else ids
        return _id_column(listed, path.name), _tensor(vectors, 2, path.name, "vectors")
    rows = [_tensor(vector, 1, path.name, f"the vector of {name!r}") for name, vector in found.items()]
    _one_length([len(row) for row in rows], list(found), path.name)
    return _id_column(list(found), path.name), np.stack(rows) if rows else np.zeros((0, 0), np.float32)


def _tensor(value: Any, n_dims: int, file: str, what: str) -> npt.NDArray[np.float32]:
    import torch

    plain = isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_quantized
    if not plain or value.dtype == torch.bool or value.is_complex() or value.ndim != n_dims:
        held = (
            f"{value.dtype} of shape {list(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
        )
        shape = "[vectors, dimensions]" if n_dims == 2 else "[dimensions]"
        raise DataFormatError(f"{file}: {what} must be a dense tensor of numbers {shape}, not {held}.")
    numbers: npt.NDArray[np.float32] = value.detach().to(torch.float32).numpy()
    return numbers


def _id_column(ids: Any, file: str) -> pl.Series:
    kinds = {type(one) for one in ids} if isinstance(ids, list | tuple) else set()
    if not kinds <= {int, str} or len(kinds) > 1 or not isinstance(ids, list | tuple):
        held = " and ".join(sorted(kind.__name__ for kind in kinds)) or type(ids).__name__
        raise DataFormatError(f"{file}: ids are {held}; all must be whole numbers, or all text.")
    return pl.Series("ids", list(ids), dtype=pl.String if str in kinds else None)


# ---- numpy


def _of_numpy(path: Path) -> tuple[pl.Series, npt.NDArray[Any]]:
    try:
        _require(path, _unpacked_bytes(path))
        with np.load(path, allow_pickle=False) as archive:
            if missing := [name for name in (_IDS, _VECTORS) if name not in archive.files]:
                raise DataFormatError(
                    f"{path.name} has no array {missing[0]!r}; it has: {', '.join(archive.files) or 'none'}. Write "
                    "numpy.savez(file, ids=ids, vectors=vectors)."
                )
            ids, vectors = archive[_IDS], archive[_VECTORS]
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        raise DataFileError(f"{path} cannot be read: {error}") from error
    except ValueError as error:
        raise DataFormatError(f"{path.name}: {error} Ids are an array of whole numbers or of str.") from error
    if ids.ndim != 1 or ids.dtype.kind not in "iuU":
        raise DataFormatError(
            f"{path.name}: ids are {ids.dtype} of shape {ids.shape}; whole numbers or str are needed, one dimension."
        )
    if vectors.ndim != 2 or vectors.dtype.kind not in _NUMBERS:
        raise DataFormatError(
            f"{path.name}: vectors are {vectors.dtype} of shape {vectors.shape}; numbers [vectors, dimensions] are "
            "needed."
        )
    return pl.Series("ids", ids.tolist(), dtype=pl.String) if ids.dtype.kind == "U" else pl.Series("ids", ids), vectors


def _unpacked_bytes(path: Path) -> int:
    with zipfile.ZipFile(path) as archive:
        return sum(member.file_size for member in archive.infolist())


# ---- parquet


def _of_parquet(path: Path, notes: list[str], name: str) -> tuple[pl.Series, npt.NDArray[Any]]:
    with explained(path):
        scan = scan_files(parquet_files(path, notes), path)
        schema = scan.collect_schema()
        lists = [column for column, dtype in schema.items() if _of_numbers(dtype)]
        others = [column for column in schema if column not in lists]
        lists = [name] if name in lists else lists
        if len(lists) != 1 or not others:
            held = ", ".join(f"{column} ({dtype})" for column, dtype in schema.items())
            raise DataFormatError(
                f"{path.name} has {len(lists)} columns of lists of numbers and {len(others)} others: {held}. Give it "
                "one with ids and one with vectors; of several the one that is called as the attribute is read."
            )
        lengths = pl.col(lists[0]).list.len() if isinstance(schema[lists[0]], pl.List) else pl.col(lists[0]).arr.len()
        sizes = scan.select(id=others[0], size=lengths).collect(engine="streaming")
        _require(path, 8 * int(sizes["size"].sum() or 0))
        known = sizes.filter(pl.col("size").is_not_null())
        if none := sizes.height - known.height:
            notes.append(f"{path.name}: {none:,} of {sizes.height:,} rows have no vector.")
        _one_length(known["size"].to_list(), known["id"].to_list(), path.name)
        rows = scan.select(id=others[0], vector=lists[0]).filter(pl.col("vector").is_not_null()).collect()
    dim = int(known["size"][0]) if known.height else 0
    numbers = rows["vector"].explode(empty_as_null=False) if dim else pl.Series(dtype=pl.Float32)
    return rows["id"], numbers.cast(pl.Float64).to_numpy().reshape(known.height, dim).astype(np.float64, copy=False)


def _of_numbers(dtype: pl.DataType) -> bool:
    if not isinstance(dtype, pl.List | pl.Array):
        return False
    return (dtype.inner if isinstance(dtype.inner, pl.DataType) else dtype.inner()).is_numeric()


def _one_length(lengths: Sequence[int], ids: Sequence[Any], file: str) -> None:
    """Raise DataFormatError, with one vector of either, unless all are of one length."""
    other = next((place for place, length in enumerate(lengths) if length != lengths[0]), None)
    if other is not None:
        raise DataFormatError(
            f"{file} has vectors of several lengths: that of {ids[0]!r} has {lengths[0]} numbers, that of "
            f"{ids[other]!r} {lengths[other]}. All must be made by one model."
        )
