"""The options of the jobs that look after studies: what is sent to the tracking server, and how far they are."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coldray.cli.options.base import Options, add_tracking, job_parser


@dataclass(frozen=True, kw_only=True)
class SyncOptions(Options):
    """What the job is told that sends what a tracking server has not taken yet."""

    studies: Sequence[str]
    """Names of studies; all if empty."""
    output_dir: Path
    tracking_uri: str
    experiment: str
    again: bool
    """True if everything is to be sent from the first call."""


@dataclass(frozen=True, kw_only=True)
class StatusOptions(Options):
    """What the job is told that shows how far a study is."""

    study: str | None
    """Its name; None for the latest."""
    output_dir: Path
    follow: bool
    json: bool


def sync_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of the job that sends."""
    parser = job_parser(description)
    parser.add_argument("studies", nargs="*", metavar="STUDY", help="names of studies; all by default")
    parser.add_argument("--output-dir", type=Path, default=Path("runs"), help="where the studies write their reports")
    add_tracking(parser, experiment=True)
    parser.add_argument(
        "--again",
        action="store_true",
        help="send everything from the first call, not only what is left: what was deleted for good is made anew",
    )
    return parser


def status_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of the job that shows."""
    parser = job_parser(description)
    parser.add_argument("study", nargs="?", metavar="STUDY", help="name of the study; the latest by default")
    parser.add_argument("--output-dir", type=Path, default=Path("runs"), help="where the study writes its report")
    parser.add_argument("--follow", action="store_true", help="show it until the study has come to its end")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    return parser
