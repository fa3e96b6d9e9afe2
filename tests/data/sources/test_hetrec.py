"""The HetRec layout, on tiny files written here and on the real folders."""

import zipfile

import numpy as np
import pytest

import coldray
from coldray.core.errors import DataFileError, DataFormatError, EmptyDatasetError
from coldray.data.sources.hetrec import read_hetrec

FILES = {
    "movies.dat": (
        "id\ttitle\timdbID\tyear\trtAllCriticsRating\n"
        '10\t"Crocodile" Dundee\t1\t1986\t9\n'
        "2\tAmélie\t2\t2001\t8\n"
        '7\tThe 7" single\t3\t\\N\t\\N\n'
        "99\tNever rated\t4\t1950\t1\n"
    ),
    "movie_genres.dat": "movieID\tgenre\n2\tComedy\n2\tRomance\n10\tComedy\n99\tWestern\n",
    "movie_countries.dat": "movieID\tcountry\n2\tFrance\n7\t\n10\tAustralia\n",
    "movie_directors.dat": "movieID\tdirectorID\tdirectorName\n2\tjpj\tJean-Pierre\n10\tpf\tPeter\n",
    "movie_actors.dat": "movieID\tactorID\n2\tat\n10\tph\n10\tlk\n",
    "movie_locations.dat": (
        "movieID\tlocation1\tlocation2\tlocation3\tlocation4\n"
        "2\tFrance\tParis\tMontmartre\tCafé\n"
        "10\tAustralia\tQueensland\t\t\n"
        "2\tGermany\t\t\n"
        "7\t\t\t\t\n"
    ),
    "movie_tags.dat": "movieID\ttagID\ttagWeight\n2\t1\t5\n10\t8\t1\n",
    "tags.dat": "id\tvalue\n1\twhimsical\n",
    "user_ratedmovies.dat": "userID\tmovieID\trating\n75\t2\t4.5\n75\t10\t3\n8\t2\t0.5\n8\t7\t5\n",
}


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_bytes(text.encode("iso-8859-1"))
    return tmp_path


def labels_of(dataset, name, item):
    attribute = dataset.attributes[name]
    row = attribute.matrix[[list(dataset.item_ids).index(item)]].toarray()[0]
    return attribute.labels[row > 0].tolist()


def test_ids_are_numbers_in_numeric_order_and_rated_movies_are_items(folder):
    dataset = read_hetrec(folder).of_clicked_items()
    assert dataset.user_ids.tolist() == [8, 75]
    assert dataset.item_ids.tolist() == [2, 7, 10]
    assert dataset.user_ids.dtype == dataset.item_ids.dtype == np.int64
    assert dataset.interactions.toarray().tolist() == [[1, 1, 0], [1, 0, 1]]
    assert dataset.ratings.toarray().tolist() == [[0.5, 5, 0], [4.5, 0, 3]]
    assert dataset.ratings.dtype == np.float32
    assert dataset.timestamps is None


def test_bare_quotes_and_latin_letters_are_read_as_they_are(folder):
    assert read_hetrec(folder).of_clicked_items().attributes["title"].texts == (
        "Amélie",
        'The 7" single',
        '"Crocodile" Dundee',
    )


def test_attributes_are_read_by_movie(folder):
    dataset = read_hetrec(folder).of_clicked_items()
    assert labels_of(dataset, "genres", 2) == ["Comedy", "Romance"]
    assert labels_of(dataset, "countries", 7) == []
    assert labels_of(dataset, "directors", 2) == ["jpj"]
    assert labels_of(dataset, "actors", 10) == ["lk", "ph"]
    assert labels_of(dataset, "location1", 2) == ["France", "Germany"]
    assert labels_of(dataset, "location2", 10) == ["Queensland"]
    assert labels_of(dataset, "location3", 10) == []
    np.testing.assert_array_equal(dataset.attributes["year"].values, [2001, np.nan, 1986])


def test_the_first_actors_are_those_of_the_credits_and_the_others_counted(folder):
    rows = ["10\tlk\tL\t3", "10\tph\tP\t1", "2\tat\tA\t", "10\tzz\tZ\t", "10\tph\tP\t4", "10\taa\tA\t2"]
    (folder / "movie_actors.dat").write_text("movieID\tactorID\tactorName\tranking\n" + "\n".join(rows) + "\n")
    assert labels_of(read_hetrec(folder), "actors", 10) == ["aa", "lk", "ph", "zz"]
    dataset = read_hetrec(folder, first_actors=2)
    assert labels_of(dataset, "actors", 10) == ["aa", "ph"]
    assert labels_of(dataset, "actors", 2) == ["at"]
    told = "movie_actors.dat: 2 actors beyond the first 2 of a film, by ranking, are left out."
    assert told in dataset.notes
    named = coldray.load_dataset("hetrec", data_dir=folder, first_labels={"actors": 3}, filters={})
    assert labels_of(named, "actors", 10) == ["aa", "lk", "ph"]


