"""What Ray raises reaches nobody as Ray says it: every job ends with a line and a status."""

import inspect
import os
import subprocess
import sys

import pytest
import ray.exceptions as of_ray
from ray.exceptions import RayError, RayTaskError

from coldray.cli.reported import reported
from coldray.core.errors import DataError, NumericalError
from coldray.core.ray_errors import _LONGEST, cause_of, in_words, is_of_ray

LONG = '\x1b[36mFirst line.\x1b[39m\nTraceback (most recent call last):\n  File "x.py", line 1\n' + "more\n" * 500


def wrapped(cause):
    """Return what `ray.get` raises for a task that raised `cause`."""
    text = f'\x1b[36mray::task()\x1b[39m (pid=1)\n  File "x.py", line 1, in task\n{type(cause).__name__}: {cause}'
    return RayTaskError("task", text, cause).as_instanceof_cause()


def of_kind(kind):
    """Return an error of Ray of that kind, with a long text, whatever its arguments are."""
    return type(kind.__name__, (kind,), {"__str__": lambda _: LONG, "__init__": lambda *_: None})()


KINDS = [kind for _, kind in inspect.getmembers(of_ray, inspect.isclass) if issubclass(kind, RayError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_of_ray_is_one_line_and_a_status(kind, capfd):
    error = of_kind(kind)

    def work():
        raise error

    assert reported(work) == 1
    told = capfd.readouterr().err
    assert told.startswith("error: Work on the Ray cluster failed: ")
    assert told.count("\n") == 1
    assert kind.__name__ in told
    assert "Traceback" not in told
    assert "\x1b" not in told
    assert len(told) < 2 * _LONGEST


@pytest.mark.parametrize("cause", [DataError("No clicks. Filter less."), NumericalError("NaN at λ₁=0.")])
def test_an_error_of_ours_comes_out_of_a_task_as_it_was(cause, capfd):
    def work():
        raise wrapped(wrapped(cause))

    assert reported(work) == 1
    assert capfd.readouterr().err == f"error: {cause}\n"
    assert cause_of(wrapped(cause)) is cause


def test_an_error_of_another_library_in_a_task_is_named(capfd):
    def work():
        raise wrapped(ValueError("bad value\nsecond line"))

    assert reported(work) == 1
    assert "ValueError: bad value" in capfd.readouterr().err


def test_bugs_of_our_own_are_not_hidden(capsys):
    def work():
        raise KeyError("a bug")

    assert reported(work) == 1
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "error: KeyError: 'a bug'. This is a fault of the program" in told
    assert not is_of_ray(KeyError("x"))


def test_every_wait_of_the_library_says_it_in_words():
    """Nothing of ours puts the text of an error of Ray, a traceback, into its own."""
    for kind in KINDS:
        assert len(in_words(of_kind(kind))) < 2 * _LONGEST


CODE = """
from rich.console import Console
from coldray.cli.reported import reported

def work():
    Console().print("λ₁ · δ → é")
    print("λ")

raise SystemExit(reported(work))
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_a_letter_that_cannot_be_printed_ends_nothing(encoding):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"?" in done.stdout
