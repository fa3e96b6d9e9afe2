"""Files as people have them: what is read right, what is told, and what is refused with its line or row."""

import gzip

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from coldray.core.errors import DataError, DataFileError, DataFormatError, EmptyDatasetError, UnmatchedItemsError
from coldray.data.sources.tabular import TabularConfig, read_tabular
from coldray.data.texts import with_texts

HEAD = "user_id,item_id\n"


def csv_of(folder, text, name="clicks.csv", **options):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_tabular(TabularConfig(interactions=path, **options), "csv")


def items_of(folder, text, name="items.csv", clicks="user_id,item_id\nu,1\nv,2\nw,3\n", **options):
    (folder / name).write_text(text, encoding="utf-8")
    return csv_of(folder, clicks, items=folder / name, **options)


def zstd(content):
    return pa.compress(content, "zstd", asbytes=True)


PACKED = {"gz": gzip.compress, "zst": zstd}


def told(dataset):
    """Return the notes but for the one of how the items fit the clicks."""
    return tuple(note for note in dataset.notes if "clicked items" not in note)


def test_every_row_of_a_tab_separated_file_with_bare_quotes_is_read_and_told(tmp_path):
    titles = ['"Heroes', "Low", 'Lodger"', 'The 7" single', '"Weird Al" Yankovic', "Scary Monsters"]
    rows = "".join(f"u{n}\ti{n}\t{titles[n % 6]}\n" for n in range(960))
    dataset = csv_of(tmp_path, "user_id\titem_id\ttitle\n" + rows, "clicks.tsv")
    assert dataset.interactions.nnz == 960
    assert told(dataset) == ("clicks.tsv: its quotes enclose no values and are read as characters of them.",)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ('u,"a, b"\nv,"Heroes" x\n', "line 3"),
        ('u,"a, b"\nv,b\nw,"open\nx,y\n', "lines 4 to 5"),
        ("u,a\nv\nw,c\n", "line 3: 1 fields divided by ',', not 2 \\(item_id, user_id\\)"),
        ("u,a\nv,b,c\nw\n", "line 3: 3 fields"),
        ("# made on Monday\nu,a\n", "line 2: 1 fields"),
    ],
)
def test_a_line_that_is_not_like_the_header_is_named(tmp_path, body, where):
    with pytest.raises(DataFormatError, match=rf"clicks\.csv, {where}"):
        csv_of(tmp_path, HEAD + body)


def test_lines_swallowed_by_two_bare_quotes_are_refused_where_other_quotes_enclose(tmp_path):
    body = '1,"Heroes,5\n2,Low,4\n3,Lodger",3\n4,"a, b",2\n'
    with pytest.raises(DataFormatError, match=r"lines 2 to 4: .* look like rows of their own"):
        csv_of(tmp_path, "user_id,item_id,stars\n" + body)


def test_blank_lines_are_passed_over_and_counted_and_line_ends_do_not_matter(tmp_path):
    for end in ("\n", "\r\n", "\r"):
        dataset = csv_of(tmp_path, f"\ufeffuser_id,item_id{end}u,a{end}{end}v,b{end}{end}{end}")
        assert dataset.user_ids.tolist() == ["u", "v"]
        assert told(dataset) == ("clicks.csv: 3 blank lines are passed over.",)


