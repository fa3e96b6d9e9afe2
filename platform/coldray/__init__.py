"""coldray: train, tune, compare and serve recommenders on a Ray cluster, cold-start items first."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("coldray")
except PackageNotFoundError:  # shipped to a cluster as a py_module, not installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
