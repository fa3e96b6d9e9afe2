"""Several models from a notebook: each tuned, all tested on the same splits and held against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console

from coldray.bundle.io import load_bundle
from coldray.bundle.model import Bundle
from coldray.cli.jobs.compare import run_and_publish
from coldray.cli.jobs.tune import check_servers
from coldray.cli.progress.ablation import AblationProgress
from coldray.core.errors import ConfigError, StudyError
from coldray.core.files import writable_folder
from coldray.core.notebook import facts_html
from coldray.core.study_files import named_file
from coldray.data.dataset import Dataset
from coldray.evaluation.ratings import is_error
from coldray.experiments.comparison.config import load_comparison
from coldray.experiments.comparison.result import ComparisonResult
from coldray.experiments.comparison.run import check_comparison
from coldray.experiments.results import mean_metric
from coldray.front.studies import notebook_options, told_unsent
from coldray.models.registry import MODELS, model_type
from coldray.reports.report import PAGE


@dataclass(frozen=True, eq=False)
class ModelComparison:
    """A finished comparison: its entries, how they differ, and the champion fitted on all interactions."""

    result: ComparisonResult
    folder: Path
    """Where its report, figures, tables and bundle are."""
    unsent: tuple[str, ...] = ()
    """What the tracking server has refused, in words; it is kept in the folder."""

    @cached_property
    def champion(self) -> Bundle:
        """The entry with the best mean validation metric, fitted on all interactions of the dataset."""
        return load_bundle(self.folder / "bundle")

    @property
    def report(self) -> Path:
        """The report, an HTML page."""
        return self.folder / PAGE

    @property
    def frame(self) -> pl.DataFrame:
        """A row a model, best on validation first.

        ``model``, ``track``, ``validation`` and ``test`` (means over the splits of the metric that chose), ``low`` and
        ``high`` (95 % bootstrap interval of the test mean over users), ``over_baseline`` (relative, on test),
        ``p_value`` (of the difference from the baseline, corrected for all that are compared), ``seconds``.
        """
        metric = self.result.metric
        rows = []
        for entry in self.result.entries:
            low, high = entry.intervals[metric]
            lift = entry.over_baseline.get(metric)
            rows.append(
                {
                    "model": entry.name,
                    "track": entry.track,
                    "validation": mean_metric(entry.validation, metric),
                    "test": mean_metric(entry.folds, metric),
                    "low": low,
                    "high": high,
                    "over_baseline": None if lift is None else lift.relative,
                    "p_value": None if lift is None else lift.p_adjusted,
                    "seconds": entry.seconds,
                }
            )
        found = pl.DataFrame(rows, infer_schema_length=None)
        return found.sort("validation", descending=not is_error(metric), maintain_order=True)

    def __repr__(self) -> str:
        failed = f"; failed: {', '.join(one.name for one in self.result.failed)}" if self.result.failed else ""
        return (
            f"Comparison {self.result.name} of {len(self.result.entries)} models by {self.result.metric}: champion "
            f"{self.result.champion}{failed}; {self.folder}"
        )

    def _repr_html_(self) -> str:
        best = self.frame.select("model", "validation", "test")
        facts = [(name, f"validation {chosen:.4f}, test {tested:.4f}") for name, chosen, tested in best.rows()]
        notes = [*(f"{one.name} failed: {one.reason}" for one in self.result.failed), *self.unsent]
        return facts_html(f"Comparison by {self.result.metric}", [*facts, ("report", self.report)], notes)


def compare(
    models: Sequence[str] | str | Path,
    dataset: Dataset,
    *,
    trials: int | None = None,
    settings: Mapping[str, Any] | None = None,
    output: str | Path = "runs",
    resume: bool = True,
    tracking_uri: str | None = None,
    ray_address: str = "local",
    cpus: int | None = None,
    quiet: bool = False,
) -> ModelComparison:
    """Tune several models with one budget, test each once on the same splits, and fit the best on everything.

    The champion is chosen by validation data; the test tells how good it is.

    Parameters
    ----------
    models
        Names of models that have a study file; or one comparison that comes with the package (``"compare_cold"``,
        ``"compare_models"``, ``"compare_ratings"``) or the path of a comparison file. If all the models score cold
        items, the splits hold out whole items, else interactions; if all predict ratings, RMSE decides: as those files
        say.
    trials, settings
        Trials of every model, and what takes the place of fields of the comparison file, by dotted name.
    output, resume, tracking_uri, ray_address, cpus, quiet
        As of :func:`~coldray.front.studies.tune`.

    Raises
    ------
    ConfigError
        If there is no such model or comparison, or a field is wrong.
    DataError
        If the data lack what a model reads.
    StudyError
        If no model could be tuned and tested. One that could not beside others that could is among
        ``result.failed``, with the reason.

    Examples
    --------
    >>> import coldray
    >>> films = coldray.load_dataset("sample")
    >>> one_split = {"splits.n_splits": 1}
    >>> found = coldray.compare(["popularity", "content_knn"], films, trials=1, settings=one_split, quiet=True)
    >>> found.frame["model"].to_list()[0] == found.result.champion
    True
    """
    named = [str(models)] if isinstance(models, str | Path) else list(models)
    if not named:
        raise ConfigError("compare takes the names of models, or a comparison; none is given.")
    if isinstance(models, str | Path) and models not in MODELS:
        comparison = load_comparison(named_file(models, "comparison"), settings, trials=trials)
    else:
        path = named_file(_file_for(named), "comparison")
        comparison = load_comparison(path, settings, trials=trials, models=named)
    options = notebook_options(output, tracking_uri, ray_address, cpus, resume, "coldray.compare(…)")
    with AblationProgress(Console(quiet=quiet)) as progress, writable_folder(options.output):
        check_servers(options)
        checked = check_comparison(comparison, dataset, progress)
        result, folder = run_and_publish(comparison, checked, options, progress)
    if result is None:
        raise StudyError(
            f"The comparison was written before, to {folder}, and its bundle, which alone was left, is made now. Load "
            f"it: coldray.load_bundle({str(folder / 'bundle')!r}); or compare anew: resume=False."
        )
    return ModelComparison(result, folder, told_unsent(options))


def _file_for(models: Sequence[str]) -> str:
    """Return the comparison whose splits, and metric, go with models."""
    kinds = [model_type(name) for name in models if name in MODELS]
    if kinds and all(kind.predicts_ratings for kind in kinds):
        return "compare_ratings"
    return "compare_cold" if all(kind.scores_cold_items for kind in kinds) else "compare_models"
