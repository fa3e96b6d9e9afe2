"""Datasets as they are listed and described."""

import pytest

from coldray.command.app import main
from coldray.data.sources.registry import SOURCES


@pytest.fixture
def printed(capsys, monkeypatch, tmp_path):
    """Return a function that runs the command; it returns status, and what was printed and told."""
    monkeypatch.delenv("COLDRAY_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*arguments):
        status = main(["datasets", *map(str, arguments)])
        found = capsys.readouterr()
        return status, found.out, found.err

    return run


def test_every_source_is_listed_with_where_it_is(printed, tmp_path):
    (tmp_path / "ml-100k").mkdir()
    (tmp_path / "ml-100k" / "u.data").touch()
    status, out, _ = printed("--data-dir", tmp_path)
    assert status == 0
    rows = {line.split()[0]: line for line in out.splitlines() if line.split() and line.split()[0] in SOURCES}
    assert set(rows) == set(SOURCES)
    assert "not there; --fetch downloads it" in rows["hetrec"]
    assert "not there" in rows["ml-1m"]
    assert "not there" not in rows["ml-100k"]


def test_one_is_read_and_described(printed):
    status, out, _ = printed("sample")
    assert status == 0
    assert out.startswith("sample (synthetic)\n")
    assert "600" in out
    assert "item attribute genres" in out


def test_files_of_ones_own_are_described(printed, tmp_path):
    (tmp_path / "clicks.csv").write_text("user_id,film\na,1\na,2\nb,2\n")
    status, out, _ = printed("--interactions", tmp_path / "clicks.csv", "--item-column", "film")
    assert status == 0
    assert out.startswith("clicks\n")


def test_real_data_are_described_with_their_scale(printed, real_data):
    status, out, _ = printed("ml-100k", "--data-dir", real_data("ml-100k"))
    assert status == 0
    assert "1,682" in out
    assert "1 to 5" in out


def test_one_that_is_not_there_is_told_with_the_way_to_have_it(printed, tmp_path):
    status, _, told = printed("hetrec", "--data-dir", tmp_path)
    assert status == 2
    assert told.endswith("Or download it: coldray datasets hetrec --fetch.\n")
    status, _, told = printed("ml-1q")
    assert status == 2
    assert "Did you mean 'ml-1m'" in told
