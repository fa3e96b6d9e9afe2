"""The splits of a study file: what goes with which protocol."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from coldray.core.errors import ConfigError
from coldray.data.sources.sample import sample_dataset
from coldray.experiments.ablation.run import prepare_ablation
from coldray.experiments.comparison.config import load_comparison
from coldray.experiments.space import StudyConfig, load_study
from coldray.experiments.split_config import SplitConfig

COLD = ("notebook", "balanced")
BY_TIME = ("leave-last", "temporal", "per-user-temporal", "rolling-origin")
AT_RANDOM = ("holdout", "user-holdout", "k-fold")
WARMING = ("item-warming", "user-warming", "user-cold")
MIXED = "recsys-cold"
STUDIES = Path(__file__).parents[2] / "tune_spaces"


def splits_of(protocol, **fields):
    return SplitConfig.model_validate({"protocol": protocol, "n_splits": 1 if protocol in BY_TIME else 3, **fields})


def study(**fields):
    base = {"name": "small", "model": "ease", "space": {"regularization": {"choice": [1.0, 10.0]}}}
    return StudyConfig.model_validate({**base, **fields})


@pytest.mark.parametrize("protocol", [*COLD, *BY_TIME, *AT_RANDOM, *WARMING, MIXED])
def test_every_protocol_survives_json_and_says_what_it_holds_out(protocol):
    config = splits_of(protocol)
    assert SplitConfig.model_validate_json(config.model_dump_json()) == config
    assert config.holds_out_items == (protocol in COLD)
    assert config.held_out == ("items" if protocol in COLD else "interactions")


@pytest.mark.parametrize("protocol", [*BY_TIME, *AT_RANDOM])
def test_held_out_interactions_compete_with_all_items(protocol):
    splits = splits_of(protocol).model_dump()
    assert study(splits=splits, candidates="all").candidates == "all"
    with pytest.raises(ConfigError, match=rf"candidates: 'cold'.*'{protocol}'.*Use candidates: all"):
        study(splits=splits)


@pytest.mark.parametrize("protocol", COLD)
def test_held_out_items_compete_as_they_always_did(protocol):
    for candidates in ("cold", "all"):
        assert study(splits={"protocol": protocol}, candidates=candidates).splits.n_splits == 3


READ = {
    "test_share": {"holdout", "temporal", "per-user-temporal", "user-holdout"},
    "validation_share": {"holdout", "temporal", "per-user-temporal", "user-holdout"},
    "last": {"leave-last"},
    "given_share": {"user-holdout"},
}


VALUES = {"test_share": 0.3, "validation_share": 0.3, "last": 2, "given_share": 0.3}
FIELDS = [(protocol, field) for protocol in (*COLD, *BY_TIME, *AT_RANDOM) for field in VALUES]


@pytest.mark.parametrize(("protocol", "field"), [(one, field) for one, field in FIELDS if one in READ[field]])
def test_a_field_that_the_protocol_reads_is_taken(protocol, field):
    assert getattr(splits_of(protocol, **{field: VALUES[field]}), field) == VALUES[field]


@pytest.mark.parametrize(("protocol", "field"), [(one, field) for one, field in FIELDS if one not in READ[field]])
def test_a_field_that_the_protocol_does_not_read_is_refused(protocol, field):
    value = VALUES[field]
    with pytest.raises(ConfigError, match=rf"splits\.{field}: {value} is not read by the protocol '{protocol}'"):
        splits_of(protocol, **{field: value})


@pytest.mark.parametrize("field", ["test_share", "validation_share", "given_share"])
@pytest.mark.parametrize("share", [0, 1, -0.2, 1.5])
def test_a_share_lies_between_0_and_1(field, share):
    with pytest.raises(ValidationError, match=field):
        splits_of("user-holdout", **{field: share})


def test_the_clicks_of_what_warms_up():
    assert splits_of("item-warming").schedule == (0, 1, 2, 5, 10, 20, 50)
    assert splits_of("user-warming").schedule == (0, 1, 2, 5, 10, 20)
    assert splits_of("item-warming", clicks=[0, 3], warm_share=0).schedule == (0, 3)
    assert splits_of("holdout").schedule == ()
    for clicks in ([1, 1], [5, 2]):
        with pytest.raises(ConfigError, match=r"splits\.clicks: .* do not ascend"):
            splits_of("item-warming", clicks=clicks)
    for wrong in ({"clicks": []}, {"clicks": [-1, 2]}, {"warm_share": 1}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            splits_of("item-warming", **wrong)
    for protocol, field in (("notebook", {"clicks": (0, 1)}), ("user-warming", {"warm_share": 0.1})):
        with pytest.raises(ConfigError, match=rf"splits\.{next(iter(field))}: .* is not read by the protocol"):
            splits_of(protocol, **field)


@pytest.mark.parametrize("protocol", ["item-warming", MIXED])
def test_cold_items_beside_warm_ones_compete_among_themselves_or_with_all(protocol):
    for candidates in ("cold", "all"):
        splits = study(splits={"protocol": protocol}, candidates=candidates).splits
        assert (splits.held_out, splits.ranks_cold, splits.mixes) == ("interactions", True, protocol == MIXED)


def test_users_that_warm_up_compete_with_all():
    with pytest.raises(ConfigError, match=r"'user-warming'.*Use candidates: all"):
        study(splits={"protocol": "user-warming"})


@pytest.mark.parametrize("protocol", BY_TIME[:-1])
@pytest.mark.parametrize("repeated", [{"n_splits": 3}, {"seeds": [1, 2]}])
def test_a_split_by_time_is_not_repeated(protocol, repeated):
    with pytest.raises(ConfigError, match=rf"'{protocol}' gives one split"):
        splits_of(protocol, **repeated)


def test_k_fold_has_three_folds_at_least():
    with pytest.raises(ConfigError, match="n_splits=2"):
        splits_of("k-fold", n_splits=2)


def test_a_mistake_in_a_file_names_the_file(tmp_path):
    path = tmp_path / "study.yaml"
    content = yaml.safe_load((STUDIES / "ease.yaml").read_text())
    path.write_text(yaml.safe_dump({**content, "splits": {"protocol": "leave-last"}}))
    with pytest.raises(ConfigError, match=r"study\.yaml: The protocol 'leave-last' gives one split, not 3"):
        load_study(path)
    path.write_text(yaml.safe_dump({**content, "splits": {"protocol": "holdout", "test_shar": 0.3}}))
    with pytest.raises(ConfigError, match=r"splits\.test_shar.*Did you mean 'test_share'"):
        load_study(path)


def test_the_study_of_ease_sweeps_20_regularisations_in_even_steps():
    config = load_study(STUDIES / "ease.yaml")
    values = config.space["regularization"]["choice"]
    assert config.n_trials == len(values) == 20
    assert values == pytest.approx([10 ** (4 * step / 19) for step in range(20)], rel=5e-3)
    assert (config.splits.protocol, config.splits.n_splits, config.candidates) == ("holdout", 1, "all")


def test_an_ablation_is_of_cold_items_and_a_comparison_is_not():
    config = load_study(STUDIES / "marec_plus.yaml", {"splits": {"protocol": "holdout"}, "candidates": "all"})
    with pytest.raises(ConfigError, match=r"An ablation is of cold items.*'holdout'"):
        prepare_ablation(config, sample_dataset(0, 30, 40))
    holdout = {"splits": {"protocol": "holdout", "n_splits": 1}}
    assert not load_comparison(
        STUDIES / "coldstart.yaml", {**holdout, "candidates": "all"}
    ).config.splits.holds_out_items
    with pytest.raises(ConfigError, match=r"entries\.marec: .*candidates: 'cold' ranks held-out items"):
        load_comparison(STUDIES / "coldstart.yaml", holdout)
