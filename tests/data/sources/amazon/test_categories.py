"""Which categories a job takes."""

import pytest

from coldray.core.errors import ConfigError, DataFileError
from coldray.data.sources.amazon.categories import category_sources
from coldray.data.sources.registry import SourceConfig


def amazon(folder, size=None):
    return SourceConfig(name="amazon", data_dir=folder, size=size)


@pytest.fixture
def folder(tmp_path):
    for name in ("Toys.5core.test", "Beauty.5core.train", "Beauty.5core.test", "Books.5core.train.10k"):
        (tmp_path / f"{name}.parquet").touch()
    return tmp_path


def test_all_there_are_or_those_named_once_each(folder):
    assert list(category_sources(amazon(folder), None)) == ["Beauty", "Toys"]
    assert list(category_sources(amazon(folder, "10k"), None)) == ["Books"]
    found = category_sources(amazon(folder), ["Toys", "Gone", "Toys"])
    assert [(name, source.category) for name, source in found.items()] == [("Toys", "Toys"), ("Gone", "Gone")]


def test_other_data_are_one():
    source = SourceConfig(name="sample")
    assert category_sources(source, None) == {"sample": source}


def test_a_folder_without_categories_names_the_way_out(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"no category of size '5k'.*--size"):
        category_sources(amazon(folder, "5k"), None)
    with pytest.raises(DataFileError):
        category_sources(amazon(tmp_path / "nowhere"), None)
