"""Study files: what is searched, how, on which splits, and how the winner is chosen."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

import numpy as np
from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from coldray.core.errors import ConfigError
from coldray.core.spelling import choices, nearest
from coldray.data.filters import FilterConfig
from coldray.data.signals import Reads
from coldray.data.splits.positives import Positives
from coldray.evaluation.metrics import check_metric
from coldray.experiments.evaluation import Candidates
from coldray.experiments.settings import Section, WithData, explain, read_settings, replace_settings
from coldray.experiments.split_config import SplitConfig
from coldray.features.builder import OF_USERS, FeatureConfig
from coldray.models.base import ModelConfig, Recommender
from coldray.models.pipeline import with_pipeline
from coldray.models.registry import model_type
from coldray.training.options import FitConfig, current_names, option_words

Algorithm: TypeAlias = Literal["optuna", "random", "grid"]
Preference: TypeAlias = Literal["low", "high"] | list[Any]
"""Which value of a parameter is the simpler one: the lower, the higher, or the earlier in a list."""

_RANGES = ("choice", "uniform", "log_uniform", "int_uniform")
_MAX_COMBINATIONS = 10_000
"""So many combinations are tried to find one that the model accepts; a space of more is taken on trust."""


class SearchConfig(Section):
    """How configurations are proposed."""

    algorithm: Algorithm = "optuna"
    """``optuna`` (TPE), ``random``, or ``grid`` (every combination of the choices)."""
    trials: PositiveInt = 32
    """Number of configurations; a grid takes all of its points, a space of fixed values the one it has."""
    points: PositiveInt | None = None
    """Of a grid, how many of its points are tried, drawn with the seed; by default, and if it has no more, all."""
    first: tuple[dict[str, Any], ...] = ()
    """Configurations that ``optuna`` tries before any it proposes; what one leaves out is as the model's default."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the proposals."""
    max_concurrent: PositiveInt = 8
    """Trials proposed together; as many of them run at once as the cluster has CPUs. A larger cluster wants more, at
    the price of proposals that know less."""
    gpus_per_trial: NonNegativeFloat = 0.0
    """GPUs, or a share of one, reserved for each trial and each shared computation. Without one Ray hides the GPUs of
    a cluster from its workers."""


class SchedulerConfig(Section):
    """Asynchronous successive halving (ASHA): weak configurations stop before their last split, or last epoch."""

    by: Literal["splits", "epochs"] = "splits"
    """``epochs``, of networks alone: they are judged on their first split, by the validation that their training stops
    by; those that come to its end run on all splits."""
    grace_splits: PositiveInt = 1
    """Splits every trial may run."""
    grace_epochs: PositiveInt = 5
    """Epochs every trial may train, if trials are judged by epochs."""
    reduction_factor: int = Field(default=3, ge=2)
    """One in this many trials goes on beyond each rung."""


class SelectionConfig(Section):
    """How the winner is chosen: the simplest of the configurations nearly as good as the best."""

    metric: str = "ndcg@10"
    """Validation metric; its mean over splits is maximised, that of ``rmse`` and ``mae`` minimised. These two and
    ``accuracy`` are of models that read ratings alone, see :mod:`~coldray.evaluation.ratings`."""
    tolerance: float = Field(default=0.02, ge=0, lt=1)
    """Relative loss of the metric accepted for a simpler configuration."""
    simplest: tuple[dict[str, Preference], ...] = ()
    """What simpler means: one parameter an entry, the first entry decides before the second."""


class FailureConfig(Section):
    """What failures cost. A model that cannot be fitted (NaN, a singular matrix, no memory) fails its trial at once."""

    retries: NonNegativeInt = 3
    """Times that a trial is tried again when its worker or node is lost, or it fails in a way that no model tells."""
    max_failed_trials: Annotated[int, Field(ge=0, strict=True)] | Annotated[float, Field(gt=0, le=1, strict=True)] = (
        0.75
    )
    """Failed trials that a study bears: a whole number of them, or a share of all trials, such as 0.5. One more stops
    the study."""

    def allowed(self, n_trials: int) -> int:
        """Return how many of so many trials may fail."""
        allowed = self.max_failed_trials
        return allowed if isinstance(allowed, int) else math.floor(allowed * n_trials)


