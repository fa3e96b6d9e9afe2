"""The file of the team's tracking server is what Compose and MLflow take, and holds no secret."""

import configparser
import copy
import re
import sys
import types
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from mlflow.cli import server

ROOT = Path(__file__).parents[2]
FILE, EXAMPLE = (ROOT / "mlflow" / name for name in ("compose.yaml", "example.env"))
VARIABLE = re.compile(r"\$\{(\w+)(?::([?-])([^}]*))?\}")
SECRET = re.compile(r"PASSWORD|SECRET|ACCESS_KEY")


@pytest.fixture(scope="module")
def text():
    """Return the file without its comments, in which what is for others stands too."""
    return re.sub(r"^\s*#.*$", "", FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)


@pytest.fixture(scope="module")
def compose(text):
    return yaml.safe_load(text)


@pytest.fixture(scope="module")
def services(compose):
    return compose["services"]


@pytest.fixture(scope="module")
def example():
    lines = (line for line in EXAMPLE.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def once(service):
    """Return whether a service ends when it has done its work."""
    return service["restart"].startswith("on-failure")


def test_compose_takes_the_file(compose):
    schema = get_builtin_schema("vendor.compose-spec")
    check = jsonschema.validators.validator_for(schema)(schema)
    check.validate(compose)
    for spoil in (
        lambda file: file["services"]["mlflow"].update(port=["5000:5000"]),
        lambda file: file["services"]["s3"]["healthcheck"].update(test=5),
        lambda file: file["services"]["mlflow"]["depends_on"]["s3"].update(condition="healthy"),
        lambda file: file.update(secret={}),
    ):
        spoilt = copy.deepcopy(compose)
        spoil(spoilt)
        assert not check.is_valid(spoilt)


def test_every_variable_is_explained_and_every_explained_one_is_used(text, example):
    used = {name: (kind, value) for name, kind, value in VARIABLE.findall(text)}
    assert set(used) == set(example)
    for name, (kind, value) in used.items():
        if SECRET.search(name):
            assert kind == "?", f"{name} has to be asked for"
            assert EXAMPLE.relative_to(ROOT).as_posix() in value
            assert example[name] == ""
        else:
            assert (kind, value) == ("-", example[name])


def test_secrets_come_from_the_environment_alone(services, text):
    for name, service in services.items():
        for variable, value in service["environment"].items():
            if SECRET.search(variable):
                assert VARIABLE.fullmatch(value), f"{name}: {variable}"
        assert not any(SECRET.search(word) for word in service.get("command", [])), f"{name}: shown by ps"
    assert not re.search(r"://[^\s/@]*:[^\s/@]*@", text)


def test_each_service_is_waited_for(services):
    for name, service in services.items():
        assert once(service) != ("healthcheck" in service), name
        assert once(service) or service["restart"] == "unless-stopped"
        for other, how in service.get("depends_on", {}).items():
            finished = "service_completed_successfully" if once(services[other]) else "service_healthy"
            assert how == {"condition": finished}
    assert set(services["mlflow"]["depends_on"]) == set(services) - {"mlflow"}


def test_what_is_kept_has_a_volume_and_only_the_server_is_reached(compose, services):
    assert {name for name, service in services.items() if "volumes" in service} == {"postgres", "s3"}
    mounted = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    assert mounted == set(compose["volumes"])
    assert [name for name, service in services.items() if "ports" in service] == ["mlflow"]
    (port,) = services["mlflow"]["ports"]
    assert port.startswith("${MLFLOW_BIND:-127.0.0.1}:")
    assert compose["networks"]["back"]["internal"] is True
    assert {name for name, service in services.items() if "front" in service["networks"]} == {"mlflow"}


def test_the_server_takes_its_options(services):
    command, *arguments = services["mlflow"]["command"][1:]
    assert command == "server"
    arguments = [VARIABLE.sub(lambda found: found[3], word) for word in arguments]
    given = server.make_context("server", arguments).params
    assert given["serve_artifacts"] is True
    assert given["artifacts_destination"].startswith("s3://")
    assert given["backend_store_uri"].startswith("postgresql+psycopg://")
    assert given["app_name"] == "basic-auth"
    assert "*" not in given["allowed_hosts"].split(",")


def test_the_accounts_are_kept_in_the_database(compose, services):
    (mount,) = services["mlflow"]["configs"]
    assert services["mlflow"]["environment"]["MLFLOW_AUTH_CONFIG_PATH"] == mount["target"]
    ours, theirs = configparser.ConfigParser(), configparser.ConfigParser()
    ours.read_string(compose["configs"][mount["source"]]["content"])
    theirs.read(Path(find_spec("mlflow").origin).parent / "server" / "auth" / "basic_auth.ini")
    assert set(ours["mlflow"]) <= set(theirs["mlflow"])
    assert ours["mlflow"]["database_uri"] in " ".join(services["mlflow"]["command"])


def test_the_bucket_is_made_once(services, monkeypatch):
    """Its script runs in the image of the server, which has boto3."""
    python, option, script = services["bucket"]["command"]
    assert (python, option, services["bucket"]["image"]) == ("python", "-c", services["mlflow"]["image"])
    made = []
    store = types.SimpleNamespace(
        list_buckets=lambda: {"Buckets": [{"Name": name} for name in made]},
        create_bucket=lambda Bucket: made.append(Bucket),
    )
    monkeypatch.setitem(sys.modules, "boto3", types.SimpleNamespace(client=lambda kind: {"s3": store}[kind]))
    for _ in range(2):
        exec(script, {})
    assert made == ["mlflow"]
    assert f"--artifacts-destination=s3://{made[0]}/artifacts" in services["mlflow"]["command"]
    shared = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION")
    for name in shared:
        assert services["bucket"]["environment"][name] == services["mlflow"]["environment"][name]
