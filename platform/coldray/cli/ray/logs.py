"""What the logs of Ray on this machine say about workers: how many are waited for, and why they do not start."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TAIL_BYTES = 65_536
"""Of each log, what is read at first, and at most at a time."""
FILES = (
    "raylet.err", "raylet.out", "runtime_env_setup*.log", "runtime_env_agent.err", "worker-*.err", "worker-*.out",
    "python-core-worker-*.log", "gcs_server.err", "gcs_server.out",
)  # fmt: skip
"""Those that tell why a worker does not start, the plainest first."""
_WAITING = re.compile(r"^num_tasks_waiting_for_workers: (\d+)", re.MULTILINE)
_STARTED = re.compile(r"Started worker process with pid (\d+)")


@dataclass(frozen=True)
class Cause:
    """Why workers do not start."""

    what: str
    """In words, with the line of the log."""
    way_out: str


_KNOWN = (
    (
        r"No space left on device|Disk quota exceeded",
        "the disk is full",
        "Free space, or set RAY_TMPDIR to a folder on another disk",
    ),
    (
        r"bash: .*(No such file|syntax error|not found|unexpected)",
        "the command of a worker is refused by the shell",
        "Move the environment of Python to a path of plain letters, and start the cluster again from there",
    ),
    (
        r"Version mismatch|bad magic number|undefined symbol",
        "versions differ",
        "Use the same Python and the same Ray on all machines, and for the job",
    ),
    (
        r"ModuleNotFoundError: |ImportError: ",
        "a package is missing where workers run",
        "Install the same packages on all machines, or submit the job with --runtime-env jobs/ray-env.yaml",
    ),
    (
        r"Runtime env setup|Failed to (create|set ?up) (the )?runtime.?env",
        "the runtime environment of the job cannot be made",
        "Mend it, or submit the job without it",
    ),
    (
        r"Too many open files|Resource temporarily unavailable|can't start new thread|Cannot allocate|bad_alloc|fork: ",
        "a limit of the machine is reached",
        "End other processes, use fewer --cpus, or raise the limits of open files and processes (ulimit -n, ulimit -u)",
    ),
    (
        r"Permission denied",
        "a file or folder belongs to somebody else",
        "Set RAY_TMPDIR to a folder of your own",
    ),
    (
        r"Killing \d+ worker\(s\)|OOM kill reason",
        "memory is short",
        "Use fewer --cpus, end other processes, or use a machine with more memory",
    ),
)
"""Patterns of lines, what they mean, and the way out."""
KILLED = _KNOWN[-1]


class RayLogs:
    """Reads what is new in the logs of a session.

    Parameters
    ----------
    folder
        Of the logs; on another machine, where nothing can be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, int] = {}
        self._lines: dict[str, list[tuple[float, str]]] = {}

    @property
    def here(self) -> bool:
        """Whether they are on this machine."""
        return self.folder.is_dir()

    def waiting_for_workers(self) -> int:
        """Return how many tasks and actors have been given their place, and wait for a worker to start there.

        What waits for a place is not among them. Ray writes it down every ten seconds.
        """
        with suppress(OSError):
            found = _WAITING.search((self.folder / "debug_state.txt").read_text(encoding="utf-8", errors="replace"))
            return int(found.group(1)) if found else 0
        return 0

    def look(self) -> list[str]:
        """Read what is new; return the lines."""
        return [line for path in self._files() for line in self._new_lines(path)]

    def started(self) -> list[int]:
        """Return the process numbers of workers in what has been read, in that order."""
        return [int(number) for line in self._of("raylet.out") for number in _STARTED.findall(line)]

    def forget(self, seconds: float) -> None:
        """Drop what was read so long ago: it belongs to workers that have started since."""
        before = time.monotonic() - seconds
        self._lines = {name: [one for one in lines if one[0] > before] for name, lines in self._lines.items()}

    def _of(self, name: str) -> list[str]:
        return [line for _, line in self._lines.get(name, ())]

    def cause(self) -> Cause | None:
        """Return why workers do not start, if a line that has been read since says it."""
        for pattern, what, way_out in _KNOWN:
            for name in self._lines:
                found = next((line for line in reversed(self._of(name)) if re.search(pattern, line)), None)
                if found is not None:
                    return Cause(f"{what} ({name}: {shown(found)})", way_out)
        return None

    def last_words(self) -> str:
        """Return the last warning or error of the machine's own process, for causes that nobody has foreseen."""
        for name in ("raylet.err", "raylet.out"):
            for line in reversed(self._of(name)):
                if name.endswith(".err") or (re.search(r"\] \(raylet\)|^\[.* [WEF] ", line) and " I " not in line[:40]):
                    return f"{name}: {shown(line)}"
        return f"the logs in {self.folder} name no cause"

    def _files(self) -> Iterator[Path]:
        for pattern in FILES:
            yield from sorted(self.folder.glob(pattern))

    def _new_lines(self, path: Path) -> list[str]:
        with suppress(OSError), path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(self._read.get(path, 0), size - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
            self._read[path] = file.tell()
            lines = [line for line in text.splitlines() if line.strip() and "[state-dump]" not in line]
            self._lines.setdefault(path.name, []).extend((time.monotonic(), line) for line in lines)
            return lines
        return []


def shown(line: str) -> str:
    """Return a line of a log without its time and place, at most so long as a person reads."""
    return re.sub(r"^\[[^]]*\] (\(\w+\) )?", "", line).strip()[:300]
