"""The options of the commands that run studies."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from typer import Argument, Option

from coldray.cli.options.base import (
    ExperimentOptions,
    Options,
    OutputOptions,
    RayOptions,
    SettingsOptions,
    Values,
    names,
    registry_name,
)
from coldray.cli.options.data import DataOptions
from coldray.core.commands import called
from coldray.core.errors import ConfigError, UnsentError
from coldray.core.spelling import choices, nearest
from coldray.core.study_files import named_file, shipped
from coldray.experiments.promotion.outcome import Mode

_REGISTRY = "Registry"
_COMPARISON = "compare_models"
"""What is compared unless another comparison is named."""


def study_names(incomplete: str) -> list[str]:
    """Return the names of studies that begin so, for a shell."""
    return [name for name in shipped("study") if name.startswith(incomplete)]


def _comparisons(incomplete: str) -> list[str]:
    """Return the names of comparisons and of studies that begin so, for a shell."""
    return [*(name for name in shipped("comparison") if name.startswith(incomplete)), *study_names(incomplete)]


@dataclass(frozen=True, kw_only=True)
class RunOptions(ExperimentOptions, RayOptions, OutputOptions):
    """Where a study runs, and where it is kept and logged."""

    resume: Annotated[
        str | None,
        Option(
            metavar="[STUDY]",
            help="go on with an unfinished study: the one named, or the latest of this file and dataset; if there is "
            "none, a new one",
        ),
        Values.OPTIONAL,
    ] = None
    offline: Annotated[
        bool,
        Option(
            "--offline",
            help="ask no tracking server: keep all that is to be logged in the folder of the study, for "
            f"{called('sync')}",
            rich_help_panel="Tracking",
        ),
    ] = False
    unsent: list[str] = field(default_factory=list)
    """What the tracking server has refused, added as it happens: the job ends with a status of its own then."""


@dataclass(frozen=True, kw_only=True)
class RegisteredRunOptions(RunOptions):
    """The same of a study whose winner is registered."""

    model_name: Annotated[
        str | None,
        Option(
            callback=registry_name,
            help="name in the MLflow registry; coldray-, the dataset's name and that of what is tuned unless given",
            rich_help_panel=_REGISTRY,
        ),
    ] = None
    promote: Annotated[
        Mode,
        Option(
            help="who gets the alias champion, which is served: the new version always; if it is of the same catalogue "
            "and not worse than the champion on the same test folds; or never. Otherwise it gets the alias challenger",
            rich_help_panel=_REGISTRY,
        ),
    ] = "if-better"


@dataclass(frozen=True, kw_only=True)
class JobOptions(DataOptions, SettingsOptions, RunOptions):
    """What every job of a study, a comparison or an ablation is told."""

    @property
    def file(self) -> Path:
        """The study file, or that of the comparison."""
        raise NotImplementedError

    def check(self) -> None:
        """Find out whether there is such a file, and whether the settings and the source can be read."""
        super().check()
        _ = self.settings, self.file

    def status(self, result: object) -> int:
        """Tell at the end what the tracking server has refused."""
        if self.unsent:
            raise UnsentError(f"The job has come to its end, but {' And '.join(self.unsent)}")
        return 0


@dataclass(frozen=True, kw_only=True)
class _DryRunOptions(Options):
    """Whether anything runs."""

    dry_run: Annotated[
        bool,
        Option(
            "--dry-run",
            help="say what would run, and stop: data, splits, trials, memory, and the time by one fit; write nothing",
        ),
    ] = False


_StudyName: TypeAlias = Annotated[
    str,
    Argument(metavar="STUDY", help="name of a study, such as marec, or a study file", autocompletion=study_names),
]


@dataclass(frozen=True, kw_only=True)
class StudyOptions(_DryRunOptions, JobOptions, RegisteredRunOptions):
    """What a job is told that tunes a model, on one dataset or on each of several categories."""

    study: _StudyName

    phase: Annotated[
        Literal["all", "tune", "final", "auto"] | None,
        Option(
            help="tune each category by itself. tune: search and save the choice; final: test the saved choice, "
            "without a search; all: both; auto: test the saved choice where there is one of the same study and data, "
            "search first where there is none",
        ),
    ] = None

    def check(self) -> None:
        """Find out whether the options go together."""
        super().check()
        if self.dry_run and self.phase is not None:
            raise ConfigError(f"--dry-run looks at one dataset, --phase {self.phase} tunes several. Leave one out.")

    @property
    def file(self) -> Path:
        """The study file."""
        return named_file(self.study, "study")

    @property
    def _several_categories(self) -> bool:
        return self.phase is not None


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(StudyOptions):
    """What the tuning job of networks is told."""

    study: _StudyName = ""
    model: Annotated[str, Option(help="the network to be tuned")]

    @property
    def file(self) -> Path:
        """The study file: that of the network, unless one is named."""
        from coldray.models.registry import NETWORKS  # loads what models are made of, half a second

        if self.model not in NETWORKS:
            raise ConfigError(
                f"There is no network {self.model!r}.{nearest(self.model, NETWORKS)} Networks: {choices(NETWORKS)}."
            )
        return named_file(self.study or self.model, "study")


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions(_DryRunOptions, JobOptions, RegisteredRunOptions):
    """What a comparison job is told."""

    comparison: Annotated[
        list[str] | None,
        Argument(
            metavar="[COMPARISON] [MODEL]...",
            help="name of a comparison, such as coldstart, or a comparison file; and models, or entries of it, in the "
            "place of its own",
            autocompletion=_comparisons,
        ),
    ] = None
    trials: Annotated[
        int | None, Option(min=1, help="trials of every entry, whatever the files say; of a grid so many points")
    ] = None
    models: Annotated[
        list[str] | None,
        Option(
            callback=names,
            metavar="A,B",
            help="compare these alone: entries of the comparison file, or models with a study file beside it",
        ),
    ] = None

    @property
    def file(self) -> Path:
        """The comparison file."""
        return named_file(self._named[0], "comparison")

    @property
    def entries(self) -> list[str] | None:
        """The entries or models to be compared; None for those of the file."""
        return [*self._named[1], *(self.models or ())] or None

    def check(self) -> None:
        """Find out whether the first word names a comparison or a model, as well."""
        super().check()
        from coldray.models.registry import MODELS  # loads what models are made of, half a second

        file, models = self._named
        known = {*shipped("comparison"), *MODELS}
        if file == _COMPARISON and models and models[0] not in known:
            raise ConfigError(
                f"There is no comparison or model {models[0]!r}.{nearest(models[0], known)} Comparisons: "
                f"{choices(shipped('comparison'))}; or give a file. Models: {choices(MODELS)}."
            )

    @property
    def _named(self) -> tuple[str, list[str]]:
        """The comparison and the models among the words that are given."""
        words = self.comparison or []
        if words and (words[0] in shipped("comparison") or Path(words[0]).suffix or Path(words[0]).is_file()):
            return words[0], words[1:]
        return _COMPARISON, words


@dataclass(frozen=True, kw_only=True)
class AblationOptions(JobOptions):
    """What the ablation job is told."""

    study: _StudyName = "marec_plus"
    seeds: Annotated[
        list[int],
        Option(metavar="SEED...", help="seeds of splits and training; n_splits for each"),
        Values.SEVERAL,
    ] = field(default_factory=lambda: [42, 43])

    @property
    def file(self) -> Path:
        """The study file."""
        return named_file(self.study, "study")
