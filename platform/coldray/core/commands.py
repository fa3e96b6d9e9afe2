"""What a command is called where this process was started: ``coldray tune``, or the file of a job."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

_PROGRAM = "coldray"
_JOBS = {"sync": "sync_runs.py", "serve": "serve.py"}
"""Files of the commands that are named in hints."""


def job_of(command: str) -> Path | None:
    """Return the file of the job that is a command, beside the job that runs; None if none runs."""
    running = Path(sys.argv[0])
    return running.absolute().parent / _JOBS[command] if running.parent.name == "jobs" else None


def called(command: str) -> str:
    """Return a command as hints name it: ``coldray sync``, or ``jobs/sync_runs.py`` in a job."""
    job = job_of(command)
    return f"{_PROGRAM} {command}" if job is None else f"jobs/{job.name}"


def running() -> str:
    """Return what runs, as one would send it to a cluster: ``jobs/ablation.py`` or ``coldray compare``.

    In a notebook, or a program of one's own, it is the first command that a person would send: ``coldray tune``.
    """
    program, *words = sys.argv
    if Path(program).parent.name == "jobs":
        return f"jobs/{Path(program).name}"
    known = Path(program).name == _PROGRAM and words and words[0].isidentifier()
    return f"{_PROGRAM} {words[0] if known else 'tune'}"


def installed() -> bool:
    """Tell whether a shell that is told ``coldray`` starts the program that runs."""
    found = shutil.which(_PROGRAM)
    return found is not None and Path(sys.argv[0]).exists() and Path(found).samefile(sys.argv[0])
