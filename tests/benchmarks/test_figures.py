"""The figures' registry and the lines that are printed; no time is asserted here."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent

SCRIPT = """
import os, sys
sys.path.insert(0, {folder!r})
import figures
from figures import figure

calls = []

@figure("low", unit="s", bar=2.0, better="lower")
def low():
    print("chatter that must not reach standard output")
    os.system("echo chatter of a child process")
    calls.append("low")
    return 2.0

@figure("high", unit="users/s", bar=3, better="higher")
def high():
    return 2.9

@figure("near", unit="", better=("within", 0.5, 0.1))
def near():
    return 0.45

@figure("first", unit="MB", bar=len(calls) + 10, better="lower")
@figure("second", unit="s", bar=1, better="lower")
def shared():
    calls.append("shared")
    return {{"first": os.getpid(), "second": len(calls)}}

@figure("absent", bar=1)
def absent():
    return figures.data_folder("no-such-dataset")

@figure("broken", bar=1)
def broken():
    raise ZeroDivisionError("no luck")

@figure("nan", bar=1)
def nan():
    return float("nan")

@figure("killed", bar=1)
def killed():
    os.kill(os.getpid(), 9)

sys.exit(figures.main())
"""
NAMES = ["low", "high", "near", "first", "second", "absent", "broken", "nan", "killed"]


@pytest.fixture
def bench(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT.format(folder=str(FOLDER)))

    def run(*names):
        finished = subprocess.run([sys.executable, script, *names], capture_output=True, text=True, cwd=tmp_path)
        return finished, [json.loads(line, parse_constant=pytest.fail) for line in finished.stdout.splitlines()]

    return run


def test_every_figure_gets_one_line_in_order_of_registration(bench):
    finished, lines = bench()
    assert [line["figure"] for line in lines] == NAMES
    for line in lines:
        assert set(line) - {"skipped", "error", "tolerance"} == {"figure", "value", "unit", "bar", "holds", "machine"}
    by_name = {line["figure"]: line for line in lines}
    assert {name: by_name[name]["holds"] for name in NAMES if by_name[name]["holds"]} == {
        "low": True,
        "near": True,
        "second": True,
    }
    assert by_name["low"]["value"] == by_name["low"]["bar"] == 2.0
    assert (by_name["high"]["value"], by_name["high"]["unit"]) == (2.9, "users/s")
    assert (by_name["near"]["bar"], by_name["near"]["tolerance"]) == (0.5, 0.1)
    assert finished.returncode == 1


def test_a_figure_without_a_value_says_why(bench):
    _, lines = bench("absent", "broken", "nan", "killed")
    assert [(line["value"], line["holds"]) for line in lines] == [(None, False)] * 4
    assert "no-such-dataset" in lines[0]["skipped"]
    assert lines[1]["error"] == "ZeroDivisionError: no luck"
    assert "nan" in lines[2]["error"]
    assert "status -9" in lines[3]["error"]


def test_figures_of_one_measurement_share_it_and_no_other(bench):
    _, lines = bench("second", "first", "low")
    assert [line["figure"] for line in lines] == ["low", "first", "second"]
    assert lines[2]["value"] == 1  # the measurement ran once, in a process where "low" was not measured
    _, alone = bench("second")
    assert [line["figure"] for line in alone] == ["second"]


@pytest.mark.parametrize(("name", "status"), [("low", 0), ("absent", 0), ("high", 1), ("broken", 1), ("killed", 1)])
def test_the_status_tells_a_missed_bar_from_absent_data(bench, name, status):
    assert bench(name)[0].returncode == status


def test_an_unknown_figure_lists_the_valid_ones(bench):
    finished, lines = bench("lo")
    assert finished.returncode == 2
    assert lines == []
    assert "unknown figure 'lo'. Did you mean 'low'?" in finished.stderr
    assert ", ".join(NAMES) in finished.stderr


def test_the_machine_is_named(bench):
    _, lines = bench("low")
    cores, memory, processor = lines[0]["machine"].split(", ", 2)
    assert cores.split()[1] in ("core", "cores")
    assert int(memory.removesuffix(" GiB")) >= 0
    assert processor


@pytest.mark.parametrize(
    "decorator",
    ['figure("x")', 'figure("x", bar=1, better="faster")', 'figure("x", bar=1, better=("within", 2, 1))'],
)
def test_a_figure_without_a_usable_bar_is_refused(decorator):
    code = f"from figures import figure; {decorator}"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=FOLDER)
    assert "is no bar" in finished.stderr


def test_two_figures_of_one_name_are_refused():
    code = "from figures import figure\nfor _ in range(2): figure('x', bar=1)(lambda: 1.0)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=FOLDER)
    assert "two figures named 'x'" in finished.stderr


def test_the_projects_figures_are_registered(monkeypatch, capsys):
    """In this process, which has loaded most of what they measure."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr("sys.argv", ["run.py", "no figure"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(FOLDER / "run.py"), run_name="__main__")
    assert ended.value.code == 2
    assert "ranking_seconds" in capsys.readouterr().err
