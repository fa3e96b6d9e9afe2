"""The Serve config file names what is there."""

from importlib import import_module
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from ray.serve.schema import ServeDeploySchema

from coldray.core.errors import ConfigError
from coldray.serving.api.app import _replica_count, application, build
from coldray.serving.api.settings import ServiceSettings

LINE = "web sha256:" + "ab" * 32
FILE = Path(__file__).parents[2] / "serve" / "recommend.yaml"


def test_the_config_file_is_one_that_serve_and_the_service_take():
    schema = ServeDeploySchema.model_validate(yaml.safe_load(FILE.read_text(encoding="utf-8")))
    (application,) = schema.applications
    module, _, name = application.import_path.partition(":")
    assert callable(getattr(import_module(module), name))
    settings = ServiceSettings.model_validate(application.args)
    settings.require_access()
    assert settings.model_name == "coldray-hetrec-coldstart"
    assert settings.max_ongoing > 5


def test_a_cluster_is_not_open_by_oversight(tmp_path):
    """A config file says who may ask: keys, or everybody."""
    with pytest.raises(ConfigError, match=r"keys: there are none.*coldray serve --new-key.*`open: true`"):
        build({"model_name": "a"})
    (tmp_path / "keys").write_text(f"# ours\n{LINE}\n")
    for given in ({"open": True}, {"keys": [LINE]}, {"keys_file": str(tmp_path / "keys")}):
        assert build({"model_name": "a", **given}) is not None
    with pytest.raises(ConfigError, match="open: true lets everybody ask, and there are keys"):
        build({"model_name": "a", "open": True, "keys": [LINE]})


def test_keys_come_from_the_settings_and_a_file_of_the_replica(tmp_path):
    settings = ServiceSettings(model_name="a", keys=(LINE,), keys_file=tmp_path / "keys")
    with pytest.raises(ConfigError, match="cannot be read"):
        settings.limits()
    (tmp_path / "keys").write_text(LINE.replace("web", "other"))
    assert [line.split()[0] for line in settings.key_lines()] == ["web", "other"]
    for one in (settings, ServiceSettings(model_name="a", keys_file=tmp_path / "keys")):
        assert one.limits().keys is not None
    assert ServiceSettings(model_name="a", open=True).limits().keys is None
    (tmp_path / "keys").write_text(LINE)
    with pytest.raises(ConfigError, match="two keys of the name 'web'"):
        settings.limits()


def test_replicas_are_as_many_as_said_or_between_two_bounds():
    fixed = ServiceSettings(model_name="a", replicas=3)
    assert _replica_count(fixed) == {"num_replicas": 3}
    settings = ServiceSettings(model_name="a", replicas=2, max_replicas=5, target_ongoing=8)
    scaling = deployed(settings).autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (2, 5, 8)
    assert deployed(fixed).num_replicas == 3
    with pytest.raises(ConfigError, match="max_replicas: 1 is fewer than the 2 replicas"):
        ServiceSettings(model_name="a", replicas=2, max_replicas=1)


def deployed(settings):
    return application(settings)._bound_deployment._deployment_config


def test_the_store_may_be_named_by_a_variable(tmp_path, monkeypatch):
    settings = ServiceSettings(model_name="a", store="env:THE_STORE")
    with pytest.raises(ConfigError, match="no variable 'THE_STORE'"):
        settings.open_store()
    monkeypatch.setenv("THE_STORE", f"sqlite:///{tmp_path / 'named.db'}")
    settings.open_store().close()
    assert (tmp_path / "named.db").exists()


def test_a_misspelt_setting_is_an_error():
    with pytest.raises(ValidationError, match="replica\n"):
        ServiceSettings.model_validate({"model_name": "a", "replica": 2})


def test_the_model_comes_from_one_place():
    with pytest.raises(ConfigError, match="either a registered model"):
        ServiceSettings()
    with pytest.raises(ConfigError, match="either a registered model"):
        ServiceSettings(model_name="a", bundle=Path("b"))
