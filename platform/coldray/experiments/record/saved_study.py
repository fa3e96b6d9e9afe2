"""What a study of a category found, in a file beside its report: a summary over several studies is made from these."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from coldray.core.errors import StudyError
from coldray.core.files import replacing
from coldray.data.splits.items import HeldOut
from coldray.experiments.edges import Edge
from coldray.experiments.promotion.outcome import Promotion
from coldray.experiments.results import FoldMetrics, Selection, StudyResult, TrialResult
from coldray.models.forms import Form


class _SavedResult(BaseModel):
    """The fields of a :class:`~coldray.experiments.results.StudyResult`, but for the values of single users."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="constants")

    name: str
    model: str
    dataset: Mapping[str, Any]
    protocol: Mapping[str, str]
    searched: tuple[str, ...]
    cutoffs: tuple[int, ...]
    trials: tuple[TrialResult, ...]
    selection: Selection
    test: tuple[FoldMetrics, ...]
    test_intervals: Mapping[str, tuple[float, float]] = {}
    seconds: float = 0.0
    held_out: HeldOut = "items"
    notes: tuple[str, ...] = ()
    forms: tuple[Form, ...] = ()
    promotion: Promotion | None = None
    edges: tuple[Edge, ...] = ()


class SavedStudy(BaseModel):
    """What is in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    category: str
    settings: dict[str, Any]
    """The whole study file, defaults included."""
    saved: float
    """When, in seconds since 1970."""
    result: _SavedResult

    def restored(self) -> StudyResult:
        """Return what the study found."""
        names = [field.name for field in fields(StudyResult) if field.name in _SavedResult.model_fields]
        return StudyResult(**{name: getattr(self.result, name) for name in names})


def save_study(path: Path, category: str, settings: Mapping[str, Any], result: StudyResult) -> Path:
    """Write what a study of a category found to `path`, and return it.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    names = [field.name for field in fields(StudyResult) if field.name in _SavedResult.model_fields]
    values = _SavedResult(**{name: getattr(result, name) for name in names})
    saved = SavedStudy(category=category, settings=dict(settings), saved=time.time(), result=values)
    with replacing(path) as temporary:
        temporary.write_text(saved.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return path


def read_study(path: Path) -> SavedStudy:
    """Read what a study of a category found.

    Raises
    ------
    StudyError
        If the file cannot be read, or was written by another version.
    """
    try:
        return SavedStudy.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise StudyError(f"{path} cannot be read: {str(error).splitlines()[0]}.") from error
