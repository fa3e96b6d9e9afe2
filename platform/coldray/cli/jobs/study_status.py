"""The job that shows how far a study is, from the files in its folder: from any terminal that sees them."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from coldray.cli.options.tracking import StatusOptions
from coldray.core.journal import Journal
from coldray.core.masking import masked
from coldray.experiments.record.folder import EVENTS, StudyFolder, resume_command, study_folder
from coldray.experiments.record.state import SearchState, search_state
from coldray.reports.labels import config_label, counted, duration_label

_REFRESH_SECONDS = 2.0
_GIB = 2**30


def show_status(options: StatusOptions, console: Console) -> None:
    """Print how far a study is.

    Raises
    ------
    StudyError
        If there is no such study.
    JournalError
        If its record is damaged.
    """
    folder = study_folder(options.output_dir, options.study)
    if options.json:
        console.print_json(json.dumps(_status_of(folder), default=str))
        return
    if not options.follow:
        console.print(drawn(folder))
        return
    with Live(drawn(folder), console=console, refresh_per_second=1) as live:
        while folder.running():
            time.sleep(_REFRESH_SECONDS)
            live.update(drawn(folder))


def _states_of(folder: StudyFolder) -> list[SearchState]:
    """Return how far each search of a study is; a comparison has one for each of its entries."""
    working = bool(folder.running())
    records = [Journal(path).read() for path in sorted(folder.path.glob(f"**/{EVENTS}"))]
    found = [search_state(of, working=working) for of in records]
    return [state for state in found if state is not None]


def _status_of(folder: StudyFolder) -> dict[str, Any]:
    """Return how far a study is as plain values."""
    manifest = folder.manifest()
    return {
        "study": folder.id,
        "kind": manifest["kind"],
        "dataset": manifest["dataset"],
        "state": _state(manifest, folder.running()),
        "running": folder.running(),
        "searches": [
            {
                **{k: value for k, value in dataclasses.asdict(state).items() if k not in ("ended", "parameters")},
                "trials_ended": len(state.ended),
                **{status: state.count(status) for status in ("finished", "pruned", "failed")},
                "best": [{"trial": number, state.metric: mean} for number, mean, _ in state.best()],
            }
            for state in _states_of(folder)
        ],
    }


def _state(manifest: dict[str, Any], running: str) -> str:
    return "finished" if "finished" in manifest else "running" if running else "interrupted"


def drawn(folder: StudyFolder) -> RenderableType:
    """Return how far a study is as it is printed."""
    manifest, running = folder.manifest(), folder.running()
    state = _state(manifest, running)
    colour = {"finished": "green", "running": "cyan", "interrupted": "yellow"}[state]
    begun = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(manifest["started"]))
    parts: list[RenderableType] = [
        Text.assemble((folder.id, "bold"), f"  {manifest['kind']} on {manifest['dataset']}, begun {begun}  "),
        Text.assemble((state, f"bold {colour}"), f" {running}"),
    ]
    for search in _states_of(folder):
        named = [] if search.study == folder.id else [Text(search.study.removeprefix(f"{folder.id}-"), "bold")]
        parts += [Text(), *named, *_drawn_search(search)]
    if "failed" in manifest:
        parts += [Text(), Text(f"failed, and would fail again with --resume: {manifest['failed']}", "red")]
    elif state == "interrupted":
        command = masked(resume_command(manifest, folder.id))
        parts += [Text(), Text.assemble("to go on: ", (command, "bold"))]
    return Group(*parts)


def _drawn_search(state: SearchState) -> list[RenderableType]:
    bar = Table.grid(padding=(0, 1))
    left = "" if state.seconds_left is None else f"about {duration_label(state.seconds_left)} left"
    done = f"{len(state.ended)}/{state.n_trials} trials × {counted(state.n_splits, 'split')}"
    bar.add_row(ProgressBar(state.n_trials, len(state.ended), width=30), Text(done), Text(left))
    counts = [f"{state.count(status)} {status}" for status in ("finished", "pruned", "failed") if state.count(status)]
    counts += [f"{state.lost} lost"] * bool(state.lost)
    counts += [f"{state.processes - 1} interruptions"] * (state.processes > 1)
    rows = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("trial", state.metric, "configuration"):
        rows.add_column(name, style="" if name == "configuration" else "cyan", header_style="dim")
    for number, mean, parameters in state.best():
        rows.add_row(f"#{number}", f"{mean:.4f}", Text(config_label(parameters, tuple(parameters))))
    parts: list[RenderableType] = [bar, Text(", ".join(counts) or "no trial has ended"), *([rows] if rows.rows else [])]
    failed = [trial for trial in state.ended.values() if trial["status"] == "failed"][:3]
    parts += [Text.assemble((f"trial {trial['number']} failed: ", "red"), trial["error"] or "") for trial in failed]
    if state.running:
        at_work = ", ".join(f"#{number} ({done}/{state.n_splits})" for number, done in sorted(state.running.items()))
        parts.append(Text(f"at work: {at_work}"))
    parts += [
        Text(
            f"{stage.name}: {duration_label(stage.seconds)}, {stage.cpu_seconds:.1f} s of CPU, peak "
            f"{stage.peak_bytes / _GIB:.1f} GiB",
            "dim",
        )
        for stage in state.stages[-4:]
    ]
    return parts
