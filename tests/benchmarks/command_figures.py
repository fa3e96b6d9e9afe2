"""How soon the command and the package answer."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from contracts.wheel import installed_wheel

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


FIRST_LIST = """
import numpy as np, polars as pl, coldray
rng = np.random.default_rng(0)
clicks = pl.DataFrame({"user": rng.integers(0, 2000, 100_000), "film": rng.zipf(1.3, 100_000) % 1000})
films = pl.DataFrame({"film": range(1000), "genre": [f"g{n % 20}|h{n % 7}" for n in range(1000)]})
data = coldray.load_dataset(clicks.unique(), films, user="user", item="film", labels=["genre"])
print(coldray.fit("kernel_align", data).recommend([1], k=10))
"""


@figure("quickstart_seconds", bar=15.0)
def first_list_of_the_wheel() -> float:
    """From the start of Python, with the wheel, to a list from frames of 2,000 users and 1,000 items; median of 3."""
    with tempfile.TemporaryDirectory() as folder:
        python = installed_wheel(Path(folder)) / "python"
        return statistics.median(_seconds([str(python), "-c", FIRST_LIST]) for _ in range(3))


def _median(*arguments: str) -> float:
    return statistics.median(_seconds([sys.executable, *arguments]) for _ in range(RUNS))


def _seconds(command: list[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - started
