"""The Serve config file names what is there."""

from importlib import import_module
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from ray.serve.schema import ServeDeploySchema

from coldray.errors import ConfigError
from coldray.serving.settings import ServiceSettings

FILE = Path(__file__).parents[2] / "serve" / "recommend.yaml"


def test_the_config_file_is_one_that_serve_and_the_service_take():
    schema = ServeDeploySchema.model_validate(yaml.safe_load(FILE.read_text(encoding="utf-8")))
    (application,) = schema.applications
    module, _, name = application.import_path.partition(":")
    assert callable(getattr(import_module(module), name))
    settings = ServiceSettings.model_validate(application.args)
    assert settings.model_name == "coldray-coldstart"
    assert settings.max_ongoing > 5


def test_a_misspelt_setting_is_an_error():
    with pytest.raises(ValidationError, match="replica\n"):
        ServiceSettings.model_validate({"model_name": "a", "replica": 2})


def test_the_model_comes_from_one_place():
    with pytest.raises(ConfigError, match="either a registered model"):
        ServiceSettings()
    with pytest.raises(ConfigError, match="either a registered model"):
        ServiceSettings(model_name="a", bundle=Path("b"))
