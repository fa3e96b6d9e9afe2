"""Tables as people have them, generated with the rows that are meant; an independent reading of each."""

import csv
import gzip
import io
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from coldray.core.errors import DataError

HEADER = ("user_id", "item_id", "note")
WORDS = [
    "plain", '6" pipe', '"Heroes"', '"Heroes', 'Lodger"', "a,b", "a;b", "tab\there", "two\nlines", "Ünïcode", "日本語",
    "NA", "nan", "None", " padded ", "", '""', "[x]", "1,5", "#x", "O'Neil", "back\\slash",
]  # fmt: skip


@dataclass(frozen=True)
class OddText:
    """A delimited file: its bytes, its name, and what was meant."""

    name: str
    content: bytes
    rows: list[tuple[str, ...]]
    separator: str
    clean: bool
    """Whether it is UTF-8 and quoted as RFC 4180 has it, so that it has to be read."""


@st.composite
def odd_texts(draw):
    """Return a table of three columns as delimited text, written well or badly."""
    suffix = draw(st.sampled_from([".csv", ".tsv"]))
    separator = "\t" if suffix == ".tsv" else draw(st.sampled_from([",", ",", ";"]))
    quoting = draw(st.sampled_from(["minimal", "all", "bare"]))
    ids = st.one_of(
        st.integers(0, 99).map(str),
        st.integers(0, 9).map("{:03}".format),
        st.sampled_from(WORDS),
        st.text("abé ", min_size=1),
    )
    rows = draw(st.lists(st.tuples(ids, ids, st.sampled_from(WORDS)), min_size=1, max_size=30))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    if quoting == "bare":  # nothing is enclosed, so a value cannot hold what divides them
        rows = [tuple(value.replace(separator, " ").replace("\n", " ") for value in row) for row in rows]
        body = end.join(separator.join(row) for row in rows) + end
    else:
        buffer = io.StringIO()
        how = csv.QUOTE_ALL if quoting == "all" else csv.QUOTE_MINIMAL
        csv.writer(buffer, delimiter=separator, lineterminator=end, quoting=how).writerows(rows)
        body = buffer.getvalue()
    text = separator.join(HEADER) + end + body
    if draw(st.booleans()):
        text = text.rstrip("\r\n") if draw(st.booleans()) and rows[-1][-1] else text + end * draw(st.integers(1, 3))
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "latin-1", "utf-16"]))
    try:
        content = text.encode(encoding)
    except UnicodeEncodeError:
        content, encoding = text.encode(), "utf-8"
    packed = draw(st.booleans())
    well = encoding.startswith("utf-8") or (text.isascii() and encoding == "latin-1")
    return OddText(
        f"odd{suffix}{'.gz' * packed}", gzip.compress(content) if packed else content, rows, separator,
        clean=well and (quoting != "bare" or '"' not in body),
    )  # fmt: skip


COLUMNS = {
    "int8": pa.array([1, 2, None], pa.int8()),
    "uint64": pa.array([2**64 - 1, 2, 3], pa.uint64()),
    "int64": pa.array([2**53 + 1, 2, 3], pa.int64()),
    "halves": pa.array([1.5, None, float("nan")], pa.float64()),
    "huge": pa.array([1e300, 1.0, 2.0], pa.float64()),
    "whole floats": pa.array([1.0, 2.0, 3.0], pa.float32()),
    "half": pa.array([1.0, 2.0, 3.0], pa.float32()).cast(pa.float16()),
    "text": pa.array(["a", " b ", None], pa.string()),
    "large text": pa.array(["1", "2", "3"], pa.large_string()),
    "categories": pa.array(["1.5", "2", "1.5"]).dictionary_encode(),
    "decimal": pa.array([Decimal("1.25"), Decimal("2.50"), None], pa.decimal128(9, 2)),
    "wide decimal": pa.array([Decimal("1.25"), Decimal("2.50"), None], pa.decimal256(50, 2)),
    "boolean": pa.array([True, False, True]),
    "binary": pa.array([b"a", b"\xff", None]),
    "fixed binary": pa.array([b"aa", b"bb", b"cc"], pa.binary(2)),
    "days": pa.array([date(2024, 1, 31), date(2024, 2, 1), date(1969, 1, 1)]),
    "moments": pa.array([1, 2, 3], pa.timestamp("ns", tz="Europe/Madrid")),
    "time": pa.array([time(1), time(2), time(3)]),
    "duration": pa.array([timedelta(1), timedelta(2), None]),
    "lists": pa.array([["x", "y"], [], None]),
    "number lists": pa.array([[1, 2], [3], None]),
    "nested lists": pa.array([[["x"]], [["y", "z"]], None]),
    "struct": pa.array([{"a": 1}, {"a": 2}, None]),
    "struct lists": pa.array([[{"a": 1}], [], None]),
    "map": pa.array([[("a", 1)], [], None], pa.map_(pa.string(), pa.int64())),
    "nothing": pa.nulls(3),
    "list texts": pa.array(['["x","y"]', "['x', 'z']", "[]"]),
    "divided": pa.array(["x;y", "z", "x"]),
}
"""Three values of every type that parquet may hold."""


def attempt(read, *arguments):
    """Return what a reader returns and no error, or nothing and the text of the project's error about data."""
    try:
        return read(*arguments), None
    except DataError as error:
        return None, str(error)


def write_typed(path, **columns):
    """Write a parquet file with the named columns of :data:`COLUMNS`, and plain ids where none are named."""
    table = {"user_id": pa.array(["u", "v", "w"]), "item_id": pa.array(["a", "b", "c"])}
    table |= {name: COLUMNS[kind] for name, kind in columns.items()}
    pq.write_table(pa.table(table), path)
    return path
