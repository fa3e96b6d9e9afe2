"""Files that jobs read beside the data: ids of candidates, shards of clicks."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from coldray.cli.jobs.recommend_all import _candidates
from coldray.core.errors import DataError
from coldray.models.linalg.sharded import ParquetShard

MODEL = SimpleNamespace(item_ids=np.array([1, 2, 3]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1\n2\n".encode("utf-16"), "line 1: not UTF-8 but UTF-16"),
        ("1\né\n".encode("latin-1"), "line 2: not UTF-8 but latin-1"),
    ],
)
def test_candidates_in_another_encoding_are_refused(tmp_path, content, message):
    (tmp_path / "ids.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        _candidates(str(tmp_path / "ids.txt"), "item_id", MODEL)


def test_candidates_are_read_from_odd_names_and_refused_by_type(tmp_path):
    path = tmp_path / "x[1]*.parquet"
    pl.DataFrame({"item_id": [2, 2, None]}).write_parquet(path)
    assert _candidates(str(path), "item_id", MODEL)[0] == (2,)
    pl.DataFrame({"item_id": [b"a"]}).write_parquet(path)
    with pytest.raises(DataError, match="'item_id' holds Binary; ids must be whole numbers or text"):
        _candidates(str(path), "item_id", MODEL)


def test_shards_are_read_from_odd_names_and_refused_by_type(tmp_path):
    path = tmp_path / "x[1]*.parquet"
    pl.DataFrame({"user": ["u"], "item": [1]}).write_parquet(path)
    assert ParquetShard((str(path),), 3).read().toarray().tolist() == [[0, 1, 0]]
    pl.DataFrame({"user": [["u"]], "item": [1]}).write_parquet(path)
    with pytest.raises(DataError, match=r"'user' holds List.String.; ids must be"):
        ParquetShard((str(path),), 3).read()


def test_files_with_integers_of_several_widths_are_one_table(tmp_path):
    for number, kind in enumerate((pl.Int32, pl.Int64, pl.UInt16)):
        pl.DataFrame(
            {"user": [2**20 * (number % 2) + 1], "item": [number]}, schema={"user": pl.Int64, "item": pl.Int64}
        ).cast({"user": pl.Int32 if number % 2 else kind, "item": kind}).write_parquet(tmp_path / f"{number}.parquet")
    files = tuple(str(path) for path in sorted(tmp_path.glob("*.parquet")))
    assert ParquetShard(files, 3).read().toarray().tolist() == [[1, 0, 1], [0, 1, 0]]