@pytest.mark.parametrize("ending", PACKED)
def test_semicolons_and_packed_files_are_read(tmp_path, ending):
    parts = [b"user_id;item_id;stars\nu;a;4\n", b'v;"b";5\nw;"a ""b"" ;c";3\n']
    for packed in (PACKED[ending](b"".join(parts)), b"".join(map(PACKED[ending], parts))):  # whole, and in two frames
        dataset = csv_of(tmp_path, packed, f"x.csv.{ending}", rating_column="stars")
        assert dataset.ratings.data.tolist() == [4, 5, 3]
        assert dataset.item_ids.tolist() == ["a", 'a "b" ;c', "b"]
        assert told(dataset) == (f"x.csv.{ending}: values are divided by ';', not by ','.",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("user_id,item_id\nu,a\n".encode("utf-16"), "line 1: not UTF-8 but UTF-16"),
        ("user_id,item_id\nu,a\n".encode("utf-16-le"), "line 1: not UTF-8 but UTF-16"),
        ("user_id,item_id\nu,a\nv,é\n".encode("latin-1"), "line 3: not UTF-8 but latin-1"),
        (b"user_id,item_id\nu,a\n" + b"u,x\n" * (2**20) + "v,é\n".encode("latin-1"), "line 1,048,579: not UTF-8"),
        (b"PK\x03\x04rest", "an Excel workbook"),
        (b"user_id,item_id\nu,a\0\n", "line 2: a zero byte"),
        (gzip.compress(b"user_id,item_id\nu,a\n" * 9, mtime=0)[:-9], "cannot be read"),
        (zstd(b"user_id,item_id\nu,a\n" * 9)[:-9], "cannot be read"),
        (zstd(b"user_id,item_id\nu,a\n") + b"rest", "cannot be read"),
        (zstd("user_id,item_id\nu,a\nv,é\n".encode("latin-1")), "line 3: not UTF-8 but latin-1"),
    ],
)
def test_what_is_not_utf8_is_named_with_its_line(tmp_path, content, message):
    with pytest.raises(DataFileError, match=message):
        csv_of(tmp_path, content)


@pytest.mark.parametrize("name", ["a[b]/cl*icks?[1].csv", "a[b]/cl*icks?[1].tsv.gz", "a[b]/p?[0-9]*.parquet"])
def test_signs_of_patterns_in_a_path_name_the_file_that_is_called_so(tmp_path, name):
    other = tmp_path / name.replace("?", "x").replace("[1]", "1").replace("*", "")
    for path, item in ((tmp_path / name, "right"), (other, "wrong")):
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pl.DataFrame({"user_id": ["u"], "item_id": [item]})
        if name.endswith(".parquet"):
            table.write_parquet(path)
        else:
            path.write_text(table.write_csv(separator="\t" if ".tsv" in name else ","))
    assert read_tabular(TabularConfig(interactions=tmp_path / name), "parquet").item_ids.tolist() == ["right"]


def test_a_folder_as_spark_leaves_it_is_its_parquet_files(tmp_path):
    folder = tmp_path / "cli[ck]s*"
    for day, users in (("007", [1, 2]), ("010", [2**40, 3])):
        part = folder / f"shop={day}" / "part-0.snappy.parquet"
        part.parent.mkdir(parents=True)
        kind = pl.Int32 if day == "007" else pl.Int64
        pl.DataFrame({"user_id": pl.Series(users, dtype=kind)}).write_parquet(part)
        for name in (".part-0.snappy.parquet.crc", "_SUCCESS", "_committed_1", ".DS_Store", "_temporary/x.parquet"):
            (part.parent / name).parent.mkdir(exist_ok=True)
            (part.parent / name).write_bytes(b"no parquet")
    (folder / "README").write_text("read me")
    dataset = read_tabular(TabularConfig(interactions=folder, item_column="shop"), "parquet")
    assert dataset.user_ids.tolist() == [1, 2, 3, 2**40]
    assert dataset.item_ids.tolist() == ["007", "010"]
    assert told(dataset) == ("cli[ck]s*: files that are no parquet are passed over: README.",)


def test_files_of_a_folder_in_two_types_and_a_folder_without_parquet_are_refused(tmp_path):
    for name, users in (("a", [1]), ("b", ["u"])):
        pl.DataFrame({"user_id": users, "item_id": [1]}).write_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(DataFormatError, match=r"'user_id' holds Int64 in a\.parquet and String in b\.parquet"):
        read_tabular(TabularConfig(interactions=tmp_path), "parquet")
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "a.csv").write_text(HEAD)
    with pytest.raises(DataFileError, match=r"has no parquet file\. It has 1 other files, such as a\.csv"):
        read_tabular(TabularConfig(interactions=tmp_path / "csv"), "parquet")


