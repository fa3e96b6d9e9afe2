"""Signs that mean a pattern elsewhere mean themselves in the name of a file, whatever reads it."""

import ast
from pathlib import Path

import pytest

import coldray
from coldray.data.sources.amazon.raw import read_raw_ratings

SOURCES = sorted(Path(coldray.__file__).parent.rglob("*.py"))
EXPANDING = {"scan_csv", "read_csv", "scan_parquet", "read_parquet"}


def calls(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node.func.attr, node


def test_every_reader_of_polars_is_told_that_a_path_is_no_pattern():
    found = 0
    for path in SOURCES:
        for name, call in calls(ast.parse(path.read_text(encoding="utf-8"))):
            source = ast.unparse(call.args[0]) if call.args else ""
            if name in EXPANDING and not source.startswith("io.BytesIO"):
                found += 1
                assert "glob" in {keyword.arg for keyword in call.keywords}, f"{path}:{call.lineno}"
            elif name in ("scan_ndjson", "read_ndjson"):
                found += 1
                assert source.startswith("glob.escape"), f"{path}:{call.lineno}"
            # These find columns in the names of folders, and Ray Data expands patterns as well.
            assert (
                name not in ("read_table", "read_text", "read_json")
                or "path" in source.lower()
                or not source
                or ("pq." not in ast.unparse(call) and "ray.data" not in ast.unparse(call))
            ), f"{path}:{call.lineno}"
    assert found > 8


@pytest.mark.parametrize("name", ["[r]*.jsonl", "r?[a-z].csv", "r[1].tsv"])
def test_raw_ratings_are_read_from_the_file_that_is_called_so(tmp_path, name):
    folder = tmp_path / "a[1]*"
    folder.mkdir()
    if name.endswith("jsonl"):
        text = '{"user_id": "u", "parent_asin": "i", "rating": 4, "timestamp": 5}\n'
    else:
        text = ("," if name.endswith("csv") else "\t").join(["u", "i", "4", "5"]) + "\n"
    (folder / name).write_text(text)
    assert read_raw_ratings(folder / name).height == 1
