"""``import coldray``: what is there, how it is called, and how soon it is there."""

import doctest
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import coldray

INTERFACE = Path(__file__).with_name("interface.txt")
"""How everything public is called: changed on purpose, or not at all."""


def signatures() -> list[str]:
    """Return a line for each public function, and for each public method and attribute of each public class."""
    lines = []
    for name in sorted(coldray.__all__):
        found = getattr(coldray, name)
        if not inspect.isclass(found):
            lines.append(name + (str(inspect.signature(found)) if callable(found) else ""))
            continue
        lines.append(f"class {name}")
        for member, value in sorted(vars(found).items()):
            if member.startswith("_"):
                continue
            called = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            lines.append(f"    {member}" + (str(inspect.signature(called)) if callable(called) else ""))
    return lines


def test_the_interface_is_as_it_was_decided():
    text = "\n".join(signatures()) + "\n"
    if os.environ.get("COLDRAY_WRITE_INTERFACE"):
        INTERFACE.write_text(text, encoding="utf-8")
    assert text == INTERFACE.read_text(encoding="utf-8"), (
        "The public interface has changed. If that is meant, say so in CHANGELOG.md, and write the file anew: "
        "COLDRAY_WRITE_INTERFACE=1 pytest tests/front/test_interface.py"
    )


@pytest.mark.parametrize("name", sorted(set(coldray.__all__) - {"__version__"}))
def test_everything_public_is_documented_and_functions_have_an_example(name):
    found = getattr(coldray, name)
    assert len(inspect.getdoc(found)) > 40
    assert inspect.isclass(found) or ">>>" in inspect.getdoc(found)


FUNCTIONS = [name for name in coldray.__all__ if inspect.isfunction(getattr(coldray, name))]


@pytest.mark.parametrize("name", ["coldray", *FUNCTIONS])
def test_examples_do_what_they_say(name, tmp_path, monkeypatch, ray_cluster):
    monkeypatch.chdir(tmp_path)
    found = coldray if name == "coldray" else getattr(coldray, name)
    examples = doctest.DocTestFinder(recurse=False).find(found, name, globs={})
    runner = doctest.DocTestRunner()
    for example in examples:
        runner.run(example)
    assert runner.tries > 0
    assert runner.failures == 0


@pytest.mark.parametrize("method", ["recommend", "similar", "explain", "add_items"])
def test_examples_of_a_bundle_do_what_they_say(method):
    (example,) = doctest.DocTestFinder(recurse=False).find(getattr(coldray.Bundle, method), method, globs={})
    runner = doctest.DocTestRunner()
    runner.run(example)
    assert runner.tries > 0
    assert runner.failures == 0


def test_import_loads_nothing_that_takes_long():
    code = "import coldray, sys; print(sorted({'torch', 'ray', 'mlflow', 'polars', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_name_is_there_and_others_are_not():
    assert dir(coldray) == sorted(coldray.__all__)
    with pytest.raises(AttributeError, match="no attribute 'recomend'"):
        coldray.recomend  # noqa: B018