@pytest.mark.parametrize("cell", ['["x","y"]', "['x', 'y']", "('x', 'y')", "['x' 'y']", '{x,"y"}', "x;y", "x|y"])
def test_labels_written_as_lists_are_read_as_lists_and_told(tmp_path, cell):
    quoted = cell.replace('"', '""')
    dataset = items_of(tmp_path, f'item_id,tags\n1,"{quoted}"\n2,\n3,z\n', label_columns=("tags",))
    assert dataset.attributes["tags"].labels.tolist() == ["x", "y", "z"]
    assert dataset.attributes["tags"].matrix.toarray().tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert len(told(dataset)) == (cell != "x|y")


def test_blanks_without_a_width_are_no_part_of_a_label(tmp_path):
    dataset = items_of(tmp_path, "item_id,tags\n1,x\u200b|x\n2,\ufeffy\u00a0\n", label_columns=("tags",))
    assert dataset.attributes["tags"].labels.tolist() == ["x", "y"]


def test_a_bracket_alone_makes_no_list(tmp_path):
    text = "item_id,tags\n1,z\n2,[x\n"
    assert items_of(tmp_path, text, label_columns=("tags",)).attributes["tags"].labels.tolist() == ["[x", "z"]


@pytest.mark.parametrize("cell", ["[x, 'y']", '[{"a": 1}]', '{"a": 1}', "[sic]"])
def test_what_looks_like_a_list_and_is_none_is_refused(tmp_path, cell):
    quoted = cell.replace('"', '""')
    text = f'item_id,tags\n1,z\n2,"{quoted}"\n'
    with pytest.raises(DataFormatError, match=r"'tags': 1 values look like lists and are none; .* in row 2"):
        items_of(tmp_path, text, label_columns=("tags",))


def test_labels_left_whole_that_may_be_several_are_told(tmp_path):
    dataset = items_of(tmp_path, 'item_id,tags\n1,"x, y"\n2,z\n', label_columns=("tags",))
    assert "x, y" in dataset.attributes["tags"].labels
    assert "1 of 2 texts have ',' and are taken whole" in told(dataset)[0]
    both = items_of(tmp_path, "item_id,tags\n1,AC;DC|rock\n2,z\n", label_columns=("tags",))
    assert both.attributes["tags"].labels.tolist() == ["AC;DC", "rock", "z"]
    assert "labels with ';' are taken whole" in told(both)[0]


BASE = 1_600_000_000


@pytest.mark.parametrize(
    ("cells", "note"),
    [
        ([BASE, BASE + 1], None),
        ([-5, 0], None),
        ([BASE * 10**3, BASE * 10**3 + 1999], "milliseconds"),
        ([BASE * 10**6, BASE * 10**6 + 1_999_999], "microseconds"),
        ([BASE * 10**9, BASE * 10**9 + 1_999_999_999], "nanoseconds"),
        (["2020-09-13T12:26:40Z", "2020-09-13T14:26:41.5+02:00"], "text"),
        (["2020-09-13 12:26:40", "2020-09-13 12:26:41.000"], "text"),
    ],
)
def test_the_unit_of_times_is_recognised_and_told(tmp_path, cells, note):
    text = "user_id,item_id,at\n" + "".join(f"u,{n},{cell}\n" for n, cell in enumerate(cells))
    dataset = csv_of(tmp_path, text, timestamp_column="at")
    assert dataset.timestamps.data.tolist() == ([BASE, BASE + 1] if note or cells[0] == BASE else [-5, 0])
    assert len(told(dataset)) == (note is not None)
    assert note is None or note in told(dataset)[0]


def test_days_are_read_as_text_and_as_numbers(tmp_path):
    for cells in (("2024-01-31", "1969-12-31"), ("20240131", "19691231"), ("2024/01/31", "1969/12/31")):
        text = "user_id,item_id,at\n" + "".join(f"u,{n},{cell}\n" for n, cell in enumerate(cells))
        assert csv_of(tmp_path, text, timestamp_column="at").timestamps.data.tolist() == [1706659200, -86400]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["1e300", "1"], "too large for times"),
        (["31.01.2024", "1.2.2024"], "Times are numbers since 1970 .*ISO 8601"),
        (["2024-01-31", "soon"], "in row 2"),
        ([str(BASE * 1000), str(BASE)], "'1600000000' in row 2.*"),
        (["1600000000", "2024-01-31"], "in row 2"),
        (["nan", "1"], "in row 1"),
    ],
)
def test_times_that_are_none_or_of_two_units_are_refused(tmp_path, cells, message):
    text = "user_id,item_id,at\n" + "".join(f"u,{n},{cell}\n" for n, cell in enumerate(cells))
    with pytest.raises(DataFormatError, match=message):
        csv_of(tmp_path, text, timestamp_column="at")


