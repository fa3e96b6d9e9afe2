"""Study files come with the package, and are named by one word."""

from pathlib import Path

import pytest

from coldray.core.errors import ConfigError
from coldray.core.study_files import FOLDER, named_file, shipped

ROOT = Path(__file__).parents[2]


def test_every_file_of_the_folder_comes_with_the_package_and_is_of_one_kind():
    files = {file.stem for file in (ROOT / "tune_spaces").glob("*.yaml")}
    assert len(files) > 20
    assert {*shipped("study"), *shipped("comparison")} == files
    assert set(shipped("study")).isdisjoint(shipped("comparison"))
    assert named_file("marec", "study").read_bytes() == (ROOT / "tune_spaces" / "marec.yaml").read_bytes()


@pytest.mark.parametrize("name", ["./marec", "mine.yaml", "some/marec", "/tmp/x", Path("mine.yml")])
def test_what_is_no_single_word_is_a_path(name):
    assert named_file(name, "study") == Path(name)


def test_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(ConfigError, match=r"no study 'marek'. Did you mean 'marec'"):
        named_file("marek", "study")
    with pytest.raises(ConfigError, match=r"no comparison 'marec'.*compare_cold"):
        named_file("marec", "comparison")
    assert named_file("compare_cold", "comparison") == FOLDER / "compare_cold.yaml"
