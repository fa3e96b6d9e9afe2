"""The folder of lists: what is kept of an earlier run, and what is refused."""

import json
import subprocess
import sys

import polars as pl
import pytest

from coldray.core.errors import OutputError
from coldray.data.tables.histories import partition_file
from coldray.serving.batch.lists import Counts
from coldray.serving.batch.output import BatchRun, ListsFolder, locked, write_part

RUN = BatchRun(
    model="m 3",
    fingerprint="a" * 64,
    k=10,
    exclude_seen=True,
    candidates="all",
    histories={"1.parquet": "x", "2.parquet": "y"},
    columns=("user_id", "item_id"),
    partitions=3,
)
COUNTS = Counts(users=2, history=1, popularity=1, unknown_items=4)
TABLE = pl.DataFrame({"user_id": [1, 2], "items": [[3], [4, 5]]})


def other(**changes):
    return RUN.model_copy(update=changes)


def test_finished_parts_of_the_run_are_found_again(tmp_path):
    folder = ListsFolder(tmp_path, RUN)
    with locked(tmp_path):
        assert folder.begin() == {}
    write_part(folder, 2, [TABLE[:1], TABLE[1:]], COUNTS)
    assert pl.read_parquet(partition_file(tmp_path, 2)).equals(TABLE)
    assert ListsFolder(tmp_path, RUN).begin() == {2: COUNTS}


def test_counts_are_read_when_the_lists_are_all_made(tmp_path):
    folder, counts = ListsFolder(tmp_path, RUN), Counts()
    folder.begin()

    def tables():
        for _ in range(2):
            counts.users += 1
            yield TABLE

    write_part(folder, 0, tables(), counts)
    assert folder.begin() == {0: Counts(users=2)}


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (other(model="m 4", fingerprint="b" * 64), "the model is m 3 (aaaaaaaa), was m 4 (bbbbbbbb)"),
        (other(k=20, exclude_seen=False), "k is 10, was 20; exclude_seen is True, was False."),
        (other(candidates="cold"), "candidates is 'all', was 'cold'"),
        (other(partitions=9), "partitions is 3, was 9"),
        (other(histories={"1.parquet": "x", "2.parquet": "z"}), "(2.parquet has changed)"),
        (other(histories={"1.parquet": "x"}), "(2.parquet is new)"),
        (
            other(histories={**RUN.histories, "0.parquet": "w", "7.parquet": "v"}),
            "(0.parquet is gone, and 1 more files)",
        ),
    ],
)
def test_another_run_is_refused_and_keeps_its_lists(tmp_path, run, said):
    before = ListsFolder(tmp_path, run)
    before.begin()
    write_part(before, 1, [TABLE], COUNTS)
    with pytest.raises(OutputError) as caught:
        ListsFolder(tmp_path, RUN).begin()
    assert said in str(caught.value)
    assert "Choose another folder, or delete this one" in str(caught.value)
    assert before.begin() == {1: COUNTS}


def test_the_name_of_a_model_alone_makes_no_other_run(tmp_path):
    ListsFolder(tmp_path, other(model="m 4")).begin()
    assert ListsFolder(tmp_path, RUN).begin() == {}
    assert other(model="m 4").key == RUN.key != other(k=11).key


def test_parts_that_are_damaged_or_of_another_run_are_not_finished(tmp_path):
    folder = ListsFolder(tmp_path, RUN)
    folder.begin()
    for number in range(3):
        write_part(folder, number, [TABLE], COUNTS)
    with partition_file(tmp_path, 0).open("ab") as file:
        file.write(b"more")
    write_part(ListsFolder(tmp_path, other(k=3)), 1, [TABLE], COUNTS)
    assert folder.begin() == {2: COUNTS}
    TABLE.write_parquet(partition_file(tmp_path, 2))
    assert folder.begin() == {}


def test_what_was_half_written_is_removed_and_nothing_else(tmp_path):
    folder = ListsFolder(tmp_path, RUN)
    folder.begin()
    write_part(folder, 0, [TABLE], COUNTS)
    (tmp_path / ".part-00001.parquet.ab12.parquet").write_bytes(b"PAR1")
    (tmp_path / ".histories.cd34").mkdir()
    (tmp_path / ".histories.cd34" / "part-00000.parquet").touch()
    folder.partitioned.mkdir()
    folder.begin()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".histories", "manifest.json", "part-00000.parquet"]


def test_a_part_that_fails_leaves_nothing(tmp_path):
    folder = ListsFolder(tmp_path, RUN)
    folder.begin()

    def tables():
        yield TABLE
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left on device"):
        write_part(folder, 0, tables(), COUNTS)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(OutputError, match=r"holds 'thesis.txt' and no manifest.json: it is no folder of lists"):
        ListsFolder(tmp_path, RUN).begin()


@pytest.mark.parametrize("text", ["", "{", '{"k": 3}', '{"schema_version": 2}'])
def test_a_damaged_manifest_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(OutputError, match=r"manifest.json cannot be read, so nobody knows what the lists .* are of"):
        ListsFolder(tmp_path, RUN).begin()


def test_the_end_is_a_summary_without_the_histories(tmp_path):
    folder = ListsFolder(tmp_path, RUN)
    folder.begin()
    folder.partitioned.mkdir()
    (folder.partitioned / "part-00000.parquet").touch()
    folder.end(COUNTS, "All items are scored.")
    assert not folder.partitioned.exists()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["users"], summary["unknown_items"], summary["partitions"]) == (2, 4, 3)
    assert summary["lists"] == "All items are scored."


def test_a_folder_is_worked_in_by_one_process_at_a_time(tmp_path):
    code = (
        "import sys, pathlib; from coldray.serving.batch.output import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "new")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "in\n"
        with pytest.raises(OutputError, match="Another process makes lists in"), locked(tmp_path / "new"):
            pass
        holder.kill()
        holder.wait()
    with locked(tmp_path / "new"):
        pass
