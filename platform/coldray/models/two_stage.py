"""Two stages: a model that finds candidates among all items, and another that ranks these.

The first scores every item; the best `k` of those that are not in the history are candidates. Of a candidate with the
scores r by the first stage and s by the second, each less its mean over the row's candidates and over their standard
deviation, the score is ``s + w r``. All other items follow in the order of the first stage, so that a list that is
longer, or of which much is masked, goes on.

A pipeline is a model like any other, called by the names of its stages: ``two_tower+deepfm``. Its parameters are those
of the stages, ``retrieve__embedding_dim``, ``rank__learning_rate``, as scikit-learn names those of the steps of a
pipeline.

Source: Covington, Adams and Sargin, *Deep Neural Networks for YouTube Recommendations*, RecSys 2016, Sec. 2.

Notation used for shapes: b users, n items asked for, k candidates, u items that are a candidate of anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from pydantic import NonNegativeFloat, PositiveInt, create_model, model_validator

from coldray.core.errors import ConfigError
from coldray.data.signals import Reads
from coldray.evaluation.ranking import Scorer
from coldray.evaluation.ratings import ones_where_stored
from coldray.evaluation.topk import top_k
from coldray.features.builder import AttributeKind
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Items, ModelConfig, Recommender, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.forms import Form, StudyOutlook
from coldray.models.pipeline import JOINT, STAGES, Stage
from coldray.models.transfer.similarity import arrays_under
from coldray.training.options import FitConfig, FitOptions

_Kinds: TypeAlias = Mapping[Stage, type[Recommender[Any]]]
_ROUNDING = 1e-6
"""Standard deviation, relative to the largest score, below which candidates are taken to be equal."""
_Scored: TypeAlias = Callable[[sp.csr_array, FeatureSet | None], Scores]
"""From histories ``[b, I]`` and what is known of who asks to scores ``[b, n]``."""


class TwoStageConfig(ModelConfig):
    """Parameters of :class:`TwoStage`, beside those of the stages."""

    kinds: ClassVar[_Kinds]
    k: PositiveInt = 500
    """Candidates of a list that the second stage ranks; all items where there are fewer."""
    weight: NonNegativeFloat = 0.0
    """w, the weight of the first stage's scores among the candidates; 0 leaves the order to the second."""

    @model_validator(mode="after")
    def _stages_go(self) -> Self:
        for stage in STAGES:
            self.of(stage)
        return self

    def of(self, stage: Stage) -> ModelConfig:
        """Return the parameters of a stage."""
        config_type = self.kinds[stage].config_type
        return config_type.model_validate(
            {name: getattr(self, _joined(stage, name)) for name in config_type.model_fields}
        )

    def with_stage(self, stage: Stage, config: ModelConfig) -> Self:
        """Return it with other parameters of a stage."""
        named = {_joined(stage, name): value for name, value in config.model_dump().items()}
        return type(self).model_validate({**self.model_dump(), **named})

    def __reduce__(self) -> Any:
        """Rebuild it by the names of the stages: its class is made where it is asked for."""
        return _configured, (*(self.kinds[stage].name for stage in STAGES), self.model_dump())


def _joined(stage: Stage, name: str) -> str:
    return f"{stage}__{name}"


def _configured(retrieve: str, rank: str, values: dict[str, Any]) -> ModelConfig:
    return two_stage_type(f"{retrieve}{JOINT}{rank}").config_type.model_validate(values)


def _rebuilt(retrieve: str, rank: str, values: dict[str, Any]) -> TwoStage:
    kind = two_stage_type(f"{retrieve}{JOINT}{rank}")
    model = kind.__new__(kind)
    model.__dict__.update(values)
    return model


