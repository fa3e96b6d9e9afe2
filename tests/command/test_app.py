"""The command as a whole: help, completion, and what is told of a command line that cannot be meant."""

import io
import os
import runpy
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.main import get_command

from coldray.command.app import COMMANDS, application, job, main
from coldray.core.study_files import shipped
from coldray.data.sources.registry import SOURCES
from coldray.experiments.space import StudyConfig
from coldray.models.registry import MODELS, NETWORKS

ROOT = Path(__file__).parents[2]
HEAVY = ("numpy", "scipy", "polars", "pyarrow", "torch", "ray", "mlflow", "matplotlib")
LOADED = f"""
import sys
from coldray.command.app import main
assert main(sys.argv[1:]) == 0
sys.exit(" ".join(name for name in {HEAVY} if name in sys.modules) or 0)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["tune", "--help"], ["tune", "--dataset", "amazon", "--help"]])
def test_help_loads_nothing_that_takes_long(arguments):
    done = subprocess.run([sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Usage: coldray" in done.stdout


def shown(capsys, *arguments):
    """Return what a command prints when all goes well."""
    assert main(list(arguments)) == 0
    return " ".join(capsys.readouterr().out.split())


def test_without_a_word_the_commands_are_listed(capsys):
    listed = shown(capsys)
    assert all(name in listed for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_explained(name):
    (command,) = (one for word, one in get_command(application()).commands.items() if word == name)
    obvious = {"user_column", "item_column", "rating_column", "timestamp_column", "label_separator"}
    assert [one.name for one in command.params if not one.help and one.name not in obvious] == []


@pytest.mark.parametrize(
    ("named", "listed", "left_out"),
    [
        ((), ("--interactions",), ("--category", "--size", "--strict-ratings", "--label-columns")),
        (("--dataset", "amazon"), ("--category", "--size", "--strict-ratings"), ("--label-columns",)),
        (("--dataset=amazon",), ("--category", "--size", "--strict-ratings"), ("--label-columns",)),
        (("--interactions", "clicks.csv"), ("--label-columns", "--user-column"), ("--category",)),
        (("--dataset", "ml-100k"), (), ("--category", "--label-columns")),
    ],
)
def test_options_of_one_source_are_in_the_help_with_that_source_alone(capsys, named, listed, left_out):
    told = shown(capsys, "tune", "marec", *named, "--help")
    assert [option for option in listed if option not in told] == []
    assert [option for option in left_out if f"{option} " in told] == []


@pytest.mark.parametrize("program", [("-m", "coldray"), ("jobs/tune_marec.py",)])
def test_passwords_in_the_environment_are_not_in_the_help(program):
    secret = {"MLFLOW_TRACKING_URI": "postgresql://me:geheim@host/db"}
    command = [sys.executable, *program, *(["tune"] if "-m" in program else []), "--help"]
    done = subprocess.run(command, env={**os.environ, **secret}, capture_output=True, text=True, timeout=60)
    assert "--tracking-uri" in done.stdout
    assert "geheim" not in done.stdout


# What cannot be meant: one line, status 2, the nearest that can.


def refused(capsys, arguments, run=main):
    assert run(arguments) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    assert "Traceback" not in printed.out
    return line


def misspelt(names):
    """Return a strategy for names with two neighbouring letters swapped, and the name that was meant."""

    def swapped(drawn):
        name, place = drawn
        place %= len(name) - 1
        letters = list(name)
        letters[place : place + 2] = reversed(letters[place : place + 2])
        return "".join(letters), name

    pairs = st.tuples(st.sampled_from(sorted(names)), st.integers(0, 30)).map(swapped)
    return pairs.filter(lambda pair: pair[0] not in names and not pair[0].startswith("-"))


FEW = settings(max_examples=10)
"""A command line takes a twentieth of a second and more."""


class Told:
    """Collects what goes to the terminal while hypothesis tries inputs: a fixture would be shared by all of them."""

    def __init__(self, *arguments):
        with pytest.MonkeyPatch.context() as patch:
            self.err, self.out = io.StringIO(), io.StringIO()
            patch.setattr("sys.stderr", self.err)
            patch.setattr("sys.stdout", self.out)
            self.status = main(list(arguments))

    @property
    def line(self):
        (line,) = self.err.getvalue().splitlines()
        return line


@FEW
@given(misspelt(COMMANDS))
def test_a_misspelt_command_is_told_with_the_nearest(pair):
    told = Told(pair[0])
    assert told.status == 2
    assert f"No such command {pair[0]!r}. Did you mean" in told.line


@FEW
@given(misspelt(shipped("study")))
def test_a_misspelt_study_is_told_with_the_nearest(pair):
    told = Told("tune", pair[0])
    assert told.status == 2
    assert told.line.startswith(f"error: There is no study {pair[0]!r}. Did you mean ")


@FEW
@given(misspelt(MODELS))
def test_a_misspelt_model_is_told_with_the_nearest(pair):
    told = Told("models", pair[0])
    assert told.status == 2
    assert told.line.startswith(f"error: Unknown model {pair[0]!r}. Did you mean ")


@FEW
@given(st.sampled_from(["tune", "compare", "check", "serve", "recommend"]), st.data())
def test_a_misspelt_option_is_told_with_the_nearest(name, data):
    (command,) = (one for word, one in get_command(application()).commands.items() if word == name)
    options = {option for one in command.params for option in one.opts if option.startswith("--")}
    wrong, _ = data.draw(misspelt({option[2:] for option in options if len(option) > 3}))
    told = Told(name, f"--{wrong}", "x")
    assert told.status == 2
    assert told.line.startswith(f"error: No such option: --{wrong}. Did you mean '--")


@FEW
@given(misspelt({*shipped("comparison"), *MODELS}))
def test_a_misspelt_comparison_or_model_is_told_with_the_nearest(pair):
    told = Told("compare", pair[0])
    assert told.status == 2
    assert told.line.startswith(f"error: There is no comparison or model {pair[0]!r}. Did you mean ")


@pytest.mark.parametrize("command", [("tune", "marec"), ("check",), ("fit", "ease", "--output", "nowhere")])
@settings(max_examples=5)
@given(pair=misspelt({name for name in SOURCES if len(name) > 4}))
def test_a_misspelt_dataset_is_told_with_the_nearest(command, pair):
    told = Told(*command, "--dataset", pair[0])
    assert told.status == 2
    assert told.line.startswith(f"error: Unknown data source {pair[0]!r}. Did you mean ")


@FEW
@given(misspelt(StudyConfig.model_fields), misspelt({f"{name}@10" for name in ("ndcg", "recall", "precision")}))
def test_a_misspelt_field_or_metric_of_a_study_is_told_with_the_nearest(field, metric):
    settings = {f"{field[0]}=1": "unknown field", f"selection.metric={metric[0]}": f"{metric[0]!r} is not computed"}
    with TemporaryDirectory() as folder:
        for setting, expected in settings.items():
            told = Told("tune", "marec", "--offline", "--output-dir", f"{folder}/runs", "--set", setting)
            assert told.status == 2
            assert expected in told.line
            assert "Did you mean '" in told.line
        assert list(Path(folder).iterdir()) == []


@pytest.mark.parametrize("file", sorted((ROOT / "jobs").glob("*.py")), ids=lambda file: file.name)
def test_each_job_is_one_of_the_commands_with_a_help_of_its_own(file, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [str(file), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(file), run_name="__main__")
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"Usage: {file.name} [OPTIONS]" in shown
    studies = {"ablation", "tune_als", "tune_marec", "tune_neural", "tune_svd"}
    assert ("--study" in shown) == (file.stem in studies)
    assert ("--comparison" in shown) == (file.stem in ("compare_models", "tune_coldstart"))


def test_jobs_take_as_options_what_commands_take_as_arguments(capsys, tmp_path):
    assert "Missing argument 'STUDY'" in refused(capsys, ["tune"])
    line = refused(
        capsys,
        ["--study", str(tmp_path / "mine.yaml"), "--output-dir", str(tmp_path / "runs"), "--offline"],
        lambda arguments: job("tune", "Tune.", arguments, study="marec"),
    )
    assert line.endswith(f"Cannot read the study file {tmp_path / 'mine.yaml'}: No such file or directory.")
    line = refused(
        capsys, ["--model", "ease"], lambda arguments: job("tune", "Tune.", arguments, networks=True, study="")
    )
    assert all(name in line for name in NETWORKS)


# Completion by a shell.


def asked(words):
    """Return the environment in which bash asks for the last of some words."""
    return {"_COLDRAY_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}


def completed(words):
    """Return what bash is offered for the last of some words."""
    with pytest.MonkeyPatch.context() as patch, io.StringIO() as out:
        for name, value in asked(words).items():
            patch.setenv(name, value)
        patch.setattr("sys.argv", ["coldray"])
        patch.setattr("sys.stdout", out)
        with pytest.raises(SystemExit) as ended:
            sys.exit(main())
        assert ended.value.code == 0
        return out.getvalue().split()


def test_a_shell_asks_the_program():
    code = "import sys; from coldray.command.app import main; sys.argv[0] = 'coldray'; sys.exit(main())"
    environment = {**os.environ, **asked("coldray com")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, ["compare"]), done.stderr


def test_a_shell_completes_commands_studies_models_and_options():
    kernels = ["kernel_align", "kernel_align_full", "kernel_align_users", "kernel_align_warming"]
    assert completed("coldray tune kern") == kernels
    assert completed("coldray compare cold") == ["coldstart"]
    assert completed("coldray models ma") == ["marec", "marec_plus"]
    assert completed("coldray datasets ml-1") == ["ml-100k", "ml-1m", "ml-10m"]
    assert "--output-dir" in completed("coldray tune marec --out")
    assert completed("coldray tune marec --promote if") == ["if-better"]


def test_a_variable_of_blanks_is_no_default(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", " ")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", " ")
    told = Told("sync")
    assert (told.status, told.err.getvalue()) == (0, "")
    assert "nothing waits in the 0 folders of studies" in told.out.getvalue()
