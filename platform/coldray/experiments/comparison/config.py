"""Comparison files: which studies are held against each other, and what they have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias, get_args

from pydantic import Field, PositiveInt, ValidationError, model_validator

from coldray.core.errors import ConfigError
from coldray.core.spelling import choices, nearest
from coldray.data.dataset import Dataset
from coldray.data.filters import FilterConfig
from coldray.data.sources.locations import found_below
from coldray.data.splits.positives import Positives
from coldray.data.splits.protocols import WarmingProtocol
from coldray.evaluation.metrics import check_metric
from coldray.evaluation.ratings import RATING_METRICS
from coldray.experiments.evaluation import Candidates
from coldray.experiments.inspection.config import InspectionConfig
from coldray.experiments.settings import Section, WithData, explain, read_settings, replace_settings
from coldray.experiments.space import StudyConfig, load_study
from coldray.experiments.split_config import SplitConfig
from coldray.features.builder import FeatureConfig, attribute_names
from coldray.models.registry import MODELS

Track: TypeAlias = Literal["clicks", "strict", "full"]
"""``clicks`` reads no attribute; ``strict`` reads exactly the dataset's default attributes, those that MARec uses, and
nothing learned elsewhere; ``full`` may read any attribute, such as the title, count labels, and embed texts."""
Name: TypeAlias = Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
VECTORS = "vectors"
"""What stands for the model of an entry that is vectors by file."""
_SHARED = ("name", "data", "splits", "candidates", "cutoffs", "filters", "positives", "selection.metric", "search.seed")
"""Fields of a study that the comparison decides for all entries."""


class VectorsConfig(Section):
    """Vectors of users and items that others trained: a score is the product of the two.

    Vectors are ``.npy`` files ``[rows, dimensions]``; the first column of a table of ids (CSV with a header, or
    parquet) tells whose they are, row by row. Files are looked for in the folder of the comparison file, then in that
    of the data (COLDRAY_DATA).
    """

    users: Path
    """Vectors of users."""
    user_ids: Path
    """Their ids."""
    items: Path
    """Vectors of items."""
    item_ids: Path
    """Their ids."""

    def below(self, folder: Path) -> VectorsConfig:
        """Return the same with the paths of files that a file in `folder` names."""
        return self.model_copy(update={name: found_below(path, folder) for name, path in self})


class EntryConfig(Section):
    """One of the studies compared, or vectors that are measured beside them."""

    study: Path | None = None
    """Its file, relative to the comparison file."""
    vectors: VectorsConfig | None = None
    """Vectors by file in the place of a study: nothing is tuned or fitted, and they are never the champion."""
    track: Track | None = None
    """By default what the study reads: nothing but clicks, the default attributes, or what it names itself."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Values in the place of those of the study file, by dotted name (``search.trials``)."""


class BudgetConfig(Section):
    """What every entry may spend."""

    trials: PositiveInt = 16
    """Trials of each entry, unless its overrides say otherwise."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the proposals of each entry, and of the bootstraps."""


class CriterionConfig(Section):
    """What decides."""

    metric: str = "ndcg@10"
    """Validation metric by which each entry chooses its configuration, and the comparison its champion. ``rmse``,
    ``mae`` and ``accuracy`` are of models that predict ratings: every entry must be one. Where all do, and no metric is
    named, ``rmse`` it is."""


