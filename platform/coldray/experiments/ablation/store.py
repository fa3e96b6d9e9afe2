"""What an ablation has computed so far, on disk, so that an interrupted one goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coldray.core.files import replacing

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Stored:
    """One result: plain JSON values, and arrays."""

    values: Mapping[str, Any]
    arrays: Arrays


class AblationStore:
    """Results by key, one file each, complete or absent.

    Parameters
    ----------
    folder
        Where they are kept; None keeps none.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.found = 0
        """Results that were there already."""

    def get(self, key: Mapping[str, Any]) -> Stored | None:
        """Return the result of exactly this key; None if there is none, or if its file is damaged."""
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            stored = json.loads(str(arrays.pop("json")))
            of, values, complete = stored["key"], stored["values"], stored["arrays"] == list(arrays)
        except Exception:  # a damaged archive fails in a dozen ways; it is computed again and replaced
            return None
        if of != _plain(key) or not complete:
            return None
        self.found += 1
        return Stored(values, arrays)

    def put(self, key: Mapping[str, Any], values: Mapping[str, Any], arrays: Arrays) -> None:
        """Keep a result; `values` are what JSON can hold.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        path = self._path(key)
        if path is None:
            return
        text = json.dumps({"key": _plain(key), "values": values, "arrays": list(arrays)})
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, json=np.array(text), **dict(arrays))

    def _path(self, key: Mapping[str, Any]) -> Path | None:
        if self.folder is None:
            return None
        return self.folder / f"{hashlib.sha256(json.dumps(_plain(key), sort_keys=True).encode()).hexdigest()[:24]}.npz"


def _plain(key: Mapping[str, Any]) -> Any:
    """Return `key` as it comes back from JSON."""
    return json.loads(json.dumps(key, sort_keys=True, default=str))
