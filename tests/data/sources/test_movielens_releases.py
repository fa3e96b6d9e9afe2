"""The releases of MovieLens beyond 100K, on tiny files of their formats and on the real latest-small."""

import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import ConfigError, DataFileError, DataFormatError, EmptyDatasetError
from coldray.data.sources.movielens_releases import _RELEASES, read_movielens_release
from contracts.problems import build_features

MOVIES = [
    (10, "Misérables, Les (1995)", "Drama|Children's"),
    (2, 'The 7" single: a film (1971)', "Drama"),
    (6, "Without a year", "(no genres listed)"),
    (99, "Never rated (1950)", "Western"),
]
RATINGS = [(30, 2, 4.5, 881250949), (4, 10, 1.0, 891717742), (30, 10, 0.5, 878887116), (4, 6, 4.0, 886397596)]
COLONS = ["ml-1m", "ml-10m"]
CSV = ["ml-20m", "ml-25m", "ml-latest-small"]


def quoted(title):
    return '"' + title.replace('"', '""') + '"' if set(title) & set(',"') else title


def write(folder, name, movies=MOVIES, ratings=RATINGS, rating_text=None, movie_text=None):
    """Write the two files of a release as it is published; the texts replace what the rows give."""
    folder.mkdir(parents=True, exist_ok=True)
    if name in COLONS:
        movie_lines = "".join(f"{movie}::{title}::{genres}\n" for movie, title, genres in movies)
        rating_lines = "".join(f"{u}::{i}::{r:g}::{t}\n" for u, i, r, t in ratings)
        suffix, encoding = "dat", "iso-8859-1" if name == "ml-1m" else "utf-8"
    else:
        movie_lines = "movieId,title,genres\n" + "".join(f"{m},{quoted(t)},{g}\n" for m, t, g in movies)
        rating_lines = "userId,movieId,rating,timestamp\n" + "".join(f"{u},{i},{r},{t}\n" for u, i, r, t in ratings)
        suffix, encoding = "csv", "utf-8"
    text = movie_lines if movie_text is None else movie_text
    (folder / f"movies.{suffix}").write_bytes(text.encode(encoding))
    (folder / f"ratings.{suffix}").write_text(rating_lines if rating_text is None else rating_text)
    return folder


@pytest.mark.parametrize("name", list(_RELEASES))
def test_every_release_gives_ratings_times_and_attributes(tmp_path, name):
    everything = read_movielens_release(write(tmp_path, name), name)
    assert everything.item_ids.tolist() == [2, 6, 10, 99]
    assert everything.attributes["title"].texts[3] == "Never rated"
    dataset = everything.of_clicked_items()
    assert dataset.name == name
    assert dataset.user_ids.tolist() == [4, 30]
    assert dataset.item_ids.tolist() == [2, 6, 10]
    assert dataset.item_ids.dtype == np.int64
    assert dataset.ratings.toarray().tolist() == [[0, 4, 1], [4.5, 0, 0.5]]
    assert dataset.timestamps.toarray().tolist() == [[0, 886397596, 891717742], [881250949, 0, 878887116]]
    genres = dataset.attributes["genres"]
    assert genres.labels.tolist() == ["Children's", "Drama"]
    assert genres.matrix.toarray().tolist() == [[0, 1], [0, 0], [1, 1]]
    assert dataset.attributes["title"].texts == ('The 7" single: a film', "Without a year", "Misérables, Les")
    np.testing.assert_array_equal(dataset.attributes["year"].values, [1971, np.nan, 1995])
    assert list(build_features(dataset).features) == ["genres", "year", "title"]
    assert dataset.provenance["ratings"] == 4
    assert dataset.provenance["catalogue"]["clicked_items_without_row"] == 0


@pytest.mark.parametrize("name", ["ml-1m", "ml-25m"])
def test_an_archive_reads_like_its_folder(tmp_path, name):
    folder = write(tmp_path / "files", name)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.iterdir():
            archive.write(path, f"{name}/{path.name}")
    dataset = read_movielens_release(tmp_path / "x.zip", name)
    assert dataset.fingerprint == read_movielens_release(folder, name).fingerprint