def test_the_first_actors_need_a_ranking(folder):
    with pytest.raises(DataFormatError, match="no column 'ranking'"):
        read_hetrec(folder, first_actors=2)


def test_movies_that_nobody_rated_are_items_known_by_their_attributes(folder):
    dataset = read_hetrec(folder)
    assert dataset.item_ids.tolist() == [2, 7, 10, 99]
    assert dataset.clicked_items.tolist() == [0, 1, 2]
    assert labels_of(dataset, "genres", 99) == ["Western"]
    assert dataset.attributes["title"].texts[3] == "Never rated"
    assert "Western" not in dataset.of_clicked_items().attributes["genres"].labels
    assert dataset.provenance["catalogue"]["rows_without_clicks"] == 1


def test_lines_with_another_number_of_fields_are_told(folder):
    with (folder / "movie_genres.dat").open("a") as file:
        file.write("2\tDrama\tlost\n2\n")
    told = [note for note in read_hetrec(folder).notes if note.startswith("movie_genres.dat: ")]
    assert told == [
        "movie_genres.dat: 2 lines have another number of fields than the header, the first is line 6; absent fields "
        "are blank, others not read."
    ]


def test_rows_of_attributes_that_are_of_no_item_are_told(folder):
    assert not any("left out" in note for note in read_hetrec(folder).notes)
    with (folder / "movie_genres.dat").open("a") as file:
        file.write("5\tDrama\n5\tComedy\n6\tComedy\n")
    dataset = read_hetrec(folder)
    assert 5 not in dataset.item_ids
    assert tuple(note for note in dataset.notes[1:] if "another number of fields" not in note) == (
        "movie_genres.dat: 3 of 7 rows are left out, as their 2 items are neither clicked nor in the table of items.",
    )


def test_locations_are_joined_in_file_order_ragged_rows_included(folder):
    assert read_hetrec(folder).of_clicked_items().attributes["locations"].texts == (
        "France Paris Montmartre Café Germany",
        "",
        "Australia Queensland",
    )


def test_tags_are_resolved_where_possible_and_are_no_default(folder):
    dataset = read_hetrec(folder)
    assert labels_of(dataset, "tags", 2) == ["whimsical"]
    assert labels_of(dataset, "tags", 10) == ["8"]
    assert dataset.default_attributes == (
        *("genres", "countries", "directors", "actors", "location1", "location2", "location3", "locations", "year"),
    )