def test_numbers_not_known_are_counted_and_others_refused_with_a_way_out(tmp_path):
    read = {"number_columns": ("price",)}
    dataset = items_of(tmp_path, "item_id,price\n1,NA\n2, 3.5 \n3,null\n", **read)
    np.testing.assert_array_equal(dataset.attributes["price"].values, [np.nan, 3.5, np.nan])
    assert told(dataset) == ("items.csv, column 'price': 2 values (NA, null) are taken as not known.",)
    truths = items_of(tmp_path, "item_id,price\n1,True\n2,false\n3,TRUE\n", **read)
    assert truths.attributes["price"].values.tolist() == [1, 0, 1]
    for cell, message in (
        ("1e300", "beyond 1e.30"),
        ("1e31", "beyond 1e.30"),
        ('"3,5"', "Write 3.5, not 3,5"),
        ('"1,234.5"', "thousands"),
        ("inf", "no number"),
    ):
        with pytest.raises(DataFormatError, match=message):
            items_of(tmp_path, f"item_id,price\n1,{cell}\n", **read)


def test_blanks_around_ids_are_left_out_and_told_when_two_become_one(tmp_path):
    dataset = csv_of(tmp_path, HEAD + " u,a\nu,b\nv ,a\n")
    assert dataset.user_ids.tolist() == ["u", "v"]
    assert told(dataset) == (
        "clicks.csv, column 'user_id': blanks around 2 ids are left out; 1 ids become one with another.",
    )


def test_words_for_missing_ids_are_refused_among_numbers_and_told_among_texts(tmp_path):
    with pytest.raises(
        DataFormatError, match=r"1 values stand for no id, among ids that are numbers; .*'nan' in row 2"
    ):
        csv_of(tmp_path, HEAD + "1,a\nnan,b\n2,c\n")
    dataset = csv_of(tmp_path, HEAD + "ann,a\nNone,b\n")
    assert told(dataset) == (
        "clicks.csv, column 'user_id': 1 rows have the id 'None', which is taken as an id like others.",
    )


def test_headers_that_are_missing_or_repeat_a_name_are_refused(tmp_path):
    with pytest.raises(DataFormatError, match=r"has no column 'user_id'.* Does the file have a header"):
        csv_of(tmp_path, "17,3,4\n18,3,5\n")
    with pytest.raises(DataFormatError, match="has 2 columns 'user_id'"):
        csv_of(tmp_path, "user_id,item_id,user_id\nu,a,v\n")


