"""The HetRec layout of Last.fm, on tiny files written here and on the real folder."""

import itertools
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import DataFileError, DataFormatError, EmptyDatasetError
from coldray.data.filters import FilterConfig, apply_filters
from coldray.data.sources.lastfm import read_lastfm
from contracts.problems import build_features

FILES = {
    "user_artists.dat": "userID\tartistID\tweight\n2\t51\t13883\n10\t7\t1\n2\t7\t12\n",
    "artists.dat": 'id\tname\turl\tpictureURL\n51\tSigur Rós "live"\tx\ty\n7\tBjörk\tx\n99\tNever played\tx\ty\n',
    "user_taggedartists.dat": (
        "userID\tartistID\ttagID\tday\tmonth\tyear\n2\t51\t1\t1\t4\t2009\n10\t51\t1\t1\t4\t2010\n"
        "10\t51\t3\t1\t4\t2010\n2\t99\t4\t1\t4\t2010\n2\t7\t8\t1\t4\t2010\n"
    ),
    "tags.dat": "tagID\ttagValue\n1\tpost-rock\n3\tcafé\n4\tmetal\n",
}


def write(folder, **changes):
    """Write the files, some of them changed; None leaves one out."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        changed = changes.get(name.removesuffix(".dat"), text)
        if changed is not None:
            (folder / name).write_bytes(changed.encode("utf-8" if name == "artists.dat" else "iso-8859-1"))
    return folder


def labels_of(dataset, item):
    tags = dataset.attributes["tags"]
    row = tags.matrix[[list(dataset.item_ids).index(item)]].toarray()[0]
    return tags.labels[row > 0].tolist()


def test_plays_are_interactions_and_their_counts_ratings(tmp_path):
    dataset = read_lastfm(write(tmp_path)).of_clicked_items()
    assert dataset.name == "lastfm"
    assert dataset.user_ids.tolist() == [2, 10]
    assert dataset.item_ids.tolist() == [7, 51]
    assert dataset.interactions.toarray().tolist() == [[1, 1], [1, 0]]
    assert dataset.ratings.toarray().tolist() == [[12, 13883], [1, 0]]
    assert dataset.timestamps is None
    assert dataset.provenance["ratings_are"] == "play counts"


def friends_of(dataset):
    """Return the labels of each user by id; nothing where there are none."""
    friends = dataset.user_attributes["friends"]
    rows = zip(dataset.user_ids.tolist(), friends.matrix.toarray(), strict=True)
    return {user: set(friends.labels[row > 0].tolist()) for user, row in rows}


def test_friends_are_labels_from_either_side_and_one_is_a_label_of_oneself(tmp_path):
    assert not read_lastfm(write(tmp_path)).user_attributes
    (tmp_path / "user_friends.dat").write_text("userID\tfriendID\n2\t10\n2\t77\n")
    dataset = read_lastfm(tmp_path)
    assert friends_of(dataset) == {2: {"2", "10", "77"}, 10: {"2", "10"}}
    assert any("user_friends.dat: 0 of 2 users have no row" in note and "1 of 3 rows" in note for note in dataset.notes)
    (tmp_path / "user_friends.dat").write_text("userID\tfriendID\n10\t2\n2\t10\n2\t77\n")
    assert read_lastfm(tmp_path).fingerprint == dataset.fingerprint
    (tmp_path / "user_friends.dat").write_text("userID\tfriendID\n2\tten\n")
    with pytest.raises(DataFormatError, match=r"user_friends\.dat, line 2"):
        read_lastfm(tmp_path)


@settings(max_examples=30)
@given(st.sets(st.tuples(st.integers(0, 6), st.integers(0, 6)).filter(lambda pair: pair[0] != pair[1]), min_size=1))
def test_two_have_a_label_in_common_who_are_friends_or_have_one(tmp_path_factory, pairs):
    folder = write(tmp_path_factory.mktemp("friends"), user_artists=PLAYS + "".join(f"{u}\t7\t1\n" for u in range(7)))
    (folder / "user_friends.dat").write_text("userID\tfriendID\n" + "".join(f"{a}\t{b}\n" for a, b in pairs))
    found = friends_of(read_lastfm(folder))
    near = {user: {b for a, b in pairs | {(b, a) for a, b in pairs} if a == user} for user in range(7)}
    for one, other in itertools.combinations(range(7), 2):
        assert bool(found[one] & found[other]) == (other in near[one] or bool(near[one] & near[other]))


def test_an_artist_that_nobody_played_is_an_item_known_by_its_tags(tmp_path):
    dataset = read_lastfm(write(tmp_path))
    assert dataset.item_ids.tolist() == [7, 51, 99]
    assert dataset.clicked_items.tolist() == [0, 1]
    assert labels_of(dataset, 99) == ["metal"]


def test_a_rating_filter_is_one_of_plays(tmp_path):
    kept = apply_filters(read_lastfm(write(tmp_path)), FilterConfig(min_rating_exclusive=1))
    assert kept.interactions.nnz == 2


def test_tags_of_anybody_are_the_labels_and_one_without_a_name_goes_by_its_number(tmp_path):
    dataset = read_lastfm(write(tmp_path)).of_clicked_items()
    assert labels_of(dataset, 51) == ["café", "post-rock"]
    assert labels_of(dataset, 7) == ["8"]
    assert dataset.attributes["tags"].labels.tolist() == ["8", "café", "post-rock"]
    assert dataset.attributes["tags"].matrix.max() == 1
    assert dataset.default_attributes == ("tags",)
    assert list(build_features(dataset).features) == ["tags"]


def test_names_keep_their_letters_and_quotes_and_an_artist_without_one_is_counted(tmp_path):
    assert read_lastfm(write(tmp_path / "a")).attributes["name"].texts[:2] == ("Björk", 'Sigur Rós "live"')
    dataset = read_lastfm(write(tmp_path / "b", artists="id\tname\n7\tBjörk\n"))
    assert dataset.attributes["name"].texts == ("Björk", "")
    assert dataset.provenance["catalogue"]["clicked_items_without_row"] == 1


def test_an_archive_reads_like_its_folder(tmp_path):
    folder = write(tmp_path / "files")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in FILES:
            archive.write(folder / name, name)
    assert read_lastfm(tmp_path / "x.zip").fingerprint == read_lastfm(folder).fingerprint


@pytest.mark.parametrize("file", list(FILES))
def test_an_absent_file_is_named_with_the_way_out(tmp_path, file):
    write(tmp_path, **{file.removesuffix(".dat"): None})
    with pytest.raises(DataFileError, match=rf"no {file}\. .*Last\.fm HetRec files.*--data-dir"):
        read_lastfm(tmp_path)


PLAYS = "userID\tartistID\tweight\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"user_artists": "userID\tartistID\tplays\n1\t2\t3\n"}, r"user_artists\.dat has no column 'weight'"),
        ({"user_artists": PLAYS + "1\t7\t3\n1\t51\tx\n"}, r"user_artists\.dat, line 3: weight is 'x', not a number"),
        ({"user_artists": PLAYS + "1\t7\t0\n"}, r"line 2: weight is '0', not a positive number of plays"),
        ({"user_artists": PLAYS + "1\t7\t3\n1\t7\t4\n"}, r"user_artists\.dat has 1 repeated rows.*user 1, item 7"),
        ({"artists": "id\tname\n7\tA\n7\tB\n"}, r"artists\.dat has 1 repeated rows.*item 7"),
        ({"tags": "tagID\ttagValue\n1\tA\n1\tB\n"}, r"tags\.dat has 1 repeated rows.*tagID '1'"),
        ({"user_taggedartists": "artistID\ttagID\nx\t1\n"}, r"user_taggedartists\.dat, line 2: artistID is 'x'"),
    ],
)
def test_what_is_malformed_is_named(tmp_path, changes, message):
    with pytest.raises(DataFormatError, match=message):
        read_lastfm(write(tmp_path, **changes))


def test_artists_that_are_not_utf8_are_an_error(tmp_path):
    write(tmp_path)
    (tmp_path / "artists.dat").write_bytes(b"id\tname\n7\tBj\xf6rk\n")
    with pytest.raises(DataFormatError, match=r"artists\.dat in .* is not text in utf-8"):
        read_lastfm(tmp_path)


def test_no_play_is_an_error(tmp_path):
    with pytest.raises(EmptyDatasetError, match=r"user_artists\.dat has no interactions"):
        read_lastfm(write(tmp_path, user_artists=PLAYS))


def test_the_real_data_has_its_published_counts(real_data):
    dataset = read_lastfm(real_data("hetrec2011-lastfm-2k"))
    assert (dataset.n_users, dataset.n_items, dataset.interactions.nnz) == (1892, 17_632, 92_834)
    assert dataset.ratings.data.max() == 352_698
    assert dataset.provenance["catalogue"]["clicked_items_without_row"] == 0
    assert any("1,313 of 109,750 rows are left out, as their 390 items" in note for note in dataset.notes)
    names = dict(zip(dataset.item_ids.tolist(), dataset.attributes["name"].texts, strict=True))
    assert (names[1], names[51]) == ("MALICE MIZER", "Duran Duran")
    assert "Björk" in names.values()
    assert "new wave" in labels_of(dataset, 51)
    assert dataset.user_attributes["friends"].matrix.nnz == 25_434 + 1892
    tagged = np.diff(dataset.attributes["tags"].matrix.indptr)
    assert int((tagged > 0).sum()) == TAGGED_ARTISTS


TAGGED_ARTISTS = 12_133
"""Played artists with a tag; 390 of the 12,523 tagged ones were never played."""
