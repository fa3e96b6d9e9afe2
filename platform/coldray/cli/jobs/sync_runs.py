"""The job that sends what studies have logged, and a tracking server has not taken yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from coldray.cli.lines import from_here, timed
from coldray.cli.options.tracking import SyncOptions
from coldray.core.errors import TrackingError, UnsentError
from coldray.experiments.record.folder import MANIFEST, RECORDS, TRACKING, StudyFolder, locked, study_folder
from coldray.reports.labels import counted
from coldray.tracking.access import check_reachable
from coldray.tracking.database import quiet_libraries
from coldray.tracking.runs import server_of
from coldray.tracking.spool import OPEN_STATUS, Spool, receipts_of


def sync_runs(options: SyncOptions, console: Console) -> int:
    """Send what waits in the folders of studies; return how many calls were sent.

    A run that was left open by a process that is gone is ended. What the server has refused before is sent again.

    Raises
    ------
    StudyError
        If a study is named that is not there.
    StudyLockedError
        If a process still works on a study that is named: it sends by itself.
    TrackingError
        If the server cannot be reached, or stops answering.
    UnsentError
        If the server refuses calls; all others are sent.
    """

    def say(message: str) -> None:
        console.print(timed(message), highlight=False)

    quiet_libraries()
    check_reachable(options.tracking_uri)
    named = [study_folder(options.output_dir, study) for study in options.studies or ()]
    paths = sorted((options.output_dir / RECORDS).glob(f"*/{MANIFEST}"))
    found = named or [StudyFolder(path.parent.absolute()) for path in paths]
    sent, missing = 0, []
    for folder in found:
        if not options.studies and folder.running():
            say(f"{folder.id} is running and sends by itself")
            continue
        with locked(folder):
            parts = sorted(folder.path.glob(f"**/{TRACKING}"))
            for part in parts:
                taken, refused = _sync(part, options, say)
                sent += taken
                missing += [f"{folder.id}: {refused}"] if refused else []
    if missing:
        raise UnsentError(f"{counted(sent, 'call')} sent. {' '.join(missing)}")
    if not sent:
        say(f"nothing waits in the {len(found):,} folders of studies")
    return sent


def _sync(path: Path, options: SyncOptions, say: Callable[[str], None]) -> tuple[int, str]:
    """Send what waits in a file; return how many calls were taken, and what was refused in words."""
    artifacts = options.output_dir.absolute().parent / "mlartifacts"
    if options.again:
        receipts_of(path).unlink(missing_ok=True)
    kept = Spool(path, None)
    for key in [key for key, status in kept.status.items() if status == OPEN_STATUS]:
        kept.end(key, "KILLED")
    waiting = kept.waiting
    if not waiting:
        return 0, ""
    say(f"sending {counted(waiting, 'call')} of {from_here(path)} to {options.tracking_uri}")
    server = server_of(options.tracking_uri, options.experiment, artifacts)
    spool = Spool(path, server, say=say)
    left = spool.close()
    for placed in server.placements.values():
        say(placed.words)
    if left > spool.refused:
        raise TrackingError(
            f"The MLflow server at {options.tracking_uri} took {waiting - left} of {waiting} calls and does not answer "
            "now. Nothing is lost: run the same command again."
        )
    return waiting - left, spool.missing()
