"""The gate before the registry: whether a study's winner takes the champion's place, decided once it was tested.

The study's choice is made by then, on validation data alone. The champion's configuration was chosen before, and is
refitted on the train part of the same splits here, so that both are measured on the same test folds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from coldray.bundle.family import Family, refusal
from coldray.cli.options.studies import RegisteredRunOptions
from coldray.cli.progress.study import StudyProgress
from coldray.cli.texts import encode_texts
from coldray.core.errors import BundleError, ColdrayError, TrackingError
from coldray.experiments.prepared import PreparedStudy
from coldray.experiments.promotion.outcome import Promotion
from coldray.experiments.promotion.replacement import Difference, held_against
from coldray.experiments.results import Selection, StudyResult, TrialResult
from coldray.experiments.space import StudyConfig
from coldray.experiments.study import check_model
from coldray.experiments.winner import measure_winner
from coldray.features.builder import FeatureConfig
from coldray.tracking.champion import Champion, champion_version, read_champion

_OVERRULE = "--promote always overrules that"


def decide(
    options: RegisteredRunOptions,
    name: str,
    study: PreparedStudy,
    result: StudyResult,
    progress: StudyProgress,
    before: Promotion | None = None,
) -> Promotion:
    """Return what is to become of the winner of a study that has been tested.

    Parameters
    ----------
    name
        Of the registered model.
    result
        With the values of every test user, of the winner on the splits.
    before
        What was decided before the study was interrupted: it stands, unless it goes on with another ``--promote``.
    """
    mode = options.promote
    if before is not None:
        if before.mode == mode:
            return before
        progress.stage(f"alias {before.alias} was decided by --promote {before.mode}: decided anew by --promote {mode}")
    if mode == "always":
        return Promotion(mode, "champion", "--promote always", asked=False)
    if mode == "never":
        return Promotion(mode, "challenger", "--promote never", asked=False)
    if options.offline:
        return Promotion(mode, "champion", "if there is no champion when it is sent: --offline", asked=False)
    try:
        found = champion_version(options.tracking_uri, name)
    except TrackingError:
        return Promotion(mode, "champion", "if there is no champion when the registry answers again", asked=False)
    if found is None:
        return Promotion(mode, "champion", "the first champion of that name")
    version, key = found
    try:
        champion = read_champion(options.tracking_uri, name, version, key)
    except BundleError as error:
        return _challenger(key, f"the champion, version {version}, cannot be held against it: {error}")
    return _held_against(champion, study, result, progress)


def _challenger(key: str, reason: str) -> Promotion:
    return Promotion("if-better", "challenger", f"{reason}; {_OVERRULE}", key)


def _held_against(champion: Champion, study: PreparedStudy, result: StudyResult, progress: StudyProgress) -> Promotion:
    """Decide by the data, then by the same test folds."""
    new, key, called = Family.of_dataset(study.dataset), champion.key, f"the champion, version {champion.version}"
    reason = refusal(new, champion.family)
    if reason is not None:
        return _challenger(key, reason)
    if champion.family.synthetic and not new.synthetic:
        return Promotion("if-better", "champion", f"{called}, is of generated data", key)
    try:
        if _same_model(champion, study.config, result.selection.winner.config):
            words = "has the same model, configuration and features: fitted anew, it is no worse"
            return Promotion("if-better", "champion", f"{called}, {words}", key)
        difference = _measured(champion, study, result, progress)
    except (ColdrayError, ValidationError, KeyError, TypeError) as error:  # it may be of another version of coldray
        return _challenger(key, f"{called}, cannot be refitted on the same folds: {error}")
    if difference.not_worse:
        return Promotion("if-better", "champion", f"not worse than {called}: {difference.words}", key)
    return _challenger(key, f"worse than {called}: {difference.words}")


def _same_model(champion: Champion, config: StudyConfig, winner: Mapping[str, Any]) -> bool:
    old, new = _champion_study(champion, config), config
    kind = new.kind
    ours = kind.config_type.model_validate(dict(winner))
    return (
        champion.model == new.model
        and kind.config_type.model_validate(champion.config) == ours
        and _plain(old.encoded_features) == _plain(new.encoded_features)
        and _plain(old.encoded_users) == _plain(new.encoded_users)
    )


def _plain(features: FeatureConfig | None) -> dict[str, Any] | None:
    return None if features is None else features.model_dump(mode="json", exclude={"embedding_cache"})


def _champion_study(champion: Champion, config: StudyConfig) -> StudyConfig:
    """Return the study as it would be of the champion's one configuration."""
    told = config.model_dump(mode="json", exclude={"scheduler", "search", "selection"})
    cache = {"embedding_cache": told["features"].get("embedding_cache")}
    return StudyConfig.model_validate(
        {
            **told,
            "name": f"champion-{champion.version}",
            "model": champion.model,
            "space": champion.config,
            "fit": told["fit"] if champion.model == config.model else {},
            "features": {**champion.features, **cache},
            "user_features": champion.user_features or told["user_features"],
            "moment_features": champion.moment_features or told["moment_features"],
            "search": {"seed": config.search.seed, "gpus_per_trial": config.search.gpus_per_trial},
            "selection": {"metric": config.selection.metric},
        }
    )


def _measured(champion: Champion, study: PreparedStudy, result: StudyResult, progress: StudyProgress) -> Difference:
    """Refit the champion's configuration on the same splits, and pair it with the winner."""
    written, config = _champion_study(champion, study.config), study.config
    named, settled = check_model(written, study.dataset)
    theirs = replace(study, written=written, config=named, settled=settled)
    encode_texts(theirs, progress)
    trial = TrialResult("champion", 0, {**champion.config, **settled.values}, (), "finished")
    metric = config.selection.metric
    selection = Selection(trial, trial, (trial,), metric, 0.0, ())
    ours = result.measured
    if not ours:  # the test is known from the record of the study, which has no values of single users
        progress.stage("measuring the winner again, as it was tested before: the users are to be paired")
        ours = measure_winner(study, result.selection, progress).measured
    progress.stage(f"testing the present champion, version {champion.version}, on the same test folds")
    reached = measure_winner(theirs, selection, progress).measured
    return held_against(metric, ours, reached, config.search.seed)
