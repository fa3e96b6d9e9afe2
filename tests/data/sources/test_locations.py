"""Where the data sets that are never downloaded are looked for: MovieLens 100K, and what the others differ in."""

import zipfile

import pytest

from coldray.core.errors import DataFileError
from coldray.data.sources.registry import SOURCES, SourceConfig, find_dataset, load_dataset

FILES = {"u.data": "1\t2\t3\t4\n", "u.item": "2|A (1990)||||0\n", "u.genre": "Drama|0\n"}


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv("COLDRAY_DATA", raising=False)


def put_files(folder):
    folder.mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


def put_archive(path):
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in FILES.items():
            archive.writestr(f"ml-100k/{name}", text)
    return path


def test_it_is_found_in_the_folder_itself_and_in_the_one_below(tmp_path):
    for place, named in ((tmp_path / "a", tmp_path / "a"), (tmp_path / "b" / "ml-100k", tmp_path / "b")):
        put_files(place)
        assert find_dataset("ml-100k", named) == place
        assert load_dataset(SourceConfig(name="ml-100k", data_dir=named)).name == "ml-100k"


def test_it_is_found_as_an_archive_in_the_folder_or_named_itself(tmp_path):
    archive = put_archive(tmp_path / "a" / "ml-100k.zip")
    other = put_archive(tmp_path / "other.zip")
    assert find_dataset("ml-100k", tmp_path / "a") == find_dataset("ml-100k", archive) == archive
    assert find_dataset("ml-100k", other) == other
    assert load_dataset(SourceConfig(name="ml-100k", data_dir=tmp_path / "a")).n_items == 1


def test_the_environment_names_the_folder_and_the_argument_wins(tmp_path, monkeypatch):
    monkeypatch.setenv("COLDRAY_DATA", str(tmp_path / "env"))
    put_files(tmp_path / "env" / "ml-100k")
    put_files(tmp_path / "argument")
    assert find_dataset("ml-100k", None) == tmp_path / "env" / "ml-100k"
    assert find_dataset("ml-100k", tmp_path / "argument") == tmp_path / "argument"


def test_a_folder_of_other_data_and_an_empty_folder_of_the_name_are_not_taken(tmp_path):
    (tmp_path / "ml-100k.zip").mkdir()
    (tmp_path / "ml-100k").mkdir()
    (tmp_path / "user_ratedmovies.dat").write_text("userID\tmovieID\trating\n5\t1\t4\n")
    with pytest.raises(DataFileError, match="ml-100k is not in"):
        find_dataset("ml-100k", tmp_path)


@pytest.mark.parametrize("named", [True, False])
def test_it_is_never_downloaded_and_the_error_says_what_is_expected(tmp_path, named):
    where = rf"{tmp_path} nor in {tmp_path}/ml-100k nor" if named else "any folder, as none was given"
    with pytest.raises(DataFileError, match=rf"not in {where}.*u\.data, u\.item and u\.genre.*--data-dir") as caught:
        load_dataset(SourceConfig(name="ml-100k", data_dir=tmp_path if named else None))
    assert "COLDRAY_DATA" in str(caught.value)


def test_the_real_folder_is_found_by_the_root_alone(real_data):
    root = real_data("ml-100k").parent
    assert load_dataset(SourceConfig(name="ml-100k", data_dir=root)).n_users == 943


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if source.location is not None])
def test_every_data_set_is_found_in_the_folder_itself_and_by_the_root(tmp_path, name):
    location = SOURCES[name].location
    folder = tmp_path / location.folder
    folder.mkdir()
    (folder / location.marker.replace("*", "x")).write_text("")
    assert find_dataset(name, folder) == find_dataset(name, tmp_path) == folder
    (folder / location.marker.replace("*", "x")).rename(tmp_path / location.marker.replace("*", "x"))
    assert find_dataset(name, tmp_path) == tmp_path


def test_one_release_of_movielens_is_not_taken_for_another(tmp_path):
    (tmp_path / "ml-20m").mkdir()
    (tmp_path / "ml-20m" / "ratings.csv").write_text("")
    assert find_dataset("ml-20m", tmp_path / "ml-20m") == tmp_path / "ml-20m"
    for name in ("ml-25m", "ml-latest-small"):
        with pytest.raises(DataFileError, match=f"{name} is not in"):
            find_dataset(name, tmp_path / "ml-20m")


@pytest.mark.parametrize("name", ["yelp", "amazon"])
def test_an_archive_is_not_taken_where_none_can_be_read(tmp_path, name):
    (tmp_path / f"{name}.zip").write_text("")
    with pytest.raises(DataFileError, match=f"{name} is not in") as caught:
        find_dataset(name, tmp_path)
    assert ".zip" not in str(caught.value)
    with pytest.raises(DataFileError, match=f"{name} is not in"):
        find_dataset(name, tmp_path / f"{name}.zip")
