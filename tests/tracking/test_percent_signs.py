import mlflow
import pytest
from alembic.config import Config

from coldray.tracking.database import _take_percent_signs


@pytest.fixture
def restored(monkeypatch):
    monkeypatch.setattr(Config, "set_main_option", Config.set_main_option)


@pytest.mark.parametrize("folder", ["/home/a%20b", "/home/100%", "/home/%(here)s", "/home/%%"])
@pytest.mark.usefixtures("restored")
def test_the_folder_of_migrations_may_have_percent_signs(folder, monkeypatch):
    monkeypatch.setattr(mlflow, "__file__", f"{folder}/mlflow/__init__.py")
    for _ in range(2):
        _take_percent_signs()
    config = Config()
    config.set_main_option("script_location", folder)
    config.set_main_option("sqlalchemy.url", "sqlite:///a%%20b.db")  # MLflow has written the sign twice
    assert config.get_main_option("script_location") == folder
    assert config.get_main_option("sqlalchemy.url") == "sqlite:///a%20b.db"


@pytest.mark.usefixtures("restored")
def test_nothing_changes_without_one():
    before = Config.set_main_option
    _take_percent_signs()
    assert Config.set_main_option is before