class TwoStage(Recommender[TwoStageConfig]):
    """The best candidates of one model, in the order of another."""

    name: ClassVar[str] = "two_stage"
    config_type: ClassVar[type[ModelConfig]] = TwoStageConfig
    kinds: ClassVar[_Kinds]

    def __init__(self, config: TwoStageConfig | None = None) -> None:
        super().__init__(config if config is not None else self.config_type())  # type: ignore[arg-type]
        self._stages: dict[Stage, Recommender[Any]] = {}

    def __reduce__(self) -> Any:
        """Rebuild it by the names of the stages: its class is made where it is asked for."""
        return _rebuilt, (*(self.kinds[stage].name for stage in STAGES), self.__dict__)

    @classmethod
    def reads_items(cls) -> bool:
        """Tell whether either stage reads attributes of items."""
        return any(kind.reads_items() for kind in cls.kinds.values())

    @classmethod
    def needs_attributes(cls) -> bool:
        """Tell whether either stage cannot do without attributes of items."""
        return any(kind.needs_attributes() for kind in cls.kinds.values())

    @classmethod
    def settle(cls, config: TwoStageConfig, outlook: StudyOutlook) -> tuple[TwoStageConfig, tuple[Form, ...]]:
        """Decide for either stage what is left to be chosen by size."""
        forms: list[Form] = []
        for stage in STAGES:
            of_stage = replace(outlook, options=_heeded(cls.kinds[stage], outlook.options))
            settled, decided = cls.kinds[stage].settle(config.of(stage), of_stage)
            config = config.with_stage(stage, settled)
            forms += [replace(form, parameter=_joined(stage, form.parameter)) for form in decided]
        return config, tuple(forms)

    @classmethod
    def compared_forms(cls, config: TwoStageConfig, share: float) -> tuple[TwoStageConfig, TwoStageConfig] | None:
        """Return configurations with the first approximate stage in its exact form, and made smaller."""
        for stage in STAGES:
            pair = cls.kinds[stage].compared_forms(config.of(stage), share)
            if pair is not None:
                exact, smaller = (config.with_stage(stage, one) for one in pair)
                return exact, smaller
        return None

    def check_options(self, options: FitConfig) -> None:
        """Raise :class:`~coldray.core.errors.ConfigError` if neither stage would heed one of the options."""
        super().check_options(options)
        for stage in STAGES:
            self._new(stage).check_options(_heeded(self.kinds[stage], options))

    @property
    def reads(self) -> Reads:
        """What either stage reads of clicks."""
        every = [self._new(stage).reads for stage in STAGES]
        return every[0] | every[1]

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Fit both stages, each on all clicks; pipelines that differ in `k` and `weight` alone share the fits."""
        self.settle_on(train, options)
        shared = Computations() if computations is None else computations
        fitted: dict[Stage, Recommender[Any]] = {}
        for stage, kind in self.kinds.items():
            config = self.config.of(stage)
            heeded = options.model_copy(update=_not_heeded(kind))
            told = {"model": kind.name, "parameters": config.model_dump_json()}
            arrays = shared.get(fitted_stage, train, **told, options=heeded)
            fitted[stage] = kind.from_state(config, arrays, train.features)
        self._stages = fitted
        return self

    @property
    def n_items(self) -> int:
        """Number of items the fitted model knows; 0 before the fit."""
        return self._stages["rank"].n_items if self._stages else 0

    def scorer(self, items: Items) -> Scorer:
        """Return the function that scores `items` for a block of histories."""
        scores = self._scorer(items)

        def of_histories(histories: sp.csr_array) -> Scores:
            return scores(histories, None)

        return of_histories

    def _scorer(self, items: Items) -> _Scored:
        """Return the function that scores `items` for histories and what is known of who asks, if a stage reads it."""
        self.check_fitted()
        items = np.asarray(items)
        first, ranker = _scored(self._stages["retrieve"], items), self._stages["rank"]
        if len(items) == 0:
            return first
        k, weight = min(self.config.k, len(items)), self.config.weight
        whole = _scored(ranker, items) if k == len(items) else None

        def scores(histories: sp.csr_array, askers: FeatureSet | None) -> Scores:
            found = first(histories, askers)
            best, _ = top_k(found, k, exclude=sp.csr_array(histories[:, items]), n_threads=1)
            chosen = np.zeros(found.shape, np.bool_)
            rows, places = np.nonzero(best >= 0)
            chosen[rows, best[rows, places]] = True
            some = np.flatnonzero(chosen.any(axis=0))
            if len(some) == 0:
                return found
            if whole is None:
                second = _scored(ranker, items[some])(histories, askers)
            else:
                second = whole(histories, askers)[:, some]
            return _in_two_tiers(found, second, chosen, some, weight)

        return scores

    def add_items(self, features: FeatureSet) -> Self:
        """Return a model whose stages both know the new items."""
        self.check_fitted()
        if not self.scores_cold_items:
            return super().add_items(features)
        return self._with({stage: model.add_items(features) for stage, model in self._stages.items()})

    def check_attributes(self, kinds: Mapping[str, AttributeKind]) -> None:
        """Ask both stages."""
        for stage in STAGES:
            self._new(stage).check_attributes(kinds)

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what the larger of the two fits takes: one comes after the other."""
        return max(self._new(stage).memory_bytes(n_users, n_items) for stage in STAGES)

    def check_size(self, n_users: int, n_items: int) -> None:
        """Ask both stages, whose ways out differ."""
        for stage in STAGES:
            self._new(stage).check_size(n_users, n_items)

    def state(self) -> Mapping[str, npt.NDArray[Any]]:
        """Return the arrays of both stages."""
        self.check_fitted()
        every = self._stages.items()
        return {_joined(stage, name): array for stage, model in every for name, array in model.state().items()}

    @classmethod
    def from_state(cls, config: TwoStageConfig, state: Mapping[str, npt.NDArray[Any]], features: FeatureSet) -> Self:
        """Rebuild both stages."""
        return cls(config)._with(
            {
                stage: cls.kinds[stage].from_state(
                    config.of(stage), arrays_under(_joined(stage, ""), dict(state)), features
                )
                for stage in STAGES
            }
        )

    def _new(self, stage: Stage) -> Recommender[Any]:
        return self.kinds[stage](self.config.of(stage))

    def _with(self, stages: Mapping[Stage, Recommender[Any]]) -> Self:
        model = type(self)(self.config)
        model.forms, model._stages = self.forms, dict(stages)
        return model


