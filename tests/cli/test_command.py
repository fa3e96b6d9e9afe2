"""The last line of defence of every job: an error that nobody foresaw."""

from importlib import import_module

import pytest

from coldray.cli.reported import reported
from coldray.command.app import COMMANDS, main
from contracts.jobs import options_of

NEEDED = {
    "tune": ["marec"],
    "init": ["clicks.csv"],
    "fit": ["ease", "--output", "bundle"],
    "evaluate": ["."],
    "recommend": ["--histories", "here", "--output", "there"],
}
"""What a command does not begin without."""


def test_an_error_that_nobody_foresaw_is_shown_with_its_place_and_without_passwords(capsys):
    def work():
        try:
            raise KeyError("postgresql://me:geheim@db/x")
        except KeyError as error:
            raise RuntimeError("https://me:geheim@host/?token=geheim [b]") from error

    assert reported(work) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "geheim" not in printed.err
    assert "in work" in printed.err
    assert "RuntimeError: https://me:***@host/?token=*** [b]\n" in printed.err
    last = printed.err.splitlines()[-1]
    assert last.startswith("error: RuntimeError: https://me:***@host/?token=*** [b]. This is a fault of the program")
    assert last.endswith("report it with the lines above.")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_last_line_names_a_way_on_that_the_command_has(monkeypatch, capsys, name):
    def fail(*_):
        raise RuntimeError("broken")

    given = NEEDED.get(name, [])
    module, _, function = COMMANDS[name].work(options_of(name, *given)).partition(":")
    monkeypatch.setattr(import_module(module), function, fail)
    assert main([name, *given]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    fault = "RuntimeError: broken. This is a fault of the program: report it with the lines above."
    assert last.endswith(f"{fault} {COMMANDS[name].way_on}".rstrip())


def test_the_ways_on_are_those_that_there_are():
    ways = {name: command.way_on for name, command in COMMANDS.items() if command.way_on}
    assert [name for name, way in ways.items() if "--resume" in way] == ["tune", "compare", "ablation"]
    assert ways["recommend"] == "Partitions that are finished are kept; the same command goes on with the others."