class StudyConfig(WithData):
    """A whole study file."""

    name: str = Field(pattern=r"^\w[\w.-]*$")
    """Letters, digits, ``_``, ``.`` and ``-``: it becomes part of folder names."""
    model: str
    """Its name; ``pipeline: {retrieve: …, rank: …}`` names two, see :mod:`~coldray.models.two_stage`."""
    space: dict[str, Any] = Field(min_length=1)
    """For each parameter a value, or ``{choice: […]}``, ``{uniform: [low, high]}``, ``{log_uniform: [low, high]}``,
    ``{int_uniform: [low, high]}``. Parameters left out keep the model's default."""
    fit: FitConfig = FitConfig()
    """How the model is fitted: nothing that a search could choose by its metric."""
    search: SearchConfig = SearchConfig()
    scheduler: SchedulerConfig | None = None
    """Whether weak configurations stop early; null runs every trial to its end."""
    failures: FailureConfig = FailureConfig()
    splits: SplitConfig = SplitConfig()
    candidates: Candidates = "cold"
    """What competes: ``cold``, the held-out cold items alone; ``all``, every item but the user's train positives."""
    cutoffs: tuple[PositiveInt, ...] = Field(default=(10, 25, 50), min_length=1)
    """Lengths of a list at which it is measured."""
    features: FeatureConfig = FeatureConfig()
    user_features: FeatureConfig = OF_USERS
    """Which attributes of users are read, and how, by a model that reads any; the same fields as of `features`."""
    moment_features: FeatureConfig = FeatureConfig()
    """Which features of a click's moment are read, and how, by a model that reads any; the same fields as of
    `features`. Hour, weekday, activity and all columns of context if no `attributes` are named."""
    filters: FilterConfig | None = None
    """Filters on the dataset; by default those of its published protocol, or none."""
    positives: Positives | None = Field(default=None, exclude_if=lambda rule: rule is None)
    """Which held-out interactions are to be found, ``{rating: ">=4"}``, while all are learned from; null for all."""
    selection: SelectionConfig = SelectionConfig()

    @model_validator(mode="before")
    @classmethod
    def _with_model(cls, study: Any) -> Any:
        return with_pipeline(study)

    @field_validator("space")
    @classmethod
    def _with_current_names(cls, space: dict[str, Any]) -> dict[str, Any]:
        return current_names(space)

    @field_validator("cutoffs")
    @classmethod
    def _measured_once(cls, cutoffs: tuple[int, ...]) -> tuple[int, ...]:
        for cutoff in cutoffs:
            if cutoffs.count(cutoff) > 1:
                raise ValueError(f"The cutoff {cutoff} is listed twice and would give the same metrics again")
        return cutoffs

    @model_validator(mode="after")
    def _check(self) -> Self:
        config_type = self.kind.config_type
        for name in self.space:
            if config_type.was_option(name):
                raise ConfigError(f"space.{option_words(name)}")
        for name, spec in self.space.items():
            _check_parameter(name, spec, config_type)
        check_metric("selection.metric", self.selection.metric, self.cutoffs, ratings=self.kind.predicts_ratings)
        for entry in self.selection.simplest:
            for name in entry:
                _check_name(f"selection.simplest: {name}", name, config_type.model_fields)
        if self.candidates == "cold" and not self.splits.ranks_cold:
            raise ConfigError(
                f"candidates: 'cold' ranks held-out items, and the protocol {self.splits.protocol!r} holds out "
                "interactions. Use candidates: all, or the protocol notebook, balanced, item-warming or recsys-cold."
            )
        if self.kind.reads_moments and self.splits.protocol in ("item-warming", "user-warming"):
            raise ConfigError(
                f"splits.protocol: by {self.splits.protocol!r} clicks become known without the moments that the model "
                f"{self.model!r} reads. Use another protocol."
            )
        if self.scheduler and self.scheduler.by == "epochs" and not self.kind.trains_by_epochs:
            raise ConfigError(
                f"scheduler.by: the model {self.model!r} trains no epochs that could be judged. Use by: splits."
            )
        if self.search.algorithm == "grid":
            _check_grid(self.space)
        _check_some_valid(self)
        _check_first(self.first_points, self.space, self.search)
        for entry in self.selection.simplest:
            _check_preferences(entry, self.space, config_type)
        return self

    def found_in(self, folder: Path) -> Self:
        """Return what a file in a folder says."""
        found = super().found_in(folder)
        return found.model_copy(update={"splits": found.splits.below(folder)})

    @property
    def kind(self) -> type[Recommender[Any]]:
        """The class of the model."""
        return model_type(self.model)

    def configured(self, parameters: Mapping[str, Any]) -> Recommender[Any]:
        """Return the model with these parameters, not fitted yet."""
        return self.kind(self.kind.config_type.model_validate(dict(parameters)))

    @property
    def reads(self) -> Reads:
        """What any configuration of the study reads of a click.

        A parameter that makes a model read more does so whatever the others are, and so does one end of a range of it.
        """
        reads = self.configured({}).reads
        ends = (
            (name, end)
            for name, spec in self.space.items()
            if is_range(spec) and "choice" not in spec
            for end in next(iter(spec.values()))
        )
        for name, value in (*listed_values(self.space), *ends):
            reads |= self.configured({name: value}).reads
        return reads

    @property
    def first_points(self) -> list[dict[str, Any]]:
        """Values of the searched parameters in each of `search.first`."""
        defaults = self.kind.config_type().model_dump()
        return [{name: {**defaults, **point}[name] for name in self.searched} for point in self.search.first]

    @property
    def searched(self) -> tuple[str, ...]:
        """Names of the parameters that are searched."""
        return tuple(name for name, spec in self.space.items() if is_range(spec))

    @property
    def encoded_features(self) -> FeatureConfig | None:
        """How items are encoded for the model; None for one that reads clicks alone, as it cannot score cold items."""
        return self.features if self.kind.reads_items() else None

    @property
    def encoded_users(self) -> FeatureConfig | None:
        """How users are encoded for the model; None for one that knows them by their clicks alone."""
        return self.user_features if self.kind.reads_askers() else None

    @property
    def encoded_moments(self) -> FeatureConfig | None:
        """How moments of clicks are encoded for the model; None for one that reads nothing of them."""
        return self.moment_features if self.kind.reads_moments else None

    @property
    def n_trials(self) -> int:
        """Number of configurations the study evaluates; 1 where nothing is searched."""
        return len(self.points) if self.enumerated else self.search.trials

    @property
    def points(self) -> list[dict[str, Any]]:
        """The configurations that the space lists: of a grid as many as `search.points` says."""
        return drawn_points(grid_points(self.space), self.search.points, self.search.seed)

    @property
    def enumerated(self) -> bool:
        """True if the configurations are those the space lists, and none is proposed."""
        return self.search.algorithm == "grid" or not self.searched


