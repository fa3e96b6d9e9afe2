"""What the data options of a job become."""

from pathlib import Path

import pytest

from coldray.core.errors import ConfigError
from coldray.data.sources.registry import FOLDER_SOURCES, SOURCES
from coldray.data.sources.tabular import TabularConfig
from contracts.jobs import study_options


def source(*options):
    return study_options(*options).source


def test_every_source_is_in_the_help(capsys):
    with pytest.raises(SystemExit):
        study_options("--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert all(name in shown for name in SOURCES)


@pytest.mark.parametrize("name", FOLDER_SOURCES)
def test_a_source_of_files_takes_a_folder(name):
    read = source("--dataset", name, "--data-dir", "somewhere")
    assert (read.name, read.data_dir) == (name, Path("somewhere"))


def test_the_sample_takes_no_folder():
    with pytest.raises(ConfigError, match=r"--data-dir is read by --dataset hetrec, .*lastfm.* alone, not by 'sample'"):
        source("--data-dir", "somewhere")


def test_a_category_is_one_of_amazon():
    assert source("--dataset", "amazon", "--category", "Toys/Games").category == "Toys/Games"
    assert source("--dataset", "amazon").category is None
    with pytest.raises(ConfigError, match="--category is read by --dataset amazon alone, not by 'lastfm'"):
        source("--dataset", "lastfm", "--category", "Books")


def test_the_options_of_amazon_reach_its_source():
    read = source("--dataset", "amazon", "--size", "1k", "--strict-ratings")
    assert (read.size, read.strict) == ("1k", True)
    for option in (("--size", "1k"), ("--strict-ratings",)):
        with pytest.raises(ConfigError, match=f"{option[0]} is read by --dataset amazon alone, not by 'lastfm'"):
            source("--dataset", "lastfm", *option)


def test_columns_of_own_data_reach_its_source():
    read = source(
        *("--dataset", "csv", "--interactions", "clicks.csv", "--items", "articles.csv"),
        *("--user-column", "user", "--item-column", "article", "--label-columns", "topics, authors"),
        *("--number-columns", "year", "--text-columns", "title"),
    )
    assert read.tabular == TabularConfig(
        interactions=Path("clicks.csv"),
        items=Path("articles.csv"),
        user_column="user",
        item_column="article",
        label_columns=("topics", "authors"),
        number_columns=("year",),
        text_columns=("title",),
    )