def test_tags_may_be_those_of_another_folder(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("tags")
    for name in ("movie_tags.dat", "tags.dat"):
        (folder / name).rename(other / name)
    assert "tags" not in read_hetrec(folder).attributes
    dataset = read_hetrec(folder, tags=other)
    assert labels_of(dataset, "tags", 2) == ["whimsical"]
    assert "tags" not in dataset.default_attributes
    (other / "movie_tags.dat").unlink()
    with pytest.raises(DataFileError, match=r"has no movie_tags\.dat"):
        read_hetrec(folder, tags=other)


def test_popularity_columns_of_the_movies_are_never_read(folder):
    plain = read_hetrec(folder).fingerprint
    (folder / "movies.dat").write_bytes(FILES["movies.dat"].replace("\t9\n", "\t0\n").encode("iso-8859-1"))
    assert read_hetrec(folder).fingerprint == plain


def test_windows_line_ends_blank_lines_and_a_missing_last_line_end_change_nothing(folder):
    plain = read_hetrec(folder).fingerprint
    for name, text in FILES.items():
        (folder / name).write_bytes((text.replace("\n", "\r\n") + "\r\n\r\n").encode("iso-8859-1"))
    assert read_hetrec(folder).fingerprint == plain
    for name, text in FILES.items():
        (folder / name).write_bytes(text.rstrip("\n").encode("iso-8859-1"))
    assert read_hetrec(folder).fingerprint == plain


@pytest.mark.parametrize("inside", ["", "hetrec2011-movielens-2k-v2/"])
def test_an_archive_reads_like_its_folder(folder, tmp_path, inside):
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for name in FILES:
            target.write(folder / name, inside + name)
    assert read_hetrec(archive).fingerprint == read_hetrec(folder).fingerprint


def test_a_broken_archive_is_a_file_error(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK no zip")
    with pytest.raises(DataFileError, match=r"x\.zip"):
        read_hetrec(tmp_path / "x.zip")


@pytest.mark.parametrize(
    ("file", "attributes"),
    [
        ("movie_genres.dat", {"genres"}),
        ("movie_countries.dat", {"countries"}),
        ("movie_directors.dat", {"directors"}),
        ("movie_actors.dat", {"actors"}),
        ("movie_locations.dat", {"location1", "location2", "location3", "locations"}),
        ("movie_tags.dat", {"tags"}),
    ],
)
def test_an_absent_attribute_file_means_an_absent_attribute(folder, file, attributes):
    full = read_hetrec(folder)
    (folder / file).unlink()
    dataset = read_hetrec(folder)
    assert set(full.attributes) - set(dataset.attributes) == attributes
    assert attributes.isdisjoint(dataset.default_attributes)


def test_without_the_tag_names_the_tag_ids_remain(folder):
    (folder / "tags.dat").unlink()
    assert labels_of(read_hetrec(folder), "tags", 2) == ["1"]


def test_an_absent_fourth_location_is_tolerated(folder):
    (folder / "movie_locations.dat").write_text("movieID\tlocation1\tlocation2\tlocation3\n2\tA\tB\tC\n")
    dataset = read_hetrec(folder).of_clicked_items()
    assert dataset.attributes["locations"].texts == ("A B C", "", "")


@pytest.mark.parametrize("file", ["movies.dat", "user_ratedmovies.dat"])
def test_an_absent_required_file_is_named_with_the_way_out(folder, file):
    (folder / file).unlink()
    with pytest.raises(DataFileError, match=rf"no {file}.*--data-dir"):
        read_hetrec(folder)


@pytest.mark.parametrize(
    ("file", "header", "wanted"),
    [
        ("user_ratedmovies.dat", "userID\tmovieID\tscore", "rating"),
        ("movies.dat", "id\ttitle\tyr", "year"),
        ("movie_actors.dat", "movieID\tactorName", "actorID"),
        ("tags.dat", "id\tname", "value"),
    ],
)
def test_an_absent_required_column_is_named_with_the_columns_found(folder, file, header, wanted):
    (folder / file).write_text(f"{header}\n")
    with pytest.raises(DataFormatError) as caught:
        read_hetrec(folder)
    assert f"{file} has no column '{wanted}'" in str(caught.value)
    assert header.split("\t")[-1] in str(caught.value)


@pytest.mark.parametrize("rating", ["nan", "five", "", "inf"])
def test_a_rating_that_is_no_number_is_named_with_its_line(folder, rating):
    (folder / "user_ratedmovies.dat").write_text(f"userID\tmovieID\trating\n75\t2\t4\n\n75\t10\t{rating}\n")
    with pytest.raises(DataFormatError, match=r"user_ratedmovies\.dat, line 4: rating is"):
        read_hetrec(folder)


def test_an_id_that_is_no_number_is_named_with_its_line(folder):
    (folder / "movie_genres.dat").write_text("movieID\tgenre\n2\tComedy\ntwo\tDrama\n")
    with pytest.raises(DataFormatError, match=r"movie_genres\.dat, line 3: movieID is 'two'"):
        read_hetrec(folder)


def test_a_year_that_is_no_number_is_named_with_its_line(folder):
    (folder / "movies.dat").write_text("id\ttitle\tyear\n2\tA\tMMI\n")
    with pytest.raises(DataFormatError, match=r"movies\.dat, line 2: year is 'MMI'"):
        read_hetrec(folder)


def test_repeated_pairs_give_one_error_with_file_count_and_first_pair(folder):
    rows = "75\t2\t4\n8\t2\t1\n75\t2\t4\n8\t2\t1\n8\t2\t1\n"
    (folder / "user_ratedmovies.dat").write_text(f"userID\tmovieID\trating\n{rows}")
    with pytest.raises(DataFormatError, match=r"user_ratedmovies\.dat has 3 repeated rows.*user 75, item 2"):
        read_hetrec(folder)


def test_a_repeated_movie_is_an_error(folder):
    (folder / "movies.dat").write_text("id\ttitle\tyear\n2\tA\t2001\n2\tB\t2002\n")
    with pytest.raises(DataFormatError, match=r"movies\.dat has 1 repeated rows.*item 2"):
        read_hetrec(folder)


@pytest.mark.parametrize("text", ["", "userID\tmovieID\trating\n"])
def test_an_empty_rating_file_is_an_error(folder, text):
    (folder / "user_ratedmovies.dat").write_text(text)
    with pytest.raises((DataFormatError, EmptyDatasetError), match=r"user_ratedmovies\.dat"):
        read_hetrec(folder)


def test_times_in_milliseconds_and_as_madrid_dates_are_the_same_seconds(folder):
    # The two rows are of the data set's own readme and files: one in winter time, one in summer time.
    (folder / "user_ratedmovies.dat").write_text(
        "userID\tmovieID\trating\tdate_day\tdate_month\tdate_year\tdate_hour\tdate_minute\tdate_second\n"
        "75\t2\t1\t29\t10\t2006\t23\t17\t16\n"
        "78\t10\t1\t16\t4\t2007\t4\t43\t45\n"
    )
    by_date = read_hetrec(folder)
    (folder / "user_ratedmovies-timestamps.dat").write_text(
        "userID\tmovieID\trating\ttimestamp\n75\t2\t1\t1162160236000\n78\t10\t1\t1176691425000\n"
    )
    by_milliseconds = read_hetrec(folder)
    assert by_milliseconds.provenance["ratings_file"] == "user_ratedmovies-timestamps.dat"
    assert by_milliseconds.timestamps.toarray()[:, [0, 2]].tolist() == [[1162160236, 0], [0, 1176691425]]
    assert by_milliseconds.timestamps.dtype == np.int64
    assert by_date.fingerprint == by_milliseconds.fingerprint


def test_a_date_that_does_not_exist_is_an_error(folder):
    (folder / "user_ratedmovies.dat").write_text(
        "userID\tmovieID\trating\tdate_day\tdate_month\tdate_year\tdate_hour\tdate_minute\tdate_second\n"
        "75\t2\t1\t31\t2\t2006\t23\t17\t16\n"
    )
    with pytest.raises(DataFormatError, match=r"user_ratedmovies\.dat, line 2: .*date"):
        read_hetrec(folder)


def test_the_overview_fits_the_title_year_else_the_movie_year_else_matches_best(folder):
    (folder / "movies_tmdb_overview.csv").write_text(
        "MovieID,Title,overview,release_year,match_score\n"
        '2,Amélie (1999),"by year of movies.dat",2001,10\n'
        '2,Amélie (1999),"by title, ""quoted""",1999,1\n'
        "7,Single (1900),first,1950,50\n"
        "7,Single (1900),best,1951,90\n"
        "7,Single (1900),also best,1952,90\n"
        "10,Crocodile (1900),of another year,1950,100\n"
        "10,Crocodile (1900),of the year of movies.dat,1986.0,1\n"
        "10,Crocodile (1900),,1900,100\n"
        "99,Never (1950),unrated,1950,1\n",
        encoding="utf-8",
    )
    dataset = read_hetrec(folder, name="ml1m-hetrec").of_clicked_items()
    assert dataset.attributes["overview"].texts == ('by title, "quoted"', "best", "of the year of movies.dat")
    assert "overview" not in dataset.default_attributes


def test_provenance_says_that_the_ratings_are_not_all_there(folder):
    assert read_hetrec(folder).provenance["complete"] is False
    assert "complete" not in read_hetrec(folder, name="ml1m-hetrec").provenance


def test_the_real_benchmark_has_its_checked_counts(real_data):
    dataset = read_hetrec(real_data("ml1m-hetrec"), name="ml1m-hetrec")
    assert (dataset.n_users, dataset.n_items, dataset.interactions.nnz) == (6040, 3260, 998_539)
    assert dataset.provenance["catalogue"]["clicked_items_without_row"] == 3260 - 3235
    assert dataset.attributes["actors"].matrix.nnz == 77_072
    assert any("movies_tmdb_overview.csv: 410 of 3,407 rows are left out" in note for note in dataset.notes)
    assert round(100 * dataset.density, 2) == 5.07
    assert sum(bool(text) for text in dataset.attributes["overview"].texts) > 2900
    toy_story = int(np.searchsorted(dataset.item_ids, 1))
    assert dataset.attributes["title"].texts[toy_story] == "Toy story"
    assert dataset.attributes["overview"].texts[toy_story].startswith("Led by Woody")
    assert dataset.attributes["year"].values[toy_story] == 1995
    assert all(name in dataset.attributes for name in dataset.default_attributes)


def test_the_real_sample_of_hetrec_has_its_checked_counts(real_data):
    dataset = read_hetrec(real_data("hetrec2011-movielens-2k-v2"))
    assert (dataset.n_users, dataset.n_items, dataset.interactions.nnz) == (2113, 10_197, 257_715)
    assert dataset.n_unclicked_items == 10_197 - 9029
    assert dataset.provenance["complete"] is False
    assert "tags" in dataset.attributes
    assert set(np.unique(dataset.ratings.data)) == set(np.arange(0.5, 5.5, 0.5))
