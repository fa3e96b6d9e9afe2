"""Commands that jobs print can be pasted: a shell reads the words that were meant, whatever is in their paths."""

import io
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from coldray.cli.jobs.tune import _sync_command, print_next_steps
from coldray.cli.lines import command_line, tool, typed, with_option
from coldray.core.commands import called
from coldray.experiments.record.folder import resume_command
from contracts.jobs import options_of

NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=20
).filter(lambda name: name not in (".", ".."))
"""Of folders, without line breaks and control characters, which no terminal shows."""


@given(st.lists(NAMES, min_size=1))
def test_words_are_read_as_they_were_meant(words):
    assert shlex.split(typed(*words)) == words


@given(NAMES)
def test_a_path_is_never_taken_for_an_option(name):
    (word,) = shlex.split(typed(Path(name)))
    assert not word.startswith("-")
    assert Path(word) == Path(name)


@pytest.fixture(scope="module")
def patched():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@given(folder=NAMES, words=st.lists(NAMES.filter(lambda word: not word.startswith("-"))), dataset=NAMES)
def test_the_command_that_goes_on_with_a_study(patched, folder, words, dataset):
    patched.setattr(sys, "executable", f"/{folder}/bin/python")
    patched.setattr(sys, "argv", [f"/{folder}/jobs/tune.py"])
    study = f"marec-{dataset}-20260101-000000"
    printed = resume_command({"command": command_line(["--study", *words])}, study)
    assert shlex.split(printed) == [sys.executable, sys.argv[0], "--study", *words, "--resume", study]


@given(folder=NAMES, study=NAMES, output=NAMES)
def test_the_command_that_sends_what_waits(patched, folder, study, output):
    patched.setattr(sys, "executable", f"/{folder}/bin/python")
    patched.setattr(sys, "argv", [f"/{folder}/jobs/tune.py"])
    found = shlex.split(_sync_command(study, Path("/") / output))
    assert found == [sys.executable, f"/{folder}/jobs/sync_runs.py", study, "--output-dir", str(Path("/") / output)]


@settings(max_examples=25)
@given(folder=NAMES, study=NAMES, database=NAMES)
def test_what_to_type_next(patched, folder, study, database):
    patched.setattr(sys, "executable", f"/{folder}/bin/python")
    patched.setattr(sys, "argv", [f"/{folder}/jobs/tune.py"])
    given = ["--tracking-uri", f"sqlite:////{database}/m.db", "--set", f"name={study}"]
    options = replace(options_of("tune", "marec", *given), command=command_line(given))
    written = io.StringIO()
    print_next_steps(Console(file=written, width=60), Path("/report.html"), options, options.source)
    interface, job = (shlex.split(line) for line in written.getvalue().split("\n")[2:4])
    assert interface == [str(tool("mlflow")), "ui", "--backend-store-uri", options.tracking_uri, "--port", "5000"]
    assert job == [str(tool("python")), f"/{folder}/jobs/tune.py", *given, "--dataset", "hetrec"]


@pytest.mark.parametrize(
    "before",
    [[], ["--dataset", "sample"], ["--dataset=sample"], ["--dataset", "sample", "--dataset", "csv"], ["--cpus", "2"]],
)
def test_an_option_is_given_once(before):
    command = with_option(["coldray", "tune", *before, "--offline"], "--dataset", "amazon --data-dir FOLDER")
    own = before if before[:1] == ["--cpus"] else []
    real = ["--dataset", "amazon", "--data-dir", "FOLDER"]
    assert shlex.split(" ".join(command)) == ["coldray", "tune", *own, "--offline", *real]


@pytest.mark.parametrize(
    ("running", "typed_as"),
    [
        ("jobs/tune_marec.py", "jobs/sync_runs.py"),
        ("/a b/jobs/tune_marec.py", "/a b/jobs/sync_runs.py"),
        ("../it's/jobs/x.py", "../it's/jobs/sync_runs.py"),
    ],
)
def test_another_job_lies_beside_the_one_that_runs(monkeypatch, tmp_path, running, typed_as):
    """Wherever a job was started from, what it prints finds the other one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [running])
    _, job, *_ = shlex.split(_sync_command("study", tmp_path))
    assert Path(job).resolve() == Path(typed_as).resolve()


@pytest.mark.parametrize("running", ["/usr/bin/pytest", "/venv/bin/coldray", "/venv/lib/coldray/__main__.py"])
def test_without_a_job_another_command_is_one_of_coldray(monkeypatch, tmp_path, running):
    monkeypatch.setattr(sys, "argv", [running])
    assert shlex.split(_sync_command("study", tmp_path))[:3] == ["coldray", "sync", "study"]
    assert called("serve") == "coldray serve"


def test_the_program_that_a_shell_finds_is_called_by_its_name(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    program = tmp_path / "bin" / "coldray"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(program), "tune", "marec"])
    assert command_line(["tune", "marec"]) == [str(program), "tune", "marec"]
    monkeypatch.setenv("PATH", str(program.parent))
    assert command_line(["tune", "marec"]) == ["coldray", "tune", "marec"]
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "coldray" / "__main__.py")])
    assert command_line(["tune", "marec"]) == ["/usr/bin/python3", "-m", "coldray", "tune", "marec"]
