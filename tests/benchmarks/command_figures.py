"""How soon the command and the package answer."""

import statistics
import subprocess
import sys
import tempfile
import time

from figures import figure

RUNS = 7
HELP = ("--help",), ("tune", "--help")


@figure("help_seconds", bar=0.5)
def help_of_the_command() -> float:
    """From the start of ``coldray --help``, or ``coldray tune --help``, to its end: the slower median of 7 starts."""
    code = "import sys; from coldray.command.app import main; sys.exit(main())"
    return max(_median("-c", code, *arguments) for arguments in HELP)


@figure("import_seconds", bar=0.3)
def import_of_the_package() -> float:
    """What ``import coldray`` adds to the start of Python: the difference of two medians of 7 starts."""
    return _median("-c", "import coldray") - _median("-c", "")


def _median(*arguments: str) -> float:
    return statistics.median(_seconds([sys.executable, *arguments]) for _ in range(RUNS))


def _seconds(command: list[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - started
