"""The trials of a search in a file: the winner can be tested later, without another search."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from coldray.core.errors import StudyError
from coldray.core.files import replacing
from coldray.data.dataset import Dataset
from coldray.experiments.forms.settled import Settled
from coldray.experiments.results import TrialResult
from coldray.experiments.search.run import SearchOutcome
from coldray.experiments.space import StudyConfig, current_settings

_NOTHING = Settled()


class _SavedSearch(BaseModel):
    """What is in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: dict[str, Any]
    """The whole study file, defaults included."""
    fingerprint: str
    """Of the dataset."""
    trials: tuple[TrialResult, ...]
    seconds: float
    settled: Settled = _NOTHING
    """The forms that its fits took."""


def save_search(
    path: Path, config: StudyConfig, dataset: Dataset, outcome: SearchOutcome, settled: Settled = _NOTHING
) -> Path:
    """Write the trials of a search and the forms of their fits to `path`, and return it.

    Parameters
    ----------
    config
        The study as it was written, before its forms were settled.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    saved = _SavedSearch(
        study=config.model_dump(mode="json"),
        fingerprint=dataset.fingerprint,
        trials=outcome.trials,
        seconds=outcome.seconds,
        settled=settled,
    )
    with replacing(path) as temporary:
        temporary.write_text(saved.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return path


def load_search(path: Path, config: StudyConfig, dataset: Dataset) -> tuple[SearchOutcome, Settled]:
    """Read the trials of a search, and the forms of their fits.

    Raises
    ------
    StudyError
        If there is no such file, it is damaged, or it is of another study or of other data: a choice made for those
        must not be tested as one for these.
    """
    way_out = "Run the job with --phase tune, or all, first."
    if not path.is_file():
        raise StudyError(f"There is no saved search {path}. {way_out}")
    try:
        saved = _SavedSearch.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise StudyError(f"The saved search {path} cannot be read: {error.errors()[0]['msg']}. {way_out}") from error
    study = config.model_dump(mode="json")
    known = current_settings(saved.study)
    other = [name for name in {**known, **study} if known.get(name) != study.get(name)]
    if other:
        raise StudyError(
            f"The saved search {path} is of another study: {other[0]} was {known.get(other[0])!r} and is "
            f"{study.get(other[0])!r}. Give the settings it was made with, or search again."
        )
    if saved.fingerprint != dataset.fingerprint:
        raise StudyError(
            f"The saved search {path} is of other data: their fingerprint was {saved.fingerprint[:12]} and is "
            f"{dataset.fingerprint[:12]}. Read the data it was made on, or search again."
        )
    stored = config.kind.config_type.stored
    trials = tuple(replace(trial, config=stored(trial.config)) for trial in saved.trials)
    return SearchOutcome(trials, saved.seconds), saved.settled
