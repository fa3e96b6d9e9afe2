"""MLflow in a folder whose name has a percent sign, such as one that was named by a download."""

from __future__ import annotations

from typing import Any

import mlflow
from alembic.config import Config


def take_percent_signs() -> None:
    """Have Alembic take the folder of MLflow's migrations as it is called: in its settings, ``%`` begins a name.

    MLflow writes the sign twice, as has to be, in the address of a database alone. Nothing is done where no folder has
    one.
    """
    if "%" in str(mlflow.__file__) and Config.set_main_option is _SET:
        Config.set_main_option = _set_main_option  # type: ignore[assignment, method-assign]


_SET = Config.set_main_option


def _set_main_option(config: Config, name: str, value: Any) -> None:
    _SET(config, name, str(value).replace("%", "%%") if name == "script_location" else value)
