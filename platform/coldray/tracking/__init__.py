"""MLflow runs, the registry and the model bundle."""

from pathlib import Path


def pyfunc_path() -> Path:
    """Return the file that MLflow logs as the model's code."""
    return Path(__file__).with_name("pyfunc.py")