def load_study(path: Path, overrides: Mapping[str, Any] | None = None) -> StudyConfig:
    """Read and validate a study file.

    Parameters
    ----------
    overrides
        Values that take the place of those in the file, by dotted name (``search.trials``).

    Raises
    ------
    ConfigError
        Naming the file, the field and the nearest valid name.
    """
    content = read_settings(path, "study file", "'name', 'model' and 'space'")
    replace_settings(content, overrides or {})
    try:
        return StudyConfig.model_validate(content).found_in(path.parent)
    except ValidationError as error:
        raise ConfigError(f"Study file {path}: {explain(error, StudyConfig)}") from error
    except ConfigError as error:
        raise ConfigError(f"Study file {path}: {error}") from error


def current_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a study, or of the entries of a comparison, that an earlier version may have recorded.

    How a fit runs was part of the space then. What was fixed there is moved to `fit`, so that the study can go on.
    """
    if "entries" in settings:
        entries = {name: current_settings(entry) for name, entry in settings["entries"].items()}
        return {**settings, "entries": entries}
    if "fit" in settings or not {"model", "space"} <= {*settings}:
        return dict(settings)
    config_type, space = model_type(settings["model"]).config_type, settings["space"]
    moved = {name: value for name, value in space.items() if config_type.was_option(name) and not is_range(value)}
    if moved.pop("use_gpu", False):
        moved["device"] = "cuda"
    rest = {name: value for name, value in space.items() if config_type.was_option(name) <= is_range(value)}
    values = {**settings, "space": rest, "fit": FitConfig.model_validate(moved).model_dump(mode="json")}
    ordered = [name for name in StudyConfig.model_fields if name in values]
    return {name: values[name] for name in dict.fromkeys([*ordered, *values])}


def is_range(spec: Any) -> bool:
    """Tell a range to search from a fixed value."""
    return isinstance(spec, dict) and len(spec) == 1 and next(iter(spec)) in _RANGES


def grid_points(space: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every combination of the choices; fixed values are in each of them."""
    axes = [spec["choice"] if is_range(spec) else [spec] for spec in space.values()]
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*axes)]


