"""Reader of the HetRec 2011 Last.fm layout: a folder of ``.dat`` files, or the published archive of it.

``user_artists.dat`` says how often a user played an artist, ``user_taggedartists.dat`` which tags a user gave it;
``user_friends.dat``, which may be missing, who is whose friend. All files are tab-separated and unquoted; the artists
are in UTF-8, the tags in ISO-8859-1.

Source: Cantador, Brusilovsky and Kuflik, *2nd Workshop on Information Heterogeneity and Fusion in Recommender Systems
(HetRec 2011)*, RecSys 2011.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from coldray.data.catalogue import Catalogue, note_strays
from coldray.data.dataset import Attribute, Dataset, Ids
from coldray.data.sources.assembly import (
    Described,
    Profiles,
    assemble,
    label_attribute,
    plain_attribute,
    refuse_repeated,
)
from coldray.data.sources.friends import friend_lists
from coldray.data.tables.archive import DataFiles, parse_numbers, refuse_values

NAME = "lastfm"
_PLAY_FILE = "user_artists.dat"
_ARTIST_FILE = "artists.dat"
_TAGGING_FILE = "user_taggedartists.dat"
_TAG_FILE = "tags.dat"
_FRIEND_FILE = "user_friends.dat"
_DEFAULT_ATTRIBUTES = ("tags",)
"""All that is known of what an artist sounds like; listeners write them, so an artist new to everybody has none."""


def read_lastfm(path: Path) -> Dataset:
    """Read a dataset in the HetRec 2011 Last.fm layout.

    Items are the artists, whether anybody played them or not. Play counts are kept as ratings, so that a rating filter
    is one of plays; there are no times. The tags of an artist are those that anybody gave it.

    Users have ``friends``, if the file is there: as labels they and their friends, so that two friends have a label in
    common, and so have two with a friend in common. It is what is known of a person, whether a split holds their clicks
    out or not.

    Parameters
    ----------
    path
        A folder with the files, or a ``.zip`` of them.

    Raises
    ------
    DataFileError
        If a file is missing or cannot be read.
    DataFormatError
        If a column is missing, a value is not of its type, a play count is not positive, or an artist, a tag or a
        (user, artist) pair is repeated.
    EmptyDatasetError
        If there are no plays.
    """
    files = DataFiles(path, "Last.fm HetRec")
    pairs = _plays(files)
    artists, tags = _artists(files), _taggings(files)
    provenance: dict[str, Any] = {
        "source": NAME, "ratings_file": _PLAY_FILE, "ratings": pairs.height, "ratings_are": "play counts"
    }  # fmt: skip

    def attributes(item_ids: Ids) -> dict[str, Attribute]:
        note_strays(provenance, _TAGGING_FILE, tags["item"], item_ids)
        provenance["notes"] = [*provenance.get("notes", ()), *files.notes]
        return {
            "tags": label_attribute(tags, item_ids),
            "name": plain_attribute(artists, "name", item_ids),
        }

    return assemble(
        pairs,
        attributes,
        name=NAME,
        file=_PLAY_FILE,
        default_attributes=_DEFAULT_ATTRIBUTES,
        provenance=provenance,
        catalogue=Catalogue(artists["item"], _ARTIST_FILE),
        profiles=_friends(files),
    )


def _plays(files: DataFiles) -> pl.DataFrame:
    table = files.required_table(_PLAY_FILE, ("userID", "artistID", "weight"))
    plays = parse_numbers(table, "weight", pl.Float32(), _PLAY_FILE)
    refuse_values(plays <= 0, table, "weight", _PLAY_FILE, "not a positive number of plays")
    return table.select(
        parse_numbers(table, "userID", pl.Int64(), _PLAY_FILE).alias("user"),
        parse_numbers(table, "artistID", pl.Int64(), _PLAY_FILE).alias("item"),
        plays.alias("rating"),
    )


def _friends(files: DataFiles) -> Profiles | None:
    """Return who is whose friend, from either side, if the file is there."""
    table = files.table(_FRIEND_FILE, ("userID", "friendID"))
    if table is None:
        return None
    columns = {"user": "userID", "friend": "friendID"}
    numbers = {name: parse_numbers(table, column, pl.Int64(), _FRIEND_FILE) for name, column in columns.items()}
    rows = friend_lists(pl.DataFrame(numbers))
    return Profiles(rows, _FRIEND_FILE, Described("users", "user", ("friends",), (), ()))


def _artists(files: DataFiles) -> pl.DataFrame:
    table = files.required_table(_ARTIST_FILE, ("id", "name"), encoding="utf-8")
    artists = table.select(parse_numbers(table, "id", pl.Int64(), _ARTIST_FILE).alias("item"), "name")
    refuse_repeated(artists, ("item",), _ARTIST_FILE)
    return artists


def _taggings(files: DataFiles) -> pl.DataFrame:
    """Return a row (`item`, `label`) a tag of an artist; a tag without a name goes by its number."""
    table = files.required_table(_TAGGING_FILE, ("artistID", "tagID"))
    names = files.required_table(_TAG_FILE, ("tagID", "tagValue"))
    refuse_repeated(names, ("tagID",), _TAG_FILE)
    item = parse_numbers(table, "artistID", pl.Int64(), _TAGGING_FILE).alias("item")
    given = table.select(item, "tagID").unique()
    named = given.join(names.select("tagID", "tagValue"), on="tagID", how="left")
    return named.select("item", label=pl.coalesce("tagValue", "tagID"))
