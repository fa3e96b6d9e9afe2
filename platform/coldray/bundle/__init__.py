"""The bundle: a fitted model with all it needs to serve."""

from pathlib import Path

MIN_ITEM_OVERLAP = 0.5
"""Share of the champion's items that a new version has to know."""


def pyfunc_path() -> Path:
    """Return the file that MLflow logs as the model's code."""
    return Path(__file__).with_name("pyfunc.py")
