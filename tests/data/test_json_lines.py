"""JSON lines that are none are named by their line; times of raw ratings are of any unit."""

import pytest

from coldray.core.errors import DataError
from coldray.data.sources.amazon.raw import read_raw_ratings

LINE = '{"user_id": "u", "parent_asin": "i", "rating": 4, "timestamp": %s}\n'
GOOD = LINE % 5


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (GOOD + "{'user_id': 'u'}\n", "line 2"),
        (GOOD + GOOD[:30], "line 2"),
        (f"[{GOOD.strip()},\n{GOOD.strip()}]\n", "line 1"),
        ('{\n "user_id": "u"\n}\n', "line 1"),
        (GOOD.encode("utf-16"), "line 1: not UTF-8 but UTF-16"),
        (GOOD.encode() + GOOD.replace("u", "é").encode("latin-1"), "line 2"),
    ],
)
def test_a_line_that_is_no_json_is_named(tmp_path, content, where):
    path = tmp_path / "reviews.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=where):
        read_raw_ratings(path)


def test_times_of_every_unit_are_seconds(tmp_path):
    path = tmp_path / "reviews.jsonl"
    for power, unit in enumerate(("", "milliseconds", "microseconds", "nanoseconds")):
        notes = []
        path.write_text(LINE % (1_600_000_000 * 1000**power) + LINE % (1_600_000_007 * 1000**power))
        assert read_raw_ratings(path, notes)["timestamp"].to_list() == [1_600_000_000, 1_600_000_007]
        assert [unit in note for note in notes] == [True] * (power > 0)


def test_times_of_two_units_in_a_file_are_refused(tmp_path):
    path = tmp_path / "reviews.jsonl"
    path.write_text(LINE % 1_600_000_000 + LINE % 1_600_000_000_000)
    with pytest.raises(DataError, match="of another unit than the others, which are milliseconds"):
        read_raw_ratings(path)


def test_ids_in_quotes_are_without_them(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text('"u","i",4,5\n"v","j",3,6\n')
    assert read_raw_ratings(path).select("user", "item").rows() == [("u", "i"), ("v", "j")]
