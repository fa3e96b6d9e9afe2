"""Where each source is looked for, and that real data is never replaced by anything else."""

import shutil
import zipfile

import pytest
from pydantic import ValidationError

from coldray.data import sources
from coldray.data.sample import sample_dataset
from coldray.data.sources import SourceConfig, find_hetrec, find_ml1m_hetrec, load_dataset
from coldray.data.tabular import TabularConfig
from coldray.errors import ConfigError, DataFileError, DownloadError

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
        assert find_hetrec(given) == folder
        assert load_dataset(SourceConfig(name="hetrec", data_dir=given)).n_users == 1


def test_hetrec_is_found_as_an_archive_in_the_folder_or_named_itself(tmp_path):
    archive = put_archive(tmp_path)
    assert find_hetrec(tmp_path) == find_hetrec(archive) == archive
    assert load_dataset(SourceConfig(name="hetrec", data_dir=tmp_path)).n_items == 1


def test_hetrec_is_found_in_the_download_cache(tmp_path):
    (tmp_path / "cache" / "coldray").mkdir(parents=True)
    archive = put_archive(tmp_path / "cache" / "coldray")
    assert find_hetrec(None) == find_hetrec(tmp_path) == archive


def test_the_environment_names_the_folder_and_the_argument_wins(tmp_path, monkeypatch):
    put_files(tmp_path / "env" / "ml1m-hetrec")
    put_files(tmp_path / "env" / HETREC)
    put_files(tmp_path / "argument")
    monkeypatch.setenv("COLDRAY_DATA", str(tmp_path / "env"))
    assert find_hetrec(None).parent == find_ml1m_hetrec(None).parent == tmp_path / "env"
    assert find_hetrec(tmp_path / "argument") == find_ml1m_hetrec(tmp_path / "argument") == tmp_path / "argument"


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
        find_hetrec(tmp_path / "ml1m-hetrec", download=False)
    with pytest.raises(DataFileError):
        find_ml1m_hetrec(tmp_path / HETREC)


def test_a_folder_that_does_not_exist_is_named_with_who_named_it(tmp_path, monkeypatch):
    with pytest.raises(DataFileError, match=r"--data-dir names .*nowhere, which does not exist"):
        load_dataset(SourceConfig(name="hetrec", data_dir=tmp_path / "nowhere"))
    monkeypatch.setenv("COLDRAY_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(DataFileError, match=r"COLDRAY_DATA names .*elsewhere"):
        load_dataset(SourceConfig(name="ml1m-hetrec"))


@pytest.mark.parametrize("name", ["csv", "parquet"])
def test_own_tables_need_their_description(name):
    with pytest.raises(ConfigError, match=f"'{name}' needs `tabular`"):
        load_dataset(SourceConfig(name=name))


def test_own_tables_are_read(tmp_path):
    (tmp_path / "clicks.csv").write_text("user_id,item_id\n1,2\n")
    config = SourceConfig(name="csv", tabular=TabularConfig(interactions=tmp_path / "clicks.csv"))
    assert load_dataset(config).item_ids.tolist() == [2]


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
