"""How far an ablation is: a bar for each of its steps, and lines now and then where there is no terminal."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from coldray.cli.progress import study as progress
from coldray.cli.progress.study import StudyProgress


class AblationProgress(StudyProgress):
    """Shows the step, how many of its fits are done and how long the others may take; to be closed at the end."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.steps = Progress(
            TextColumn("[bold]{task.description}", markup=True),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )

    def stage(self, message: str) -> None:
        """Print one line."""
        self.last_line = time.monotonic()
        super().stage(message)

    def advanced(self, step: str, done: int, total: int) -> None:
        """Show how far the step is; its bar goes when it is done."""
        if self.console.is_terminal:
            self._draw(step, done, total)
        elif 0 < done < total and time.monotonic() - self.last_line > progress.LINE_SECONDS:
            self.stage(f"{step}: {done} of {total} fits done")

    def _draw(self, step: str, done: int, total: int) -> None:
        if done == 0:
            for task in self.steps.task_ids:
                self.steps.remove_task(task)
            self.steps.add_task(step, total=total)
            self.steps.start()
        else:
            self.steps.update(self.steps.task_ids[0], completed=done)
        if done == total:
            self.steps.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.steps.stop()