class ComparisonConfig(WithData):
    """A whole comparison file."""

    name: Name
    """Letters, digits, ``_``, ``.`` and ``-``: it becomes part of folder names, and of the registered model's."""
    baseline: str
    """The entry that all others are held against."""
    entries: dict[Name, EntryConfig] = Field(min_length=1)
    """Studies by name, in the order of the report; of equals the earlier is the champion."""
    splits: SplitConfig = SplitConfig()
    candidates: Candidates = "cold"
    cutoffs: tuple[PositiveInt, ...] = Field(default=(10, 25, 50), min_length=1)
    filters: FilterConfig | None = None
    """Filters on the dataset; by default those of its published protocol, or none."""
    positives: Positives | None = Field(default=None, exclude_if=lambda rule: rule is None)
    """Which held-out interactions are to be found, ``{rating: ">=4"}``, while all are learned from; null for all."""
    selection: CriterionConfig = CriterionConfig()
    search: BudgetConfig = BudgetConfig()
    inspection: InspectionConfig | None = None
    """What is measured of each winner besides its metrics; nothing by default."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.baseline not in self.entries:
            raise ConfigError(
                f"The baseline {self.baseline!r} is no entry.{nearest(self.baseline, self.entries)} "
                f"Entries: {choices(self.entries)}."
            )
        check_metric("selection.metric", self.selection.metric, self.cutoffs, ratings=True)
        given = [name for name, entry in self.entries.items() if entry.vectors is not None]
        if len(given) == len(self.entries):
            raise ConfigError(
                "A comparison needs an entry that is a study: of vectors by file no champion can be fitted."
            )
        if given and self.splits.protocol in get_args(WarmingProtocol):
            raise ConfigError(
                f"splits.protocol: with {self.splits.protocol!r} models take clicks as they come, and {choices(given)} "
                "are vectors by file, which stay as they are. Leave them out, or use another protocol."
            )
        if given and self.splits.mixes:
            raise ConfigError(
                f"splits.protocol: {self.splits.protocol!r} measures fitted models on warm items, on cold ones and on "
                f"both, and {choices(given)} are vectors by file. Leave them out, or use another protocol."
            )
        if given and self.selection.metric in RATING_METRICS:
            raise ConfigError(
                f"selection.metric {self.selection.metric!r} is of predicted ratings, and {choices(given)} are vectors "
                "by file, whose scores are none. Leave them out, or choose by a metric of lists, such as ndcg@10."
            )
        if given and self.inspection is not None:
            raise ConfigError(
                f"inspection: it looks into fitted models, and {choices(given)} are vectors by file. Leave it out."
            )
        for name, entry in self.entries.items():
            if (entry.study is None) == (entry.vectors is None):
                raise ConfigError(f"entries.{name}.study: an entry is a study or vectors; name one of both.")
            if entry.vectors is not None and entry.overrides:
                raise ConfigError(
                    f"entries.{name}.overrides are of a study file, and vectors have none. Leave them out."
                )
            _check_overrides(name, entry.overrides)
        return self

    def found_in(self, folder: Path) -> Self:
        """Return what a file in a folder says."""
        found = super().found_in(folder)
        entries = {
            name: entry if entry.vectors is None else entry.model_copy(update={"vectors": entry.vectors.below(folder)})
            for name, entry in found.entries.items()
        }
        return found.model_copy(update={"splits": found.splits.below(folder), "entries": entries})

    def shared(self) -> dict[str, Any]:
        """Return the values that all entries have in common, by dotted name."""
        values = self.model_dump(mode="json", include={"splits", "candidates", "cutoffs", "filters", "positives"})
        budget = {"search.trials": self.search.trials, "search.seed": self.search.seed}
        return {"positives": None, **values, "selection.metric": self.selection.metric, **budget}


@dataclass(frozen=True)
class Entry:
    """One of the studies compared, as it will be run."""

    name: str
    track: Track
    study: StudyConfig

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.study.model


@dataclass(frozen=True)
class VectorsEntry:
    """Vectors by file that are measured beside the studies."""

    name: str
    track: Track
    config: VectorsConfig

    @property
    def model(self) -> str:
        """What stands for a model in tables."""
        return VECTORS

    @property
    def files(self) -> Iterator[tuple[str, Path]]:
        """Its files, by field."""
        return iter(self.config)


@dataclass(frozen=True)
class Comparison:
    """A comparison file with the studies that it names."""

    config: ComparisonConfig
    entries: tuple[Entry, ...]
    """Those that are studies."""
    vectors: tuple[VectorsEntry, ...] = ()


def load_comparison(
    path: Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    trials: int | None = None,
    models: Sequence[str] | None = None,
) -> Comparison:
    """Read and validate a comparison file and the study files that it names.

    Parameters
    ----------
    overrides
        Values that take the place of those in the file, by dotted name (``search.trials``).
    trials
        Trials of every entry, whatever the files say: of a grid so many of its points, or all if it has no more.
    models
        The entries in the place of those of the file: each one of it, or a model that a study file beside it tunes.
        Where the baseline is not among them, the first is.

    Raises
    ------
    ConfigError
        Naming the file, the field and the nearest valid name.
    """
    content = read_settings(path, "comparison file", "'name', 'baseline' and 'entries'")
    if models:
        _keep_models(content, models, path.parent)
    replace_settings(content, overrides or {})
    try:
        config = ComparisonConfig.model_validate(content).found_in(path.parent)
    except ValidationError as error:
        raise ConfigError(f"Comparison file {path}: {explain(error, ComparisonConfig)}") from error
    except ConfigError as error:
        raise ConfigError(f"Comparison file {path}: {error}") from error
    fixed = {} if trials is None else {"search.trials": trials, "search.points": trials}
    entries, vectors = [], []
    for name, entry in config.entries.items():
        if entry.vectors is not None:
            vectors.append(VectorsEntry(name, entry.track or "full", entry.vectors))
            continue
        settings = {**config.shared(), "name": name, **entry.overrides, **fixed}
        try:
            study = load_study(path.parent / str(entry.study), settings)
            entries.append(Entry(name, entry.track or _natural_track(study), study))
        except ConfigError as error:
            raise ConfigError(f"Comparison file {path}: entries.{name}: {error}") from error
    rated = not vectors and all(entry.study.kind.predicts_ratings for entry in entries)
    if rated and "metric" not in config.selection.model_fields_set:
        given = {**(overrides or {}), "selection.metric": "rmse"}
        return load_comparison(path, given, trials=trials, models=models)
    return Comparison(config, tuple(entries), tuple(vectors))


def _keep_models(content: dict[str, Any], models: Sequence[str], folder: Path) -> None:
    """Leave `models` as the entries of a comparison file."""
    listed = content.get("entries")
    known = listed if isinstance(listed, dict) else {}
    known = {**{model: {"study": study.name} for model, study in _studies_in(folder).items()}, **known}
    entries: dict[str, Any] = {}
    for name in models:
        if name not in known:
            raise ConfigError(f"--models: there is no {name!r}.{nearest(name, known)} Known: {choices(sorted(known))}.")
        entries[name] = known[name]
    content["entries"] = entries
    if content.get("baseline") not in entries:
        content["baseline"] = next(iter(entries))


def _studies_in(folder: Path) -> dict[str, Path]:
    """Return the study file of each model that has one in `folder`: that of its name, or the first that tunes it."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            content = read_settings(path, "study file", "'name', 'model' and 'space'")
        except ConfigError:
            continue  # another file, which says itself what is wrong once it is asked for
        model = content.get("model")
        if (
            isinstance(model, str)
            and model in MODELS
            and "space" in content
            and (model not in found or path.stem == model)
        ):
            found[model] = path
    return found


