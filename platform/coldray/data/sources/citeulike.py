"""Reader of CiteULike-t: articles that researchers keep, a bag of words of each, their tags and citations.

Users, articles, words and tags are known by the numbers of their lines, from 0. ``users.dat`` has a line a user and
``tag-item.dat`` a line a tag: how many articles, then these. ``citations.dat`` has a line an article: how many it
cites or is cited by, then these; as published each citation stands in the lines of both, so nobody can tell who cites
whom. ``mult.dat`` has a line an article: how many words, then ``word:count`` for each. ``vocabulary.dat`` and
``tags.dat`` name words and tags. There is no time and no text.

Source: Wang, Chen and Li, *Collaborative Topic Regression with Social Regularization for Tag Recommendation*, IJCAI
2013.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

from coldray.core.errors import DataFormatError
from coldray.data.catalogue import Catalogue
from coldray.data.dataset import Attribute, Dataset, Ids
from coldray.data.sources.assembly import assemble, label_attribute, plain_attribute
from coldray.data.tables.archive import DataFiles, parse_numbers, refuse_values

NAME = "citeulike-t"
TAG_FILE = "tag-item.dat"
_USER_FILE = "users.dat"
_WORD_FILE = "mult.dat"
_CITATION_FILE = "citations.dat"
_VOCABULARY_FILE = "vocabulary.dat"
_TAG_NAME_FILE = "tags.dat"
_DEFAULT_ATTRIBUTES = ("words",)
"""What the article itself says, as the papers on these data read it."""
_LATER_ATTRIBUTES = ("tags", "citations", "co_cited")
"""What comes with readers: those who keep an article give it tags, and nobody cites one before it is out."""
_UNSPACED = "\u0e00"
"""Scripts without blanks between words begin here: what counts words would divide theirs."""


def read_citeulike(path: Path) -> Dataset:
    """Read the dataset CiteULike-t.

    Attributes are ``words``, a text in which each word of the article stands as often as it was counted, in no order;
    ``tags``; ``citations``, the article and those that it cites or is cited by, so that it has a label in common with
    each of these; ``co_cited``, those that have a citation in common with it.

    Parameters
    ----------
    path
        A folder with the files, or a ``.zip`` of them.

    Raises
    ------
    DataFileError
        If a file is missing or cannot be read.
    DataFormatError
        If a line is not as said, names what there is not, or a user keeps an article twice.
    EmptyDatasetError
        If no user keeps an article.
    """
    files = DataFiles(path, "CiteULike-t")
    n_items = _length(_lines(files, _WORD_FILE))
    pairs, texts = _kept(files, n_items), _texts(files)
    labels = {"tags": _tags(files, n_items), **_citations(files, n_items)}
    provenance: dict[str, Any] = {
        "source": NAME, "interactions": _USER_FILE, "later_attributes": list(_LATER_ATTRIBUTES), "notes": files.notes
    }  # fmt: skip

    def attributes(item_ids: Ids) -> dict[str, Attribute]:
        return {
            "words": plain_attribute(texts, "text", item_ids),
            **{name: label_attribute(edges, item_ids) for name, edges in labels.items()},
        }

    return assemble(
        pairs,
        attributes,
        name=NAME,
        file=_USER_FILE,
        default_attributes=_DEFAULT_ATTRIBUTES,
        provenance=provenance,
        catalogue=Catalogue(pl.Series("item", range(n_items), pl.Int64), _WORD_FILE),
    )


def _lines(files: DataFiles, name: str) -> pl.DataFrame:
    """Return the lines of a file that are not blank: `line` from 1, `number` from 0 and `text`."""
    lines = files.rows(name, "\n", ("text",), encoding="utf-8")
    return lines.with_columns(number=pl.col("line").cast(pl.Int64) - 1)


def _length(lines: pl.DataFrame) -> int:
    """Return how many lines a file has, those that are blank included, but for the last ones."""
    return int(lines["line"][-1]) if lines.height else 0


def _names(files: DataFiles, name: str) -> list[str]:
    """Return the text of each line of a file, the blank ones too."""
    lines = _lines(files, name)
    texts = dict(zip(lines["number"], lines["text"], strict=True))
    return [texts.get(number, "") for number in range(_length(lines))]


def _listed(files: DataFiles, name: str) -> pl.DataFrame:
    """Return a row a value of each line: `number` and `line` of the line, and the `value`.

    Raises
    ------
    DataFormatError
        For the first line that does not begin with the number of its values.
    """
    fields = _lines(files, name).with_columns(pl.col("text").str.extract_all(r"\S+").alias("values"))
    said = pl.col("values").list.first().cast(pl.Int64, strict=False)
    wrong = fields.filter((said != pl.col("values").list.len().cast(pl.Int64) - 1).fill_null(True))
    if wrong.height:
        raise DataFormatError(
            f"{name}, line {wrong['line'][0]}: {wrong['text'][0]!r:.60} does not begin with the number of values that "
            f"follow ({wrong.height:,} such lines in the file)."
        )
    values = pl.col("values").list.slice(1)
    return fields.select("number", "line", value=values).filter(pl.col("value").list.len() > 0).explode("value")


def _numbers(table: pl.DataFrame, column: str, file: str, below: int, what: str) -> pl.Series:
    """Return the numbers in a column, each of which is that of one of so many lines of another file."""
    found = parse_numbers(table, column, pl.Int64(), file)
    refuse_values((found < 0) | (found >= below), table, column, file, f"no number of one of the {below:,} {what}")
    return found


def _edges(files: DataFiles, name: str, n_items: int) -> pl.DataFrame:
    """Return a row an article named in a line: `number` of the line and `item`; what a line names twice is noted."""
    table = _listed(files, name)
    edges = table.select("number", item=_numbers(table, "value", name, n_items, f"articles of {_WORD_FILE}"))
    once = edges.unique(maintain_order=True)
    if name != _USER_FILE and once.height < edges.height:
        files.notes.append(f"{name}: {edges.height - once.height:,} articles stand twice in a line and count once.")
    return edges if name == _USER_FILE else once


def _kept(files: DataFiles, n_items: int) -> pl.DataFrame:
    pairs = _edges(files, _USER_FILE, n_items)
    n_users = _length(_lines(files, _USER_FILE))
    if without := n_users - pairs["number"].n_unique():
        files.notes.append(f"{_USER_FILE}: {without:,} of {n_users:,} users keep no article and are left out.")
    return pairs.select(user="number", item="item")


def _vocabulary(files: DataFiles) -> list[str]:
    """Return the name of each word: one run of letters, digits and ``_``, as those who count words in texts read it.

    What is none of these becomes ``_``; a word of which less than two characters are left, or that is then another
    one, goes by its number.
    """
    written = _names(files, _VOCABULARY_FILE)
    names = [re.sub(r"\W+", "_", html.unescape(word).lower()).strip("_") for word in written]
    counts = Counter(names)
    bad = [len(name) < 2 or counts[name] > 1 or max(name) >= _UNSPACED for name in names]
    found = [f"word_{number}" if wrong else name for number, (name, wrong) in enumerate(zip(names, bad, strict=True))]
    changed = sum(name != word for name, word, wrong in zip(names, written, bad, strict=True) if not wrong)
    if changed or any(bad):
        files.notes.append(
            f"{_VOCABULARY_FILE}: {changed:,} of {len(written):,} words are written in lower case and with _ for "
            f"what is no letter or digit, and {sum(bad):,} that are too short or like another one go by their number."
        )
    return found


def _texts(files: DataFiles) -> pl.DataFrame:
    """Return a row an article with words: `item` and `text`."""
    names = _vocabulary(files)
    table = _listed(files, _WORD_FILE).with_columns(
        word=pl.col("value").str.extract(r"^([^:]*):[^:]*$"), count=pl.col("value").str.extract(r"^[^:]*:([^:]*)$")
    )
    refuse_values(table["word"].is_null(), table, "value", _WORD_FILE, "not word:count")
    numbers = _numbers(table, "word", _WORD_FILE, len(names), f"words of {_VOCABULARY_FILE}")
    counts = parse_numbers(table, "count", pl.Int64(), _WORD_FILE)
    refuse_values(counts < 1, table, "count", _WORD_FILE, "not a positive number of times")
    counted = table.select("line", "value", "number", numbers.alias("word"), counts.alias("count"))
    twice = counted.select("number", "word").is_duplicated()
    refuse_values(twice, counted, "value", _WORD_FILE, "of a word that the line counts twice")
    spelt = pl.Series("name", names, pl.String).gather(counted["word"])
    repeated = counted.select(item="number", text=spelt.repeat_by(counted["count"]).list.join(" "))
    return repeated.group_by("item", maintain_order=True).agg(pl.col("text").str.join(" "))


def _tags(files: DataFiles, n_items: int) -> pl.DataFrame:
    """Return a row (`item`, `label`) a tag of an article; a tag without a name goes by its number."""
    edges, names = _edges(files, TAG_FILE, n_items), _names(files, _TAG_NAME_FILE)
    if (n_tags := _length(_lines(files, TAG_FILE))) > len(names):
        raise DataFormatError(f"{TAG_FILE} has {n_tags:,} lines, and {_TAG_NAME_FILE} names {len(names):,} tags only.")
    label = pl.Series("label", names, pl.String).gather(edges["number"])
    return edges.select("item", label=pl.when(label == "").then(edges["number"].cast(pl.String)).otherwise(label))


def _citations(files: DataFiles, n_items: int) -> dict[str, pl.DataFrame]:
    """Return a row (`item`, `label`) an article that is related to another one, by name of the relation."""
    edges = _edges(files, _CITATION_FILE, n_items)
    if (n_lines := _length(_lines(files, _CITATION_FILE))) > n_items:
        raise DataFormatError(f"{_CITATION_FILE} has {n_lines:,} lines, and {_WORD_FILE} {n_items:,} articles only.")
    cites = edges.filter(pl.col("number") != pl.col("item")).select(item="number", label="item")
    if itself := edges.height - cites.height:
        files.notes.append(f"{_CITATION_FILE}: {itself:,} articles cite themselves, which is left out.")
    either = pl.concat([cites, cites.select(item="label", label="item")]).unique()
    known = either["item"].unique().sort()
    common = either.join(either, left_on="label", right_on="label", suffix="_too").select(item="item", label="item_too")
    related = {
        "citations": pl.concat([pl.DataFrame({"item": known, "label": known}), either]),
        "co_cited": common.filter(pl.col("item") != pl.col("label")).unique(),
    }
    return {name: table.with_columns(pl.col("label").cast(pl.String)) for name, table in related.items()}
