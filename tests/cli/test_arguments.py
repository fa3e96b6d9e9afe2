"""What the data options of a job become."""

from pathlib import Path

import pytest

from coldray.core.errors import ConfigError
from coldray.data.sources.registry import FOLDER_SOURCES
from coldray.data.sources.tabular import TabularConfig
from contracts.jobs import options_of


def source(*options):
    return options_of("tune", "marec", *options).source


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
        *("--context-label-columns", "device,page", "--context-number-columns", "heat"),
    )
    assert read.tabular == TabularConfig(
        interactions=Path("clicks.csv"),
        items=Path("articles.csv"),
        user_column="user",
        item_column="article",
        label_columns=("topics", "authors"),
        number_columns=("year",),
        text_columns=("title",),
        context_label_columns=("device", "page"),
        context_number_columns=("heat",),
    )


def test_files_of_ones_own_need_no_name():
    for file, name in (("clicks.parquet", "parquet"), ("clicks.csv", "csv"), ("clicks.tsv", "csv")):
        assert source("--interactions", file).name == name
    with pytest.raises(
        ConfigError, match="--interactions, --items and --users are read by --dataset csv and parquet alone"
    ):
        source("--dataset", "lastfm", "--interactions", "clicks.csv")


def test_kinds_of_events_come_with_weights():
    named = ("--interactions", "clicks.csv", "--event-column", "kind")
    tables = source(*named, "--event-weights", "purchase=5, view=0.5").tabular
    assert (tables.event_column, tables.event_weights) == ("kind", {"purchase": 5.0, "view": 0.5})
    with pytest.raises(ConfigError, match=r"--event-weights-view: Input should be greater than 0.*got '0'"):
        source(*named, "--event-weights", "purchase=5,view=0")
    with pytest.raises(ConfigError, match="event_column is given and event_weights is not"):
        source(*named)
    with pytest.raises(ConfigError, match="--event-weights is read by --dataset csv and parquet alone"):
        source("--dataset", "lastfm", "--event-weights", "view=1")


def test_tags_and_reviews_are_of_one_source_each(tmp_path):
    assert source("--dataset", "yelp", "--reviews", "10").reviews == 10
    assert source("--dataset", "ml1m-hetrec", "--tags", str(tmp_path)).tags == tmp_path
    for option, value, reader in (("--reviews", "3", "yelp"), ("--tags", "folder", "ml1m-hetrec")):
        with pytest.raises(ConfigError, match=f"{option} is read by --dataset {reader} alone, not by 'sample'"):
            source(option, value)


def test_the_first_actors_of_hetrec_are_named_like_the_first_labels_of_a_column():
    assert source("--dataset", "hetrec", "--first-labels", "actors=5").first_labels == {"actors": 5}
    for named, said in (
        (("--dataset", "hetrec", "--first-labels", "genres=5"), "of 'actors', which have a rank"),
        (("--dataset", "ml1m-hetrec", "--first-labels", "actors=0"), "--first-labels-actors: Input should be greater"),
        (("--dataset", "ml-100k", "--first-labels", "actors=5"), "is read by --dataset csv and parquet and hetrec"),
    ):
        with pytest.raises(ConfigError, match=said):
            source(*named)


def test_the_first_labels_are_named_by_their_column():
    named = ("--interactions", "clicks.csv", "--items", "films.csv", "--label-columns", "cast")
    assert source(*named, "--first-labels", "cast=5").tabular.first_labels == {"cast": 5}
    with pytest.raises(ConfigError, match="first_labels names 'crew', which is no column of labels"):
        source(*named, "--first-labels", "crew=5")


@pytest.mark.parametrize(("kind", "many"), [("tune", False), ("check", True)])
def test_several_categories_are_read_where_each_is_worked_on(kind, many):
    given = ("--dataset", "amazon", "--category", "Toys", "--category", "Books")
    named = [*(["marec"] if kind == "tune" else []), *given]
    if many:
        assert options_of(kind, *named).source.category is None
    else:
        with pytest.raises(ConfigError, match="One category is read here, and --category names Toys, Books"):
            _ = options_of(kind, *named).source
        assert options_of(kind, *named, "--phase", "tune").source.category is None
