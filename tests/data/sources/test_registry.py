"""Where each source is looked for, and that real data is never replaced by anything else."""

import shutil
import zipfile

import polars as pl
import pytest
from pydantic import ValidationError

from coldray.core.errors import ConfigError, DataFileError, DataFormatError, DownloadError
from coldray.data.sources import registry as sources
from coldray.data.sources.registry import (
    FOLDER_SOURCES,
    SOURCES,
    SourceConfig,
    _find_hetrec,
    _find_ml1m_hetrec,
    load_dataset,
    load_predefined,
)
from coldray.data.sources.sample import sample_dataset
from coldray.data.sources.tabular import TabularConfig

HETREC = "hetrec2011-movielens-2k-v2"


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """No real data, no real cache and no network."""
    monkeypatch.delenv("COLDRAY_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLDRAY_HETREC_URL", "no-scheme")


def put_files(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "movies.dat").write_text("id\ttitle\tyear\n1\tA\t2000\n")
    (folder / "user_ratedmovies.dat").write_text("userID\tmovieID\trating\n5\t1\t4\n")
    return folder


def put_archive(folder):
    files = put_files(folder / "unpacked")
    with zipfile.ZipFile(folder / f"{HETREC}.zip", "w") as archive:
        for file in files.iterdir():
            archive.write(file, file.name)
    shutil.rmtree(files)
    return folder / f"{HETREC}.zip"


def test_the_sample_is_generated_from_its_seed():
    assert load_dataset(SourceConfig(name="sample", seed=3)).fingerprint == sample_dataset(3).fingerprint


def test_hetrec_is_found_in_the_folder_itself_and_in_the_one_below(tmp_path):
    for folder, given in ((tmp_path / "a", tmp_path / "a"), (tmp_path / "b" / HETREC, tmp_path / "b")):
        put_files(folder)
        assert _find_hetrec(given) == folder
        assert load_dataset(SourceConfig(name="hetrec", data_dir=given)).n_users == 1


def test_hetrec_is_found_as_an_archive_in_the_folder_or_named_itself(tmp_path):
    archive = put_archive(tmp_path)
    assert _find_hetrec(tmp_path) == _find_hetrec(archive) == archive
    assert load_dataset(SourceConfig(name="hetrec", data_dir=tmp_path)).n_items == 1


def test_hetrec_is_found_in_the_download_cache(tmp_path):
    (tmp_path / "cache" / "coldray").mkdir(parents=True)
    archive = put_archive(tmp_path / "cache" / "coldray")
    assert _find_hetrec(None) == _find_hetrec(tmp_path) == archive


def test_the_environment_names_the_folder_and_the_argument_wins(tmp_path, monkeypatch):
    put_files(tmp_path / "env" / "ml1m-hetrec")
    put_files(tmp_path / "env" / HETREC)
    put_files(tmp_path / "argument")
    monkeypatch.setenv("COLDRAY_DATA", str(tmp_path / "env"))
    assert _find_hetrec(None).parent == _find_ml1m_hetrec(None).parent == tmp_path / "env"
    assert _find_hetrec(tmp_path / "argument") == _find_ml1m_hetrec(tmp_path / "argument") == tmp_path / "argument"


