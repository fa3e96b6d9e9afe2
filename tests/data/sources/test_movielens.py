"""The layout of MovieLens 100K, on tiny files written here and on the real folder."""

import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import ConfigError, DataFileError, DataFormatError, EmptyDatasetError, LeakageError
from coldray.data.sources.movielens import read_movielens, read_movielens_split
from contracts.problems import build_features

FILES = {
    "u.data": "30\t2\t5\t881250949\n4\t10\t1\t891717742\n30\t10\t3\t878887116\n4\t7\t2\t8863975\n4\t6\t4\t886397596\n",
    "u.item": (
        "10|Misérables, Les (1995)|12-Feb-1996||http://x/M%E9?a=(1995)|0|1|0\n"
        '2|The 7" single (1971)|4-Feb-1971|01-Jan-1980||0|1|1\n'
        "6|Land Before Time III (1995) (V)||||0|0|0\n"
        "7|unknown||||1|0|0\n"
        "99|Never rated (1950)|01-Jan-1950|||0|0|1\n"
    ),
    "u.genre": "unknown|0\nDrama|1\nChildren's|2\n\n",
}


def write(folder, **changes):
    """Write the files, some of them changed: `data="…"` is the text of u.data."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        (folder / name).write_bytes(changes.get(name.removeprefix("u."), text).encode("iso-8859-1"))
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "files")


def labels_of(dataset, item):
    genres = dataset.attributes["genres"]
    row = genres.matrix[[list(dataset.item_ids).index(item)]].toarray()[0]
    return genres.labels[row > 0].tolist()


def test_ratings_and_times_are_kept(folder):
    dataset = read_movielens(folder).of_clicked_items()
    assert dataset.name == "ml-100k"
    assert dataset.user_ids.tolist() == [4, 30]
    assert dataset.item_ids.tolist() == [2, 6, 7, 10]
    assert dataset.user_ids.dtype == dataset.item_ids.dtype == np.int64
    assert dataset.interactions.toarray().tolist() == [[0, 1, 1, 1], [1, 0, 0, 1]]
    assert dataset.ratings.toarray().tolist() == [[0, 4, 2, 1], [5, 0, 0, 3]]
    assert dataset.ratings.dtype == np.float32
    assert dataset.timestamps.toarray().tolist() == [[0, 886397596, 8863975, 891717742], [881250949, 0, 0, 878887116]]
    assert dataset.timestamps.dtype == np.int64
    assert not dataset.synthetic


def test_a_movie_that_nobody_rated_is_an_item_known_by_its_attributes(folder):
    dataset = read_movielens(folder)
    assert dataset.item_ids.tolist() == [2, 6, 7, 10, 99]
    assert dataset.clicked_items.tolist() == [0, 1, 2, 3]
    assert dataset.attributes["title"].texts[4] == "Never rated"
    assert labels_of(dataset, 99) == ["Children's"]


def test_genres_are_the_flags_by_name_and_unknown_is_none(folder):
    dataset = read_movielens(folder)
    assert dataset.attributes["genres"].labels.tolist() == ["Children's", "Drama"]
    assert [labels_of(dataset, item) for item in (2, 6, 7, 10)] == [["Children's", "Drama"], [], [], ["Drama"]]


def test_the_flags_are_in_the_order_of_the_numbers_of_the_genres(tmp_path):
    dataset = read_movielens(write(tmp_path, genre="Children's|2\nDrama|1\nunknown|0\n"))
    assert labels_of(dataset, 10) == ["Drama"]


def test_a_genre_may_be_called_like_a_field_and_a_lone_one_be_unknown(tmp_path):
    dataset = read_movielens(write(tmp_path / "a", genre="title|0\nitem|1\nline|2\n"))
    assert [labels_of(dataset, item) for item in (7, 2)] == [["title"], ["item", "line"]]
    dataset = read_movielens(write(tmp_path / "b", genre="unknown|0\n", item="2|A (1990)|||| 1\n"))
    assert dataset.attributes["genres"].matrix.shape == (4, 0)


def test_the_year_is_of_the_title_else_of_the_release_date(folder):
    np.testing.assert_array_equal(
        read_movielens(folder).of_clicked_items().attributes["year"].values, [1971, 1995, np.nan, 1995]
    )


def test_titles_are_without_their_year_with_their_quotes_and_letters_and_unknown_is_none(folder):
    titles = read_movielens(folder).of_clicked_items().attributes["title"].texts
    assert titles == ('The 7" single', "Land Before Time III", "", "Misérables, Les")


@pytest.mark.parametrize(
    ("title", "expected", "year"),
    [
        ("2001 (1968)", "2001", 1968),
        ("Seven (Se7en) (1995) ", "Seven (Se7en)", 1995),
        ("Made for it (1990) (TV)", "Made for it", 1990),
        ("(1984) revisited", "(1984) revisited", np.nan),
        ("The year (1984) (1999)", "The year (1984)", 1999),
        ("Unknown (2011)", "Unknown", 2011),
        ("unknown (2011)", "unknown", 2011),
    ],
)
def test_only_the_year_at_its_end_is_taken_from_a_title(tmp_path, title, expected, year):
    dataset = read_movielens(write(tmp_path, data="1\t2\t3\t4\n", item=f"2|{title}||||0|0|0\n"))
    assert dataset.attributes["title"].texts == (expected,)
    np.testing.assert_array_equal(dataset.attributes["year"].values, [year])


def test_the_default_attributes_become_features(folder):
    dataset = read_movielens(folder)
    assert dataset.default_attributes == ("genres", "year", "title")
    assert list(build_features(dataset).features) == ["genres", "year", "title"]


def test_an_item_without_a_movie_is_kept_and_counted(tmp_path):
    dataset = read_movielens(write(tmp_path, item="2|A (1990)||||0|1|0\n\n"))
    assert dataset.provenance["catalogue"]["clicked_items_without_row"] == 3
    assert dataset.provenance["ratings"] == 5
    assert dataset.attributes["title"].texts == ("A", "", "", "")
    assert labels_of(dataset, 6) == []


def test_windows_line_ends_blank_lines_and_a_missing_last_line_end_change_nothing(folder, tmp_path):
    plain = read_movielens(folder).fingerprint
    names = [name.removeprefix("u.") for name in FILES]
    texts = list(FILES.values())
    windows = {name: text.replace("\n", "\r\n") + " \r\n\r\n" for name, text in zip(names, texts, strict=True)}
    assert read_movielens(write(tmp_path / "a", **windows)).fingerprint == plain
    bare = {name: text.rstrip("\n") for name, text in zip(names, texts, strict=True)}
    assert read_movielens(write(tmp_path / "b", **bare)).fingerprint == plain


def zipped(folder, archive, inside=""):
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for name in FILES:
            target.write(folder / name, inside + name)
    return archive


@pytest.mark.parametrize("inside", ["", "ml-100k/"])
def test_an_archive_reads_like_its_folder(folder, tmp_path, inside):
    assert read_movielens(zipped(folder, tmp_path / "x.zip", inside)).fingerprint == read_movielens(folder).fingerprint


def test_a_broken_archive_is_a_file_error(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK no zip")
    with pytest.raises(DataFileError, match=r"u\.data cannot be read from .*x\.zip"):
        read_movielens(tmp_path / "x.zip")


@pytest.mark.parametrize("file", list(FILES))
def test_an_absent_file_is_named_with_the_way_out(folder, file):
    (folder / file).unlink()
    with pytest.raises(DataFileError, match=rf"no {file}\. .*MovieLens 100K files.*--data-dir"):
        read_movielens(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data": "1\t2\t3\t4\n\n1\t6\t3\n1\t7\n"},
            r"u\.data, line 3: 3 fields divided by '\\t', not 4 \(user.* 2 such",
        ),
        ({"data": "1\t2\t3\t4\t5\n"}, r"u\.data, line 1: 5 fields .*, not 4 \(user, item, rating, timestamp\)"),
        ({"data": "1::2::3::4\n"}, r"u\.data, line 1: 1 fields"),
        ({"data": "1\t2\t3\t4\nA\t2\t3\t4\n"}, r"u\.data, line 2: user is 'A', not a number"),
        ({"data": "1\t2.5\t3\t4\n"}, r"u\.data, line 1: item is '2\.5'"),
        ({"data": "1\t2\tnan\t4\n"}, r"u\.data, line 1: rating is 'nan'"),
        ({"data": "1\t2\t\t4\n"}, r"u\.data, line 1: rating is ''"),
        ({"data": "1\t2\t3\t4\n\n1\t6\t3\tnow\n"}, r"u\.data, line 3: timestamp is 'now'.*1 such"),
        ({"item": "2|A||||0|0|0\n6|B|C||||0|0|0\n"}, r"u\.item, line 2: 9 fields divided by '\|', not 8"),
        ({"item": "2|A||||0|0\n"}, r"u\.item, line 1: 7 fields .*genre Children's\)"),
        ({"item": "2|A||||0|0|0\ntwo|B||||0|0|0\n"}, r"u\.item, line 2: item is 'two'"),
        ({"item": "2|A||||0|0|0\n\n6|B||||0|2|0\n"}, r"u\.item, line 3: genre Drama is '2', neither 0 nor 1"),
        ({"item": "2|A||||0||0\n"}, r"u\.item, line 1: genre Drama is ''"),
        ({"item": "2|A|31-Feb-1990|||0|0|0\n"}, r"u\.item, line 1: release date is '31-Feb-1990', not a date like"),
        ({"item": "2|A||||0|0|0\n6|B (1995)|1995|||0|0|0\n"}, r"u\.item, line 2: release date is '1995'"),
        ({"item": "2|A|01-Jan-95|||0|0|0\n"}, r"u\.item, line 1: release date is '01-Jan-95'"),
        ({"item": "2|A||||0|0|0\n2|B||||0|0|0\n"}, r"u\.item has 1 repeated rows.*item 2\."),
        ({"genre": "unknown|0\nDrama\n"}, r"u\.genre, line 2: 1 fields"),
        ({"genre": "unknown|0\nDrama|x\nComedy|2\n"}, r"u\.genre, line 2: number is 'x'"),
        ({"genre": "unknown|0\nDrama|1\nDrama|2\n"}, r"u\.genre has 1 repeated rows.*genre 'Drama'"),
        ({"genre": "unknown|1\nDrama|2\nComedy|3\n"}, r"u\.genre numbers its 3 genres 1, 2, 3\..*u\.item"),
        ({"genre": "unknown|0\nDrama|1\nComedy|1\n"}, r"u\.genre numbers its 3 genres 0, 1, 1\."),
        ({"genre": "\n"}, r"u\.genre numbers its 0 genres not at all"),
    ],
)
def test_what_is_malformed_is_named_with_its_file_and_line(tmp_path, changes, message):
    with pytest.raises(DataFormatError, match=message):
        read_movielens(write(tmp_path, **changes))


def test_repeated_pairs_give_one_error_with_file_count_and_first_pair(tmp_path):
    with pytest.raises(DataFormatError, match=r"u\.data has 2 repeated rows.*user 30, item 2"):
        read_movielens(write(tmp_path, data="4\t2\t1\t1\n30\t2\t5\t1\n30\t2\t4\t2\n30\t2\t5\t1\n"))


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_rating_file_is_an_error(tmp_path, text):
    with pytest.raises(EmptyDatasetError, match=r"u\.data has no interactions"):
        read_movielens(write(tmp_path, data=text))


def write_split(folder, split="u1"):
    """Divide the ratings of u.data: the first three are train, the others test."""
    lines = FILES["u.data"].splitlines(keepends=True)
    (folder / f"{split}.base").write_text("".join(lines[:3]))
    (folder / f"{split}.test").write_text("".join(lines[3:]))
    return folder


@pytest.mark.parametrize("name", ["u1", "u5", "ua", "ub"])
def test_a_predefined_split_has_its_base_as_train_and_its_test_as_test(folder, name):
    split = read_movielens_split(write_split(folder, name), name)
    assert split.name == name
    assert split.dataset.fingerprint == read_movielens(folder).fingerprint
    assert split.dataset.default_attributes == ("genres", "year", "title")
    assert split.train.toarray()[:, :4].tolist() == [[0, 0, 0, 1], [1, 0, 0, 1]]
    assert split.validation.nnz == 0
    assert split.test.toarray()[:, :4].tolist() == [[0, 1, 1, 0], [0, 0, 0, 0]]
    assert split.ratings("train").toarray()[:, :4].tolist() == [[0, 0, 0, 1], [5, 0, 0, 3]]
    assert split.dataset.provenance["ratings_file"] == f"{name}.base, {name}.test"


def test_an_unknown_or_absent_predefined_split_and_a_leak_are_errors(folder):
    with pytest.raises(ConfigError, match=r"no split 'u6'\. Did you mean 'u.'\? It has: u1, u2"):
        read_movielens_split(folder, "u6")
    with pytest.raises(DataFileError, match=r"no u2\.base"):
        read_movielens_split(folder, "u2")
    write_split(folder)
    (folder / "u1.test").write_text("30\t2\t5\t881250949\n")
    with pytest.raises(LeakageError, match=r"u1\.base with u1\.test: 1 .*user 30 and item 2, is in train and test"):
        read_movielens_split(folder, "u1")
    (folder / "u1.test").write_text("1\t2\tx\t3\n")
    with pytest.raises(DataFormatError, match=r"u1\.test, line 1: rating is 'x'"):
        read_movielens_split(folder, "u1")


GENRES = ("unknown", "Action", "Film-Noir", "item", "war")
# What ISO-8859-1 has but white space, | and the control characters; no title here ends like one with a year.
WORDS = st.text(st.characters(codec="iso-8859-1", exclude_categories=("C", "Z"), exclude_characters="|()"), min_size=1)
MOVIES = st.fixed_dictionaries(
    {
        "title": WORDS.filter(lambda title: title != "unknown"),
        "title_year": st.none() | st.integers(1000, 9999),
        "date": st.none() | st.dates(),
        "flags": st.tuples(*[st.booleans()] * len(GENRES)),
    }
)
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def movie_line(item, movie):
    date, year = movie["date"], movie["title_year"]
    released = "" if date is None else f"{date.day:02}-{MONTHS[date.month - 1]}-{date.year:04}"
    title = movie["title"] if year is None else f"{movie['title']} ({year})"
    return "|".join([str(item), title, released, "", "http://x", *(str(int(flag)) for flag in movie["flags"])])


@settings(max_examples=30)
@given(
    movies=st.dictionaries(st.integers(1, 10**9), MOVIES, min_size=1, max_size=6),
    data=st.data(),
)
def test_what_is_written_is_read_back(tmp_path_factory, movies, data):
    pair = st.tuples(st.integers(1, 10**9), st.sampled_from(sorted(movies)))
    value = st.tuples(st.integers(1, 5), st.integers(1, 2**40))
    clicks = data.draw(st.dictionaries(pair, value, min_size=1, max_size=12))
    written = write(
        tmp_path_factory.mktemp("random"),
        data="".join(f"{user}\t{item}\t{rating}\t{time}\n" for (user, item), (rating, time) in clicks.items()),
        item="".join(f"{movie_line(item, movie)}\n" for item, movie in movies.items()),
        genre="".join(f"{genre}|{number}\n" for number, genre in enumerate(GENRES)),
    )
    everything = read_movielens(written)
    assert everything.item_ids.tolist() == sorted(movies)
    dataset = everything.of_clicked_items()
    read = {}
    for row, column in zip(*dataset.interactions.nonzero(), strict=True):
        pair = int(dataset.user_ids[row]), int(dataset.item_ids[column])
        read[pair] = int(dataset.ratings[row, column]), int(dataset.timestamps[row, column])
    assert read == clicks
    assert dataset.item_ids.tolist() == sorted({item for _, item in clicks})
    for column, item in enumerate(dataset.item_ids.tolist()):
        movie = movies[item]
        date = movie["date"]
        year = movie["title_year"] if movie["title_year"] is not None else None if date is None else date.year
        assert dataset.attributes["title"].texts[column] == movie["title"]
        np.testing.assert_array_equal(dataset.attributes["year"].values[column], np.nan if year is None else year)
        genres = {genre for genre, flag in zip(GENRES, movie["flags"], strict=True) if flag} - {"unknown"}
        assert set(labels_of(dataset, item)) == genres


def test_the_real_data_has_its_published_counts(real_data):
    dataset = read_movielens(real_data("ml-100k"))
    assert (dataset.n_users, dataset.n_items, dataset.interactions.nnz) == (943, 1682, 100_000)
    assert dataset.provenance["catalogue"]["clicked_items_without_row"] == 0
    assert np.unique(dataset.ratings.data).tolist() == [1, 2, 3, 4, 5]
    # 20 September 1997 to 22 April 1998, as the readme says of the collection.
    assert (dataset.timestamps.data.min(), dataset.timestamps.data.max()) == (874_724_710, 893_286_638)
    assert (dataset.user_ids[0], dataset.user_ids[-1]) == (1, 943)


def test_the_real_movies_are_read_with_their_letters_and_gaps(real_data):
    dataset = read_movielens(real_data("ml-100k"))
    titles, years = dataset.attributes["title"].texts, dataset.attributes["year"].values
    position = {int(item): index for index, item in enumerate(dataset.item_ids)}
    expected = {
        1: "Toy Story",
        11: "Seven (Se7en)",
        15: "Mr. Holland's Opus",
        543: "Misérables, Les",
        1104: "C'est arrivé près de chez vous",
        1366: "JLG/JLG - autoportrait de décembre",
        1412: "Land Before Time III: The Time of the Great Giving",
        1633: "Á köldum klaka (Cold Fever)",
        1635: "Two Friends",
    }
    assert {item: titles[position[item]] for item in expected} == expected
    # Movie 267 is "unknown", with neither a date nor a title: the one that nothing is known of.
    assert [int(dataset.item_ids[index]) for index in np.flatnonzero(np.isnan(years))] == [267]
    assert titles[position[267]] == ""
    assert (years[position[1]], years[position[15]], years[position[1373]]) == (1995, 1995, 1971)
    genres = dataset.attributes["genres"]
    assert genres.matrix.shape == (1682, 18)
    assert "unknown" not in genres.labels
    assert labels_of(dataset, 1) == ["Animation", "Children's", "Comedy"]
    without = np.flatnonzero(genres.matrix.sum(axis=1) == 0)
    assert dataset.item_ids[without].tolist() == [267, 1373]


@pytest.mark.parametrize("name", ["u1", "u2"])
def test_the_real_splits_have_their_published_sizes_and_all_pairs(real_data, name):
    folder = real_data("ml-100k")
    split = read_movielens_split(folder, name)
    whole = read_movielens(folder)
    assert (split.train.nnz, split.test.nnz) == (80_000, 20_000)
    assert (split.dataset.interactions != whole.interactions).nnz == 0
    assert (split.dataset.timestamps != whole.timestamps).nnz == 0
    # A random split: nearly all that is tested on is earlier than something in train.
    assert split.time_leaks().within_user > 19_000