def test_a_broken_archive_is_a_file_error(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK no zip")
    with pytest.raises(DataFileError, match=r"movies\.csv cannot be read from .*x\.zip"):
        read_movielens_release(tmp_path / "x.zip", "ml-25m")


@pytest.mark.parametrize("name", ["ml-10m", "ml-20m"])
@pytest.mark.parametrize("file", ["movies", "ratings"])
def test_an_absent_file_is_named_with_the_way_out(tmp_path, name, file):
    folder = write(tmp_path, name)
    path = next(folder.glob(f"{file}.*"))
    path.unlink()
    with pytest.raises(DataFileError, match=rf"no {path.name}\. .*MovieLens {name[3:]} files.*--data-dir"):
        read_movielens_release(folder, name)


def test_an_unknown_release_gets_the_nearest_name(tmp_path):
    with pytest.raises(ConfigError, match="no MovieLens 'ml-2m'"):
        read_movielens_release(tmp_path, "ml-2m")


def test_an_item_without_a_movie_is_kept_and_counted(tmp_path):
    dataset = read_movielens_release(write(tmp_path, "ml-20m", movies=MOVIES[1:]), "ml-20m")
    assert dataset.item_ids.tolist() == [2, 6, 10, 99]
    assert dataset.provenance["catalogue"]["clicked_items_without_row"] == 1
    assert dataset.attributes["title"].texts[2] == ""


@pytest.mark.parametrize(
    ("name", "texts", "message"),
    [
        ("ml-1m", {"rating_text": "1::2::3::4\n1::6::x::4\n"}, r"ratings\.dat, line 2: rating is 'x'"),
        ("ml-1m", {"rating_text": "1::2::3\n"}, r"ratings\.dat, line 1: timestamp is None"),
        ("ml-1m", {"rating_text": "1:x:2::3::4\n"}, r"ratings\.dat, line 1: timestamp is"),
        ("ml-1m", {"rating_text": "1::2::3::4::5\n"}, r"ratings\.dat in .* is malformed"),
        ("ml-1m", {"rating_text": "1\t2\t3\t4\n"}, r"ratings\.dat, line 1: user is"),
        ("ml-1m", {"movie_text": "2::A (1990)\n"}, r"movies\.dat, line 1: 2 fields divided by '::', not 3"),
        ("ml-1m", {"movie_text": "2::A::B\n2::A::B\n"}, r"movies\.dat has 1 repeated rows.*item 2"),
        ("ml-1m", {"rating_text": "1::2::3::4\n1::2::5::6\n"}, r"ratings\.dat has 1 repeated rows.*user 1, item 2"),
        (
            "ml-20m",
            {"rating_text": "userId,movieId,score,timestamp\n1,2,3,4\n"},
            r"ratings\.csv has no column 'rating'",
        ),
        ("ml-20m", {"rating_text": "userId,movieId,rating,timestamp\n1,2,,4\n"}, r"ratings\.csv, line 2: rating is"),
        ("ml-20m", {"movie_text": "movieId,title\n2,A\n"}, r"movies\.csv has no column 'genres'"),
        ("ml-20m", {"movie_text": "movieId,title,genres\n2,A,B\nx,A,B\n"}, r"movies\.csv, line 3: movieId is 'x'"),
        ("ml-20m", {"movie_text": "movieId,title,genres\n2,,B\n"}, r"movies\.csv, line 2: the movie has no title"),
    ],
)
def test_what_is_malformed_is_named_with_its_file_and_line(tmp_path, name, texts, message):
    with pytest.raises(DataFormatError, match=message):
        read_movielens_release(write(tmp_path, name, **texts), name)


def test_movies_that_are_not_in_the_encoding_of_the_release_are_an_error(tmp_path):
    write(tmp_path, "ml-10m")
    (tmp_path / "movies.dat").write_bytes("10::Misérables::Drama\n".encode("iso-8859-1"))
    with pytest.raises(DataFormatError, match=r"movies\.dat in .* is not text in utf-8"):
        read_movielens_release(tmp_path, "ml-10m")


@pytest.mark.parametrize("name", ["ml-10m", "ml-20m"])
def test_no_rating_is_an_error(tmp_path, name):
    with pytest.raises(EmptyDatasetError, match=r"ratings\.(dat|csv) .*nothing to learn from"):
        read_movielens_release(write(tmp_path, name, ratings=[]), name)


@settings(max_examples=40)
@given(
    name=st.sampled_from(list(_RELEASES)),
    clicks=st.dictionaries(
        st.tuples(st.integers(1, 10**9), st.integers(1, 50)),
        st.tuples(st.integers(1, 10).map(lambda half: half / 2), st.integers(1, 2**40 // 16)),
        min_size=1,
        max_size=12,
    ),
)
def test_what_is_written_is_read_back(tmp_path_factory, name, clicks):
    ratings = [(*pair, *value) for pair, value in clicks.items()]
    movies = [*MOVIES, *((item, "A", "B") for item in {item for _, item in clicks} - {10, 2, 6, 99})]
    folder = write(tmp_path_factory.mktemp("random"), name, movies=movies, ratings=ratings)
    dataset = read_movielens_release(folder, name)
    read = {}
    for row, column in zip(*dataset.interactions.nonzero(), strict=True):
        pair = int(dataset.user_ids[row]), int(dataset.item_ids[column])
        read[pair] = float(dataset.ratings[row, column]), int(dataset.timestamps[row, column])
    assert read == clicks


def test_the_real_latest_small_has_its_published_counts(real_data):
    dataset = read_movielens_release(real_data("ml-latest-small"), "ml-latest-small")
    assert (dataset.n_users, dataset.n_items, dataset.interactions.nnz) == (610, 9742, 100_836)
    assert dataset.n_unclicked_items == 9742 - 9724
    assert dataset.provenance["catalogue"]["clicked_items_without_row"] == 0
    assert np.unique(dataset.ratings.data).tolist() == [0.5 * half for half in range(1, 11)]
    # 29 March 1996 to 24 September 2018, as the readme says.
    assert (dataset.timestamps.data.min(), dataset.timestamps.data.max()) == (828_124_615, 1_537_799_250)
    assert dataset.attributes["title"].texts[0] == "Toy Story"
    assert dataset.attributes["year"].values[0] == 1995
    assert dataset.attributes["genres"].matrix.shape == (9742, 19)
    assert "American President, The" in dataset.attributes["title"].texts
