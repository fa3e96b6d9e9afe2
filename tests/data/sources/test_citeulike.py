"""CiteULike-t, on tiny files written here and on the real folder."""

import tempfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import coldray
from coldray.core.errors import ConfigError, DataFileError, DataFormatError, EmptyDatasetError
from coldray.data.dataset import TextAttribute
from coldray.data.sources.citeulike import read_citeulike
from coldray.features.builder import FeatureConfig, attribute_names
from coldray.features.tfidf import TfidfEncoder
from contracts.problems import build_features

FILES = {
    "users.dat": "2 0 3\n1 1\n0\n",
    "mult.dat": "2 0:3 2:1\n1 1:2\n0\n2 3:1 4:1\n",
    "vocabulary.dat": "graph\nm-estimators\nk\nGraph\n&#34;real&#34;\n",
    "tag-item.dat": "2 0 1\n1 3\n0\n",
    "tags.dat": "networks\ncafé\nunused\n",
    "citations.dat": "2 1 2\n0\n1 2\n0",
}


def write(folder, **changes):
    """Write the files, some of them changed; None leaves one out."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        changed = changes.get(name.removesuffix(".dat").replace("-", "_"), text)
        if changed is not None:
            (folder / name).write_text(changed, encoding="utf-8")
    return folder


def labels_of(dataset, name):
    attribute = dataset.attributes[name]
    return [attribute.labels[row > 0].tolist() for row in attribute.matrix.toarray()]


def test_users_and_articles_are_the_numbers_of_their_lines_and_who_keeps_nothing_is_told(tmp_path):
    dataset = read_citeulike(write(tmp_path))
    assert (dataset.name, dataset.user_ids.tolist(), dataset.item_ids.tolist()) == ("citeulike-t", [0, 1], [0, 1, 2, 3])
    assert dataset.interactions.toarray().tolist() == [[1, 0, 0, 1], [0, 1, 0, 0]]
    assert dataset.ratings is None
    assert dataset.timestamps is None
    assert "users.dat: 1 of 3 users keep no article and are left out." in dataset.notes


def test_a_word_stands_as_often_as_it_was_counted_and_is_one_word_to_those_who_count_words(tmp_path):
    dataset = read_citeulike(write(tmp_path))
    # "graph" and "Graph" are alike in lower case, and "k" is too short: they go by their numbers.
    assert dataset.attributes["words"].texts == (
        "word_0 word_0 word_0 word_2", "m_estimators m_estimators", "", "word_3 real"
    )  # fmt: skip
    assert TfidfEncoder().fit(dataset.attributes["words"]).terms == (
        "m_estimators",
        "real",
        "word_0",
        "word_2",
        "word_3",
    )
    assert any("2 of 5 words are written in lower case" in note and "3 that are" in note for note in dataset.notes)


def test_tags_and_citations_are_labels(tmp_path):
    dataset = read_citeulike(write(tmp_path))
    assert labels_of(dataset, "tags") == [["networks"], ["networks"], [], ["café"]]
    # 0 and 1, 0 and 2: from either side it is the same; 2 names itself, which says nothing.
    assert labels_of(dataset, "citations") == [["0", "1", "2"], ["0", "1"], ["0", "2"], []]
    assert labels_of(dataset, "co_cited") == [[], ["2"], ["1"], []]
    turned = read_citeulike(write(tmp_path / "turned", citations="0\n1 0\n1 0\n0\n"))
    assert labels_of(turned, "citations") == labels_of(dataset, "citations")
    assert "citations.dat: 1 articles cite themselves, which is left out." in dataset.notes


def test_what_comes_with_readers_is_in_no_track_that_does_not_name_it(tmp_path):
    dataset = read_citeulike(write(tmp_path))
    assert list(build_features(dataset).features) == ["words"]
    assert attribute_names(dataset, FeatureConfig(attributes="all")) == ("words",)
    assert attribute_names(dataset, FeatureConfig(attributes=("tags",))) == ("tags",)


def test_an_article_that_is_named_twice_in_a_line_counts_once_and_is_told(tmp_path):
    dataset = read_citeulike(write(tmp_path, tag_item="3 0 1 0\n1 3\n0\n"))
    assert labels_of(dataset, "tags")[0] == ["networks"]
    assert "tag-item.dat: 1 articles stand twice in a line and count once." in dataset.notes


def test_a_blank_line_keeps_its_number_and_a_name_that_is_blank_gives_way_to_it(tmp_path):
    dataset = read_citeulike(
        write(tmp_path, users="1 0\n\n1 1\n", tags="networks\n\nunused\n", vocabulary="\n" * 4 + "a")
    )
    assert dataset.user_ids.tolist() == [0, 2]
    assert labels_of(dataset, "tags")[3] == ["1"]
    assert dataset.attributes["words"].texts[3] == "word_3 word_4"


def test_an_archive_reads_like_its_folder(tmp_path):
    folder = write(tmp_path / "files")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in FILES:
            archive.write(folder / name, f"citeulike-t-master/{name}")
    assert read_citeulike(tmp_path / "x.zip").fingerprint == read_citeulike(folder).fingerprint


@pytest.mark.parametrize("file", list(FILES))
def test_an_absent_file_is_named_with_the_way_out(tmp_path, file):
    write(tmp_path, **{file.removesuffix(".dat").replace("-", "_"): None})
    with pytest.raises(DataFileError, match=rf"no {file}\. .*CiteULike-t files.*--data-dir"):
        read_citeulike(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"users": "1 0\n3 1 2\n"}, r"users\.dat, line 2: '3 1 2' does not begin with the number .*1 such lines"),
        ({"users": "x 0\n"}, r"users\.dat, line 1: 'x 0' does not begin with the number of values"),
        ({"users": "1 0\n1 b\n"}, r"users\.dat, line 2: value is 'b', not a number"),
        ({"users": "1 4\n"}, r"line 1: value is '4', no number of one of the 4 articles of mult\.dat"),
        ({"users": "1 -1\n"}, r"line 1: value is '-1', no number of one of the 4 articles"),
        ({"users": "2 1 1\n"}, r"users\.dat has 1 repeated rows.*user 0, item 1"),
        ({"mult": "1 0:1:2\n0\n0\n0\n"}, r"mult\.dat, line 1: value is '0:1:2', not word:count"),
        ({"mult": "1 9:1\n0\n0\n0\n"}, r"word is '9', no number of one of the 5 words of vocabulary\.dat"),
        ({"mult": "0\n1 0:0\n0\n0\n"}, r"mult\.dat, line 2: count is '0', not a positive number of times"),
        ({"mult": "0\n2 0:1 0:2\n0\n0\n"}, r"line 2: value is '0:1', of a word that the line counts twice"),
        ({"tags": "networks\n"}, r"tag-item\.dat has 3 lines, and tags\.dat names 1 tags only"),
        ({"tag_item": "1 7\n0\n0\n"}, r"tag-item\.dat, line 1: value is '7', no number"),
        ({"citations": "0\n" * 5}, r"citations\.dat has 5 lines, and mult\.dat 4 articles only"),
    ],
)
def test_what_is_malformed_is_named(tmp_path, changes, message):
    with pytest.raises(DataFormatError, match=message):
        read_citeulike(write(tmp_path, **changes))


def test_names_that_are_no_text_are_an_error(tmp_path):
    write(tmp_path)
    (tmp_path / "tags.dat").write_bytes(b"caf\xe9\n")
    with pytest.raises(DataFormatError, match=r"tags\.dat in .* is not text in utf-8"):
        read_citeulike(tmp_path)


def test_nobody_who_keeps_an_article_is_an_error(tmp_path):
    with pytest.raises(EmptyDatasetError, match=r"users\.dat has no interactions"):
        read_citeulike(write(tmp_path, users="0\n"))


def test_it_has_no_time_so_a_split_by_time_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(ConfigError, match=r"no timestamps.*holdout"):
        coldray.split(read_citeulike(write(tmp_path)), "leave-last")


@settings(max_examples=30)
@given(st.lists(st.dictionaries(st.integers(0, 5), st.integers(1, 4)), min_size=1, max_size=6))
def test_the_bag_of_an_article_is_what_was_counted(bags):
    lines = "\n".join(" ".join([str(len(bag)), *(f"{word}:{n}" for word, n in bag.items())]) for bag in bags)
    with tempfile.TemporaryDirectory() as folder:
        files = write(
            Path(folder), users="1 0\n", mult=lines, vocabulary="\n".join(f"term{n}" for n in range(6)),
            tag_item="0\n", citations="0\n",
        )  # fmt: skip
        words = read_citeulike(files).attributes["words"]
    assert isinstance(words, TextAttribute)
    assert [Counter(text.split()) for text in words.texts] == [{f"term{w}": n for w, n in bag.items()} for bag in bags]


def test_the_real_data_has_its_published_counts(real_data):
    dataset = read_citeulike(real_data("citeulike-t"))
    assert (dataset.n_users, dataset.n_items, dataset.interactions.nnz) == (7947, 25_975, 134_860)
    assert len(dataset.attributes["tags"].labels) == TAGS
    words = [text.split() for text in dataset.attributes["words"].texts]
    assert sum(map(len, words)) == COUNTED_WORDS
    assert len({word for text in words for word in text}) == WORDS
    linked = dataset.attributes["citations"].matrix
    own = int((np.diff(linked.indptr) > 0).sum())
    assert linked.nnz - own == CITATIONS - SELF_CITATIONS


TAGS, WORDS, COUNTED_WORDS = 52_946, 20_000, 804_367
CITATIONS, SELF_CITATIONS = 65_130, 784
"""Citations as they stand in the file, where every one is told from either side."""
