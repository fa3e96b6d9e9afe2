"""A file or folder appears complete or not at all."""

import os
import stat

import pytest

from coldray.core.errors import OutputError
from coldray.core.files import check_writable, replacing, replacing_folder, writable_folder


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_only_when_the_block_ends(tmp_path):
    target = tmp_path / "new" / "result.json"
    with replacing(target) as temporary:
        temporary.write_text("done")
        assert not target.exists()
    assert target.read_text() == "done"
    assert entries(target.parent) == ["result.json"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


def test_a_failing_block_leaves_the_old_file_and_no_rubbish(tmp_path):
    target = tmp_path / "result.json"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(target) as temporary:
        temporary.write_text(f"half {1 / 0}")
    assert target.read_text() == "old"
    assert entries(tmp_path) == ["result.json"]


def test_the_temporary_file_keeps_the_suffix(tmp_path):
    with replacing(tmp_path / "table.parquet") as temporary:
        assert temporary.suffix == ".parquet"
        temporary.write_bytes(b"")


def test_an_old_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "stale").write_text("")
    with replacing_folder(target) as temporary:
        (temporary / "fresh").write_text("")
        assert entries(target) == ["stale"]
    assert entries(target) == ["fresh"]
    assert entries(tmp_path) == ["bundle"]


def test_a_failing_block_leaves_the_old_folder(tmp_path):
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "kept").write_text("")
    with pytest.raises(ZeroDivisionError), replacing_folder(target) as temporary:
        (temporary / "new").write_text(f"half {1 / 0}")
    assert entries(target) == ["kept"]
    assert entries(tmp_path) == ["bundle"]


@pytest.mark.parametrize("writer", [replacing, replacing_folder])
def test_a_folder_that_cannot_be_made_is_an_output_error_with_the_path(tmp_path, writer):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file/sub/out"), writer(tmp_path / "file" / "sub" / "out"):
        pass


def test_check_writable_makes_the_folder_and_leaves_it_empty(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert entries(tmp_path / "a" / "b") == []


def test_check_writable_refuses_a_path_under_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"Cannot write to .*file/sub"):
        check_writable(tmp_path / "file" / "sub")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_check_writable_refuses_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Choose another folder"):
        check_writable(tmp_path)


def test_a_folder_made_for_a_block_that_fails_goes_again(tmp_path):
    (tmp_path / "mine").mkdir()
    for folder in (tmp_path / "a" / "b", tmp_path / "mine" / "c", tmp_path / "mine"):
        with pytest.raises(ZeroDivisionError), writable_folder(folder):
            _ = len(entries(folder)) / 0
    assert entries(tmp_path) == ["mine"]
    assert entries(tmp_path / "mine") == []


def test_a_folder_made_for_a_block_stays_if_the_block_succeeds_or_has_written(tmp_path):
    with writable_folder(tmp_path / "empty"):
        pass
    with pytest.raises(ZeroDivisionError), writable_folder(tmp_path / "a" / "b"):
        _ = (tmp_path / "a" / "written").write_text("half") / 0
    assert entries(tmp_path) == ["a", "empty"]
    assert entries(tmp_path / "a") == ["written"]


def test_a_folder_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot write to"), writable_folder(tmp_path / "file" / "sub"):
        pass
    assert entries(tmp_path) == ["file"]