def fitted_stage(data: TrainingSet, *, model: str, parameters: str, options: FitOptions) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a model, of these parameters as JSON, that is fitted on its own."""
    from coldray.models.registry import model_type

    kind = model_type(model)
    if data.moments is not None and not kind.reads_moments:
        data = replace(data, interactions=ones_where_stored(data.interactions), moments=None)
    stage = kind(kind.config_type.model_validate_json(parameters))
    return dict(stage.fit(data, None, options).state())


def _scored(model: Recommender[Any], items: Items) -> _Scored:
    """Return the function that scores items by all that the model reads of who asks."""
    plain = model.scorer(items)
    by_profile = model.profile_scorer(items) if model.reads_askers() else None

    def scores(histories: sp.csr_array, askers: FeatureSet | None) -> Scores:
        return plain(histories) if by_profile is None or askers is None else by_profile(histories, askers)

    return scores


def _in_two_tiers(
    first: Scores, second: Scores, chosen: npt.NDArray[np.bool_], some: npt.NDArray[np.intp], weight: float
) -> Scores:
    """Return scores ``[b, n]``: candidates from 0 on, by both stages, and all others below by the first alone.

    Parameters
    ----------
    first
        Of all items ``[b, n]``.
    second
        Of those that are anybody's candidates ``[b, u]``.
    chosen
        Which are candidates of each ``[b, n]``.
    some
        Which items the columns of `second` are ``[u]``.
    """
    candidates = chosen[:, some]
    ranked = _standard(second, candidates)
    if weight:
        ranked = ranked + np.float32(weight) * _standard(first[:, some], candidates)
    least = np.where(candidates, ranked, np.inf).min(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # of whom there are no candidates
        tiers = first - first.max(axis=1, keepdims=True) - np.float32(1)
        tiers[:, some] = np.where(candidates, ranked - least, tiers[:, some])
    return np.ascontiguousarray(tiers, np.float32)


def _standard(scores: Scores, candidates: npt.NDArray[np.bool_]) -> Scores:
    """Return the scores of candidates less their mean, over their standard deviation; 0 if only rounding differs."""
    count = np.maximum(candidates.sum(axis=1, keepdims=True), 1)
    wide = np.where(candidates, scores, 0).astype(np.float64)
    centred = np.where(candidates, wide - wide.sum(axis=1, keepdims=True) / count, 0)
    spread = np.sqrt((centred**2).sum(axis=1, keepdims=True) / count)
    told = spread > _ROUNDING * np.abs(wide).max(axis=1, keepdims=True)
    even: npt.NDArray[np.float64] = np.divide(centred, spread, out=np.zeros_like(centred), where=told)
    return even.astype(np.float32)


def _not_heeded(kind: type[Recommender[Any]]) -> dict[str, Any]:
    """Return by their defaults the options that a model does not heed."""
    plain = FitConfig()
    return {name: getattr(plain, name) for name in FitConfig.model_fields if name not in kind.fit_options}


def _heeded(kind: type[Recommender[Any]], options: FitConfig) -> FitConfig:
    return options.model_copy(update=_not_heeded(kind))


@lru_cache
def two_stage_type(name: str) -> type[TwoStage]:
    """Return the class of a pipeline, by the names of its stages: ``two_tower+deepfm``.

    Raises
    ------
    ConfigError
        If it has not two stages, a stage is no model, or one that cannot be a stage.
    """
    from coldray.models.registry import model_type  # which gives classes of pipelines, too

    parts = name.split(JOINT)
    if len(parts) != len(STAGES):
        raise ConfigError(f"A pipeline has two stages, such as two_tower{JOINT}deepfm; {name!r} has {len(parts)}.")
    kinds = {stage: model_type(part) for stage, part in zip(STAGES, parts, strict=True)}
    for stage, kind in kinds.items():
        _check_stage(stage, kind)
    fields: dict[str, Any] = {
        _joined(stage, field): (info.rebuild_annotation(), info)
        for stage, kind in kinds.items()
        for field, info in kind.config_type.model_fields.items()
    }
    config_type = create_model("TwoStageConfig", __base__=TwoStageConfig, __module__=__name__, **fields)
    config_type.kinds = kinds
    every = kinds.values()
    return type(
        "TwoStage",
        (TwoStage,),
        {
            "__doc__": TwoStage.__doc__,
            "__module__": __name__,
            "name": name,
            "config_type": config_type,
            "kinds": kinds,
            "way_out": " ".join(dict.fromkeys(kind.way_out for kind in every)),
            "scores_cold_items": all(kind.scores_cold_items for kind in every),
            "personalised": any(kind.personalised for kind in every),
            "fit_options": tuple(dict.fromkeys(option for kind in every for option in kind.fit_options)),
            "reads_users": any(kind.reads_users for kind in every),
            "reads_moments": any(kind.reads_moments for kind in every),
            **({"profile_scorer": TwoStage._scorer} if any(kind.reads_askers() for kind in every) else {}),
        },
    )


def _check_stage(stage: Stage, kind: type[Recommender[Any]]) -> None:
    reads = kind(kind.config_type()).reads
    if kind.predicts_ratings or reads.order or reads.worth:
        what = "predicts ratings" if kind.predicts_ratings else "reads more of clicks than that they were"
        raise ConfigError(f"pipeline.{stage}: the model {kind.name!r} {what}, and no stage does. Use another model.")
