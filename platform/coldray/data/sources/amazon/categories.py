"""The sources of a job that takes several categories of Amazon, or one of any other data."""

from __future__ import annotations

from collections.abc import Sequence

from coldray.core.errors import ConfigError
from coldray.data.sources.amazon.layout import amazon_categories
from coldray.data.sources.registry import SourceConfig, find_dataset


def category_sources(source: SourceConfig, names: Sequence[str] | None) -> dict[str, SourceConfig]:
    """Return the source of each category: those named, all there are by default, or the one that other data are.

    Raises
    ------
    DataFileError
        If the folder is not there.
    ConfigError
        If it has no category.
    """
    if source.name != "amazon":
        return {source.name: source}
    folder = find_dataset("amazon", source.data_dir)
    found = tuple(dict.fromkeys(names)) if names else amazon_categories(folder, source.size)
    if not found:
        size = "without a size" if source.size is None else f"of size {source.size!r}"
        raise ConfigError(
            f"{folder} has no category {size}: put <CATEGORY>.5core.{{train,valid,test}}[.<size>].parquet there, or "
            "name another folder with --data-dir or another size with --size."
        )
    return {name: source.model_copy(update={"category": name}) for name in found}
