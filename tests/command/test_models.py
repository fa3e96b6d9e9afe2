"""Models and their parameters as they are listed."""

import re

import pytest

from coldray.command.app import main
from coldray.command.models import _documented, _values
from coldray.models.registry import MODELS, model_type


def test_every_model_is_listed_with_what_it_reads(capsys):
    assert main(["models"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    shown = {row[0]: " ".join(row[1:]) for row in rows if row and row[0] in MODELS}
    assert set(shown) == set(MODELS)
    assert shown["session_gru"].startswith("clicks, their order")
    assert shown["mf"].startswith("clicks, ratings")
    assert "yes" in shown["kernel_align"]
    assert "form" in shown["kernel_align"]


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_has_a_default_values_and_a_meaning(name, capsys):
    assert main(["models", name]) == 0
    printed = capsys.readouterr().out
    config = model_type(name).config_type
    assert [field for field in config.model_fields if not re.search(rf"^ *{field} ", printed, re.MULTILINE)] == []
    assert [field for field in config.model_fields if field not in _documented(config)] == []
    assert "`" not in printed


def test_values_are_told_in_words():
    schema = model_type("marec").config_type.model_json_schema()
    told = {name: _values(field, schema) for name, field in schema["properties"].items()}
    assert told["lambda_0"] == "number ≥ 0"
    assert told["w0"] == "number > 0 and ≤ 1"
    assert told["order"] == "1, 2"
    assert told["delta"] == "number > 0 or number > 0 for each name"


def test_a_fit_is_told_how_it_runs_and_a_model_refuses_what_it_would_not_heed(tmp_path, capsys):
    data = ("--dataset", "sample", "--output", str(tmp_path / "bundle"))
    assert main(["fit", "svd", *data, "--set", "fit.workers=2"]) != 0
    assert "workers=2 says how a fit runs, and the model 'svd' heeds none of them" in capsys.readouterr().err
    assert main(["fit", "ease", *data, "--set", "workers=2"]) != 0
    assert "Write fit: {workers: …} in the study file" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()
    assert main(["fit", "ease", *data, "--set", "fit.device=cpu"]) == 0
    assert (tmp_path / "bundle" / "manifest.json").is_file()