def drawn_points(points: list[dict[str, Any]], n: int | None, seed: int) -> list[dict[str, Any]]:
    """Return `n` of some configurations in their order, drawn with a seed; all if there are no more."""
    if n is None or len(points) <= n:
        return points
    kept = np.sort(np.random.default_rng(seed).permutation(len(points))[:n])
    return [points[i] for i in kept]


def listed_values(space: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the name of a parameter with each value the space lists for it: a fixed one, or every choice."""
    for name, spec in space.items():
        if not is_range(spec):
            yield name, spec
        elif "choice" in spec:
            yield from ((name, value) for value in spec["choice"])


def _check_parameter(name: str, spec: Any, config_type: type[ModelConfig]) -> None:
    _check_name(f"space.{name}", name, config_type.model_fields)
    if not is_range(spec):
        if isinstance(spec, dict) and len(spec) == 1 and isinstance(next(iter(spec.values())), list):
            kind = next(iter(spec))
            raise ConfigError(
                f"space.{name}: {kind!r} is no range.{nearest(kind, _RANGES)} Ranges: {choices(_RANGES)}."
            )
        _validated(f"space.{name}", name, spec, config_type)
        return
    kind, values = next(iter(spec.items()))
    if not isinstance(values, list) or (kind == "choice" and not values) or (kind != "choice" and len(values) != 2):
        wanted = "a list of at least one value" if kind == "choice" else "[low, high]"
        raise ConfigError(f"space.{name}: {kind} takes {wanted}, not {values!r}.")
    if kind != "choice":
        _check_bounds(name, kind, values, config_type)
        return
    for value in values:
        _validated(f"space.{name}", name, value, config_type)


def _check_bounds(name: str, kind: str, bounds: list[Any], config_type: type[ModelConfig]) -> None:
    if not all(isinstance(bound, (int, float)) and math.isfinite(bound) for bound in bounds):
        hint = " YAML reads 1e4 as text; write 1.0e+4 or 10000." if any(isinstance(b, str) for b in bounds) else ""
        raise ConfigError(f"space.{name}: {kind} takes two finite numbers, not {bounds!r}.{hint}")
    low, high = bounds
    if low >= high or (kind == "log_uniform" and low <= 0):
        positive = "0 < " if kind == "log_uniform" else ""
        raise ConfigError(f"space.{name}: {kind} needs {positive}low < high, not [{low:g}, {high:g}].")
    if kind == "int_uniform" and not all(float(bound).is_integer() for bound in bounds):
        raise ConfigError(f"space.{name}: int_uniform takes two whole numbers, not {bounds!r}.")
    for bound in bounds:
        _validated(f"space.{name}", name, bound, config_type)
    if kind != "int_uniform":  # both ends may be whole numbers of a parameter that takes no others
        _validated(f"space.{name}: a value of {kind}", name, low + 0.3819660112501051 * (high - low), config_type)


def _check_name(where: str, name: str, valid: Iterable[str]) -> None:
    if name not in set(valid):
        raise ConfigError(f"{where} is no parameter of the model.{nearest(name, valid)} Parameters: {choices(valid)}.")


def _validated(where: str, name: str, value: Any, config_type: type[ModelConfig]) -> None:
    try:
        config_type.model_validate({name: value})
    except ValidationError as error:
        raise ConfigError(f"{where}: {value!r} is not valid: {error.errors()[0]['msg']}.") from error


def _check_preferences(
    entry: Mapping[str, Preference], space: Mapping[str, Any], config_type: type[ModelConfig]
) -> None:
    """Find a rule that could not compare the trials before they run, not after."""
    for name, preference in entry.items():
        where = f"selection.simplest: {name}"
        if isinstance(preference, list):
            for value in preference:
                _validated(where, name, value, config_type)
            continue
        spec = space.get(name, config_type.model_fields[name].default)
        for value in spec.get("choice", []) if is_range(spec) else [spec]:
            if not isinstance(value, (int, float)):
                raise ConfigError(f"{where}: {value!r} is no number to be {preference}; list the values in order.")


def _check_grid(space: Mapping[str, Any]) -> None:
    for name, spec in space.items():
        if is_range(spec) and "choice" not in spec:
            raise ConfigError(
                f"space.{name}: a grid needs {{choice: […]}}, not {next(iter(spec))}. "
                "List the values, or use search.algorithm: optuna or random."
            )


def _check_first(points: Iterable[Mapping[str, Any]], space: Mapping[str, Any], search: SearchConfig) -> None:
    """Refuse configurations to begin with that the search could not propose itself."""
    if search.first and search.algorithm != "optuna":
        raise ConfigError(f"search.first: {search.algorithm} has an order of its own. Leave it out, or use optuna.")
    for name in {name: None for point in search.first for name in point}:
        _check_name("search.first: " + name, name, space)
    for point in points:
        for name, value in point.items():
            kind, values = next(iter(space[name].items()))
            if value not in values if kind == "choice" else not values[0] <= value <= values[1]:
                raise ConfigError(f"search.first: {name}={value!r} is outside of {kind} {values!r}. Widen the one.")


def _check_some_valid(config: StudyConfig) -> None:
    """Refuse a space whose values exclude each other in every combination; one where some go together is searched."""
    axes = [_samples(spec) for spec in config.space.values()]
    refusal: ConfigError | None = None
    for values in itertools.islice(itertools.product(*axes), _MAX_COMBINATIONS):
        try:
            config.configured(dict(zip(config.space, values, strict=True))).check_options(config.fit)
            return
        except ConfigError as error:
            refusal = refusal or error
    if math.prod(map(len, axes)) <= _MAX_COMBINATIONS:
        raise ConfigError(f"the space has no valid configuration: {refusal}") from refusal


def _samples(spec: Any) -> list[Any]:
    """Return a fixed value, every choice, or values of a range: one between its ends, and next to both."""
    if not is_range(spec):
        return [spec]
    kind, values = next(iter(spec.items()))
    if kind == "choice":
        return list(values)
    low, high = values
    if kind == "int_uniform":
        return [low, (low + high) // 2, high]
    return [(low + high) / 2, math.nextafter(low, high), math.nextafter(high, low)]  # the first is told of