def test_hetrec_that_is_nowhere_is_downloaded_to_the_cache(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(sources, "fetch_hetrec", lambda folder: asked.append(folder) or put_archive(tmp_path))
    dataset = load_dataset(SourceConfig(name="hetrec"))
    assert asked == [tmp_path / "cache" / "coldray"]
    assert not dataset.synthetic


def test_a_failed_download_is_an_error_and_not_the_sample():
    with pytest.raises(DownloadError, match="--data-dir"):
        load_dataset(SourceConfig(name="hetrec"))


def test_without_download_the_places_that_were_searched_are_named(tmp_path):
    with pytest.raises(DataFileError, match="downloading is off") as caught:
        load_dataset(SourceConfig(name="hetrec", data_dir=tmp_path, download=False))
    assert str(tmp_path / HETREC) in str(caught.value)
    assert "--data-dir" in str(caught.value)


@pytest.mark.parametrize("data_dir", [True, False])
def test_ml1m_hetrec_is_never_downloaded_and_says_what_is_expected(tmp_path, data_dir):
    with pytest.raises(DataFileError, match=r"movies\.dat, user_ratedmovies\.dat .*--data-dir"):
        load_dataset(SourceConfig(name="ml1m-hetrec", data_dir=tmp_path if data_dir else None))


def test_the_one_movielens_folder_is_not_taken_for_the_other(tmp_path):
    put_files(tmp_path / "ml1m-hetrec")
    put_files(tmp_path / HETREC)
    with pytest.raises(DataFileError):
        _find_hetrec(tmp_path / "ml1m-hetrec", download=False)
    with pytest.raises(DataFileError):
        _find_ml1m_hetrec(tmp_path / HETREC)


def test_a_folder_that_does_not_exist_is_named_with_who_named_it(tmp_path, monkeypatch):
    with pytest.raises(DataFileError, match=r"--data-dir names .*nowhere, which does not exist"):
        load_dataset(SourceConfig(name="hetrec", data_dir=tmp_path / "nowhere"))
    monkeypatch.setenv("COLDRAY_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(DataFileError, match=r"COLDRAY_DATA names .*elsewhere"):
        load_dataset(SourceConfig(name="ml1m-hetrec"))


def test_tags_are_found_beside_the_file_that_names_them_or_in_the_folder_of_the_data(tmp_path, monkeypatch):
    put_files(tmp_path / "data" / "ml1m-hetrec")
    (tmp_path / "data" / HETREC).mkdir()
    (tmp_path / "data" / HETREC / "movie_tags.dat").write_text("movieID\ttagID\n1\t7\n")
    monkeypatch.setenv("COLDRAY_DATA", str(tmp_path / "data"))
    written = SourceConfig(name="ml1m-hetrec", tags=HETREC).below(tmp_path)
    assert load_dataset(written).attributes["tags"].labels.tolist() == ["7"]
    shutil.copytree(tmp_path / "data" / HETREC, tmp_path / HETREC)
    assert written.below(tmp_path).tags == tmp_path / "data" / HETREC
    assert SourceConfig(name="ml1m-hetrec", tags=HETREC).below(tmp_path).tags == tmp_path / HETREC
    with pytest.raises(ConfigError, match=r"data\.tags: .* is read by 'ml1m-hetrec' alone, not by 'lastfm'"):
        SourceConfig(name="lastfm", tags=HETREC)


@pytest.mark.parametrize("name", ["csv", "parquet"])
def test_own_tables_need_their_description(name):
    with pytest.raises(ConfigError, match=f"'{name}' needs `tabular`"):
        load_dataset(SourceConfig(name=name))


def test_own_tables_are_read(tmp_path):
    (tmp_path / "clicks.csv").write_text("user_id,item_id\n1,2\n")
    config = SourceConfig(name="csv", tabular=TabularConfig(interactions=tmp_path / "clicks.csv"))
    assert load_dataset(config).item_ids.tolist() == [2]


RATINGS_CSV = {
    "movies.csv": "movieId,title,genres\n2,A (1990),Drama\n",
    "ratings.csv": "userId,movieId,rating,timestamp\n1,2,3,4\n",
}
RATINGS_DAT = {"movies.dat": "2::A (1990)::Drama\n", "ratings.dat": "1::2::3::4\n"}
FOUND = {
    "ml-100k": ("ml-100k", {"u.data": "1\t2\t3\t4\n", "u.item": "2|A (1990)||||0\n", "u.genre": "Drama|0\n"}),
    "ml-1m": ("ml-1m", RATINGS_DAT),
    "ml-10m": ("ml-10M100K", RATINGS_DAT),
    "ml-20m": ("ml-20m", RATINGS_CSV),
    "ml-25m": ("ml-25m", RATINGS_CSV),
    "ml-latest-small": ("ml-latest-small", RATINGS_CSV),
    "lastfm": (
        "hetrec2011-lastfm-2k",
        {
            "user_artists.dat": "userID\tartistID\tweight\n1\t2\t3\n",
            "artists.dat": "id\tname\n2\tA\n",
            "user_taggedartists.dat": "artistID\ttagID\n2\t1\n",
            "tags.dat": "tagID\ttagValue\n1\trock\n",
        },
    ),
    "citeulike-t": (
        "citeulike-t",
        {
            "users.dat": "1 0\n",
            "mult.dat": "1 0:2\n",
            "vocabulary.dat": "graph\n",
            "tag-item.dat": "0\n",
            "tags.dat": "a-tag\n",
            "citations.dat": "0\n",
        },
    ),
    "coat": (
        "coat",
        {
            "train.ascii": "4 0\n0 0\n",
            "test.ascii": "0 0\n0 5\n",
            "user_features.ascii": "1\n0\n",
            "user_features_map.txt": "gender:men\n",
            "item_features.ascii": "1\n1\n",
            "item_features_map.txt": "color:red\n",
        },
    ),
    "amazon-beauty-sequences": (
        "amazon-beauty-sequences",
        {"Beauty.txt": "1 2\n", "Beauty_item2attributes.json": '{"2": [3]}'},
    ),
    "yelp": (
        "yelp",
        {
            "yelp_academic_dataset_review.json": (
                '{"user_id": "u", "business_id": "b", "stars": 3, "date": "2018-07-07 22:09:11"}\n'
            ),
            "yelp_academic_dataset_business.json": '{"business_id": "b", "categories": "Bars"}\n',
        },
    ),
}


@pytest.mark.parametrize("name", list(FOUND))
def test_a_source_that_is_found_is_read_by_its_own_reader(tmp_path, name):
    folder, files = FOUND[name]
    (tmp_path / folder).mkdir()
    for file, text in files.items():
        (tmp_path / folder / file).write_text(text)
    dataset = load_dataset(SourceConfig(name=name, data_dir=tmp_path))
    assert (dataset.name, dataset.interactions.nnz, dataset.provenance["source"]) == (name, 1 + (name == "coat"), name)


@pytest.mark.parametrize("name", FOLDER_SOURCES[1:])
def test_what_is_nowhere_is_an_error_and_not_the_sample(tmp_path, name):
    with pytest.raises(DataFileError, match=rf"{name} is not in {tmp_path}.*It is not downloaded: put .*--data-dir"):
        load_dataset(SourceConfig(name=name, data_dir=tmp_path))


def test_every_source_but_the_sample_and_own_tables_is_looked_for_in_a_folder():
    assert set(SOURCES) == {*FOLDER_SOURCES, "sample", "csv", "parquet"}


def put_category(folder, category, rating=4.0):
    folder.mkdir(parents=True, exist_ok=True)
    for part, item in (("train", "a"), ("valid", "b"), ("test", "c")):
        table = pl.DataFrame({"user_id": ["u"], "parent_asin": [item], "rating": [rating], "timestamp": [5]})
        table.write_parquet(folder / f"{category}.5core.{part}.parquet")
    return folder


def test_the_only_category_of_amazon_is_read_and_of_several_one_must_be_named(tmp_path):
    folder = put_category(tmp_path / "amazon", "Toys-Games")
    assert load_dataset(SourceConfig(name="amazon", data_dir=tmp_path)).name == "amazon Toys-Games"
    put_category(folder, "Books")
    with pytest.raises(
        ConfigError, match=r"has 2 categories without a size: Books, Toys-Games\. Name one .*--category"
    ):
        load_dataset(SourceConfig(name="amazon", data_dir=folder))
    assert load_dataset(SourceConfig(name="amazon", data_dir=folder, category="Toys/Games")).n_items == 3


def test_strictness_reaches_the_reader_of_amazon(tmp_path):
    put_category(tmp_path, "Books", rating=6.0)
    assert load_dataset(SourceConfig(name="amazon", data_dir=tmp_path)).ratings.data.max() == 5
    with pytest.raises(DataFormatError, match="beyond 1 to 5"):
        load_dataset(SourceConfig(name="amazon", data_dir=tmp_path, strict=True))


def test_predefined_splits_are_those_of_amazon_coat_and_movielens_100k(tmp_path, real_data):
    put_category(tmp_path, "Books")
    split = load_predefined(SourceConfig(name="amazon", data_dir=tmp_path))
    assert (split.name, split.train.nnz, split.validation.nnz, split.test.nnz) == ("Books", 1, 1, 1)
    u1 = load_predefined(SourceConfig(name="ml-100k", data_dir=real_data("ml-100k").parent), "u1")
    assert (u1.name, u1.test.nnz) == ("u1", 20_000)
    drawn = load_predefined(SourceConfig(name="coat", data_dir=real_data("coat").parent))
    assert (drawn.name, drawn.train.nnz) == ("random", 290 * 24)


@pytest.mark.parametrize(
    ("name", "split"), [("sample", None), ("amazon", "u1"), ("coat", "u1"), ("ml-100k", None), ("ml-1m", "u1")]
)
def test_a_source_without_such_a_split_says_who_has_one(name, split):
    with pytest.raises(
        ConfigError, match=rf"'{name}' has no predefined split .*amazon, coat and taobao-cart-buy have one"
    ):
        load_predefined(SourceConfig(name=name), split)


def test_an_unknown_source_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"Unknown data source 'hetrek'. Did you mean 'hetrec'"):
        SourceConfig(name="hetrek")


def test_an_unknown_field_is_refused():
    with pytest.raises(ValidationError, match="data_dirr"):
        SourceConfig(name="sample", data_dirr="x")


def test_the_configuration_survives_json():
    config = SourceConfig(name="csv", tabular=TabularConfig(interactions="a.csv"), seed=4)
    assert SourceConfig.model_validate_json(config.model_dump_json()) == config


def test_the_real_folders_are_found_by_the_root_alone(real_data):
    root = real_data("ml1m-hetrec").parent
    assert load_dataset(SourceConfig(name="ml1m-hetrec", data_dir=root)).name == "ml1m-hetrec"


@pytest.mark.parametrize("name", ["ml-latest-small", "lastfm"])
def test_the_real_folders_of_the_other_sources_are_found_too(real_data, name):
    folder = real_data({"lastfm": "hetrec2011-lastfm-2k"}.get(name, name))
    assert load_dataset(SourceConfig(name=name, data_dir=folder.parent)).name == name