@pytest.mark.parametrize("name", ["te[x]ts.tsv.gz", "te[x]ts.csv.zst", "texts.TSV.ZST", "texts.TSV"])
def test_texts_are_read_from_packed_and_quoted_files(tmp_path, name):
    dataset = csv_of(tmp_path, HEAD + "u,a\nu,b\n")
    separator = "\t" if "tsv" in name.lower() else ","
    text = f'item_id{separator}plot\na{separator}"one ""fine"" day\nlater"\n b {separator}\n'
    (tmp_path / name).write_bytes(PACKED.get(name.lower().rpartition(".")[2], bytes)(text.encode()))
    found = with_texts(dataset, tmp_path / name)
    assert found.attributes["plot"].texts == ('one "fine" day\nlater', "")
    assert len(told(found)) == 3


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(40) + b"PAR1", b"no parquet at all, none"])
def test_a_broken_parquet_file_is_an_error_of_ours(tmp_path, content):
    (tmp_path / "clicks.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"clicks\.parquet"):
        read_tabular(TabularConfig(interactions=tmp_path / "clicks.parquet"), "parquet")


def test_times_as_databases_write_them_are_read(tmp_path):
    for cell in (
        "2020-09-13T12:26:40+0000", "2020-09-13 14:26:40+02", "2020-09-13 12:26:40 UTC", "2020-09-13t12:26:40z",
        "2020-09-13T14:26:40.25 +0200", "2020-09-13 06:56:40-05:30",
    ):  # fmt: skip
        text = f"user_id,item_id,at\nu,a,{cell}\nv,b,2020-09-13 12:26Z\n"
        assert csv_of(tmp_path, text, timestamp_column="at").timestamps.data.tolist() == [BASE, BASE - 40], cell


def test_rows_of_separators_alone_and_headers_of_joined_files_are_left_out_and_counted(tmp_path):
    for mark in ("", '"'):
        text = f"user_id,item_id,stars\n1,{mark}7{mark},4\n,,\n\ufeffuser_id,item_id,stars\n2,8,5\n , ,\n"
        dataset = csv_of(tmp_path, text, rating_column="stars")
        assert dataset.user_ids.tolist() == [1, 2]
        assert told(dataset) == (
            "clicks.csv: its header is there 1 times more, and left out as no row.",
            "clicks.csv: 2 rows have no value at all, and are passed over.",
        )
    with pytest.raises(DataFormatError, match="'user_id': 2 values have no id"):  # one of them has something else
        csv_of(tmp_path, "user_id,item_id,stars\n1,7,4\n,,3\n,,\n")


def test_blanks_without_a_width_are_no_part_of_an_id(tmp_path):
    dataset = csv_of(tmp_path, HEAD + "u,a\n\ufeffu,b\nu\u200b,c\nu\u00a0,d\n")
    assert dataset.user_ids.tolist() == ["u"]
    assert "blanks around 3 ids are left out; 3 ids become one with another" in told(dataset)[0]


@pytest.mark.parametrize(("start", "what"), [(b"BZh91AY", "bzip2"), (b"\xfd7zXZ\0\0", "xz")])
def test_how_a_file_is_packed_is_named(tmp_path, start, what):
    with pytest.raises(DataFileError, match=f"it is packed by {what}, .* pack it by zstd"):
        csv_of(tmp_path, start + b"\0rest")


def test_a_file_whose_name_tells_nothing_and_that_is_no_parquet_is_refused_with_the_names(tmp_path):
    dataset = csv_of(tmp_path, HEAD + "u,a\n")
    for name in ("texts.txt", "texts.jsonl", "texts.csv.bz2"):
        (tmp_path / name).write_text("item_id,plot\na,x\n")
        with pytest.raises(DataFileError, match=r"it is no parquet file\. The name of one with commas ends in \.csv"):
            with_texts(dataset, tmp_path / name)


def test_a_text_of_several_lines_that_begin_like_ids_is_read(tmp_path):
    dataset = csv_of(tmp_path, HEAD + "u,1\nu,2\n")
    (tmp_path / "plots.csv").write_text('item_id,plot\n1,"Told:\n1, the first\n2, the last"\n2,"a, b"\n')
    assert with_texts(dataset, tmp_path / "plots.csv").attributes["plot"].texts == (
        "Told:\n1, the first\n2, the last",
        "a, b",
    )
    (tmp_path / "plots.csv").write_text('item_id,plot\n1,"Heroes\n2,Low"\n3,"a, b"\n')
    with pytest.raises(DataFormatError, match=r"lines 2 to 3: .* look like rows of their own"):
        with_texts(dataset, tmp_path / "plots.csv")


def test_a_table_of_items_without_rows_and_one_of_the_ids_of_users_are_refused(tmp_path):
    with pytest.raises(EmptyDatasetError, match=r"items\.csv has no rows"):
        items_of(tmp_path, "item_id,tags\n", label_columns=("tags",))
    with pytest.raises(UnmatchedItemsError, match="Users have some of them: is the column of users that of items"):
        items_of(tmp_path, "item_id,tags\nu,x\nv,y\n", label_columns=("tags",))
    with pytest.raises(UnmatchedItemsError, match="the composed form of Unicode"):
        items_of(tmp_path, "item_id,tags\ncaf\u00e9,x\n", clicks=HEAD + "u,cafe\u0301\n", label_columns=("tags",))