def _natural_track(study: StudyConfig) -> Track:
    """Return the track of an entry whose file names none, by what its study reads."""
    if study.encoded_users is not None:
        return "full"
    if study.encoded_features is None:
        return "clicks"
    return "strict" if study.features == FeatureConfig() else "full"


def _check_overrides(name: str, overrides: Mapping[str, Any]) -> None:
    """Refuse an override of what all entries have in common: without it they could not be compared."""
    for dotted in overrides:
        for field in _SHARED:
            if f"{dotted}.".startswith(f"{field}.") or f"{field}.".startswith(f"{dotted}."):
                raise ConfigError(
                    f"entries.{name}.overrides: {dotted} would change {field}, which all entries have in common. "
                    f"Set {field} of the comparison instead."
                )


def check_track(entry: Entry, dataset: Dataset) -> None:
    """Refuse an entry that reads other attributes than its track allows.

    Raises
    ------
    ConfigError
        Naming the entry, and the attributes.
    """
    if entry.track != "full" and entry.study.kind.reads_askers():
        raise ConfigError(
            f"The entry {entry.name!r} is on the {entry.track} track, which reads nothing of users but their clicks, "
            f"and the model {entry.study.model!r} reads more of them. Put it on the full track."
        )
    if entry.track == "clicks" and entry.study.kind.scores_cold_items:
        raise ConfigError(
            f"The entry {entry.name!r} is on the clicks track, which reads no attribute, and the model "
            f"{entry.study.model!r} learns from them. Put it on the strict or the full track."
        )
    if entry.track != "strict":
        return
    features, default = entry.study.features, dataset.default_attributes
    used = attribute_names(dataset, features)
    wrong = [f"it reads {name!r}" for name in used if name not in default]
    wrong += [f"it leaves out {name!r}" for name in default if name not in used]
    wrong += [f"it embeds {name!r}" for name, method in features.text.items() if method == "embedding"]
    if features.counts:
        wrong.append("it counts labels")
    if wrong:
        raise ConfigError(
            f"The entry {entry.name!r} is on the strict track, which reads exactly the default attributes of "
            f"{dataset.name!r} ({', '.join(default) or 'none'}): {', '.join(wrong)}. Put it on the full track, or "
            "change features of its study."
        )
