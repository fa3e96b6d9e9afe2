"""Fixtures that several folders of tests share."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Return the path of a folder of real data by its name; skip the test, with the reason, when it is absent."""
    root = Path(os.environ.get("COLDRAY_DATA") or ROOT.parent / "shared" / "data")

    def folder(name: str) -> Path:
        if not (root / name).is_dir():
            pytest.skip(f"real data {name!r} is not in {root}; COLDRAY_DATA names the folder that holds it")
        return root / name

    return folder
