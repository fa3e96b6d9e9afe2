"""The record of a study: one line an event, from which the study goes on, and its state can be told at any time."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coldray.core.errors import OtherStudyError, OutputError
from coldray.core.journal import Journal, Record
from coldray.core.memory import peak_bytes
from coldray.data.dataset import Dataset
from coldray.experiments.forms.settled import Settled
from coldray.experiments.listeners import StudyListener
from coldray.experiments.promotion.outcome import Promotion
from coldray.experiments.record.tested import Tested
from coldray.experiments.results import FoldMetrics, TrialResult
from coldray.experiments.space import StudyConfig
from coldray.models.registry import model_type

_FOLD = tuple(field.name for field in dataclasses.fields(FoldMetrics))


def trial_key(number: int, parameters: Mapping[str, Any]) -> str:
    """Return the name of a trial within its study: a hash of its configuration, and of its place among the proposals.

    A search may propose a configuration twice.
    """
    text = json.dumps([number, dict(parameters)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class StudyRecord(StudyListener):
    """Writes every event of a study to a journal, and knows what earlier processes wrote there.

    A record names the time in seconds since 1970, the event, the study and, where they apply, trial, seed and split.

    Parameters
    ----------
    path
        The journal; None keeps the record in memory alone.
    study
        The name of the study.

    Raises
    ------
    JournalError
        If the journal is damaged.
    """

    def __init__(self, path: Path | None = None, study: str = "") -> None:
        self.study = study
        self.ended: dict[int, TrialResult] = {}
        """Trials that need not run again, by number."""
        self.parameters: dict[int, dict[str, Any]] = {}
        """The searched ones of every trial that has started, by number."""
        self.folds: dict[int, list[FoldMetrics]] = {}
        """Splits that are done of every trial, by number; those of trials that have not ended too."""
        self.settled: Settled | None = None
        """The forms that the study was settled on."""
        self.tested: Tested | None = None
        """What the winner reached on test data."""
        self.published = False
        """True once report and tracking server have what was found: nothing but the bundle is left to be made."""
        self.champion = ""
        """Of a comparison, the entry that the bundle is made of."""
        self.promotion: Promotion | None = None
        """What was decided, and told, of the place of the bundle in the registry."""
        self.complete = False
        """True once the study has come to its end."""
        self._journal = Journal(path) if path else None
        self._numbers: dict[str, int] = {}
        self._fingerprint = ""
        self._stage: tuple[str, float, float] | None = None
        self._of_workers = 0.0, 0
        """Seconds of CPU and the largest memory of the workers, in this stage."""
        for record in self._journal.read() if self._journal else []:
            self._learn(record)
        self.resumed = bool(self.ended or self.folds)

    def _learn(self, record: Record) -> None:
        if record["event"] == "process":
            self._fingerprint = record["fingerprint"]
        elif record["event"] == "trial_started":
            self.parameters[record["trial"]] = record["parameters"]
        elif record["event"] == "split":
            fold = FoldMetrics(**{name: record[name] for name in _FOLD if name in record})
            self.folds.setdefault(record["trial"], []).append(fold)
        elif record["event"] == "trial_ended":
            trial = _trial_of(record["result"])
            if not trial.lost:
                self.ended[trial.number] = trial
        elif record["event"] == "settled":
            self.settled = Settled.from_plain(record)
        elif record["event"] == "tested":
            self.tested = Tested.from_plain(record)
        elif record["event"] == "published":
            self.published, self.champion = True, record["champion"]
            self.promotion = Promotion(**record["promotion"]) if record["promotion"] else None
        elif record["event"] == "finished":
            self.complete = True

    def write(self, event: str, *, durable: bool = False, **values: Any) -> None:
        """Add an event.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        if self._journal is not None:
            record = {"time": time.time(), "event": event, "study": self.study, **values}
            self._journal.append(record, durable=durable)

    def checkpoints(self, model: str) -> Path | None:
        """Return the folder, which now exists, where trials of a model that trains by epochs keep their checkpoints.

        None for other models, and where nothing is kept.

        Raises
        ------
        OutputError
            If it cannot be made.
        """
        if self._journal is None or not model_type(model).trains_by_epochs:
            return None
        folder = self._journal.path.parent / "checkpoints"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"The folder {folder} for checkpoints cannot be made: {error.strerror}.") from error
        return folder

    def study_started(self, config: StudyConfig, dataset: Dataset, study_id: str, protocol: Mapping[str, str]) -> None:
        """Record which process works on the study.

        Raises
        ------
        OtherStudyError
            If the record is of other data.
        """
        self.study = self.study or study_id
        stored = config.kind.config_type.stored  # an earlier version may have begun the study
        self.ended = {n: dataclasses.replace(trial, config=stored(trial.config)) for n, trial in self.ended.items()}
        if self._fingerprint not in ("", dataset.fingerprint):
            raise OtherStudyError(
                f"The record of {self.study} is of other data: their fingerprint was {self._fingerprint[:12]}, that of "
                f"{dataset.name!r} is {dataset.fingerprint[:12]}. Start a new study without --resume."
            )
        host, process = socket.gethostname(), os.getpid()
        self.write("process", host=host, pid=process, dataset=dataset.name, fingerprint=dataset.fingerprint)

    def stage(self, message: str) -> None:
        """Record how long the stage before this one took, and what this process and workers have used since."""
        self._end_stage()
        self._begin_stage(message)

    def _begin_stage(self, message: str) -> None:
        self._stage, self._of_workers = (message, time.monotonic(), time.process_time()), (0.0, 0)

    def _end_stage(self) -> None:
        if self._stage is not None:
            message, started, cpu = self._stage
            self._stage = None
            of_workers, largest = self._of_workers
            self.write(
                "stage",
                stage=message,
                seconds=time.monotonic() - started,
                cpu_seconds=time.process_time() - cpu + of_workers,
                peak_bytes=max(peak_bytes(), largest),
            )

    def search_started(self, n_trials: int, n_splits: int, metric: str) -> None:
        """Record how much there is to do."""
        self._end_stage()
        self.write("search_started", trials=n_trials, splits=n_splits, metric=metric, ended=len(self.ended))
        self._begin_stage("searching")

    def trial_started(self, trial_id: str, number: int, config: Mapping[str, Any]) -> None:
        """Record that a trial runs."""
        self.parameters[number], self._numbers[trial_id] = dict(config), number
        self.write("trial_started", trial=number, key=trial_id, parameters=dict(config))

    def trial_reported(self, trial_id: str, folds: Sequence[FoldMetrics]) -> None:
        """Record the splits that are new."""
        number = self._numbers[trial_id]
        known = self.folds.setdefault(number, [])
        done = {(fold.seed, fold.split) for fold in known}
        for fold in folds:
            if (fold.seed, fold.split) not in done:
                known.append(fold)
                cpu, largest = self._of_workers
                self._of_workers = cpu + fold.cpu_seconds, max(largest, fold.peak_bytes)
                self.write("split", trial=number, key=trial_id, **dataclasses.asdict(fold))

    def trial_ended(self, trial: TrialResult) -> None:
        """Record the result of a trial for good; one that was known is not recorded again."""
        if trial.number not in self.ended:
            if not trial.lost:
                self.ended[trial.number] = trial
            self.write("trial_ended", durable=True, trial=trial.number, key=trial.trial_id, result=_plain(trial))

    def search_ended(self) -> None:
        """Record that no trial is left to wait for."""
        self._end_stage()
        self.write("search_ended", durable=True, ended=len(self.ended))

    def settle(self, settled: Settled) -> None:
        """Record in which forms the study fits its model: one that goes on takes the same, whatever the memory then."""
        if self.settled is None:
            self.settled = settled
            self.write("settled", durable=True, **settled.plain())

    def winner_tested(self, tested: Tested) -> None:
        """Record what the winner reached on test data, which are used once."""
        if self.tested is None:
            self.tested = tested
            self.write("tested", durable=True, **tested.plain())

    def was_published(self, champion: str = "", promotion: Promotion | None = None) -> None:
        """Record that report and tracking server have what was found: of a comparison, with its `champion`."""
        self.published, self.champion, self.promotion = True, champion, promotion
        self._end_stage()
        placed = dataclasses.asdict(promotion) if promotion else None
        self.write("published", durable=True, champion=champion, promotion=placed)

    def finished(self) -> None:
        """Record that the study has come to its end: no training will go on from a checkpoint."""
        self._end_stage()
        if self._journal is not None:
            shutil.rmtree(self._journal.path.parent / "checkpoints", ignore_errors=True)
        self.write("finished", durable=True)


def _plain(trial: TrialResult) -> dict[str, Any]:
    return {**dataclasses.asdict(trial), "config": dict(trial.config)}


def _trial_of(values: Mapping[str, Any]) -> TrialResult:
    folds = tuple(FoldMetrics(**fold) for fold in values["folds"])
    return TrialResult(**{**values, "folds": folds})
