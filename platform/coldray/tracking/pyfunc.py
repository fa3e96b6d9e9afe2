"""The bundle as an MLflow model, logged as code: loading it unpickles nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from coldray.errors import DataFormatError, UnknownIdError
from coldray.tracking.bundle import Bundle, History, load_bundle


class BundleModel(PythonModel):
    """Recommends items for rows of ``user_id`` or ``history``.

    ``predict`` takes a data frame with a column ``user_id`` or ``history`` (a row's list of item ids, or for a model
    that reads ratings a dict of them by item id), and the parameter ``k``; it returns a row for each recommended item:
    ``row``, ``rank``, ``item``, ``score``, ``cold``, and ``path``. The path is ``model``, or ``popularity`` where
    nothing is known of the user, whom the bundle does not have or who clicked nothing: he gets the most clicked items.
    """

    bundle: Bundle

    def load_context(self, context: PythonModelContext) -> None:
        """Read the bundle among the model's artifacts."""
        self.bundle = load_bundle(Path(context.artifacts["bundle"]))

    def predict(self, context: PythonModelContext, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Return the recommendations as a table."""
        if "history" in model_input:
            histories: list[History] = [
                history if isinstance(history, dict) else list(history) for history in model_input["history"]
            ]
        elif "user_id" not in model_input:
            raise DataFormatError("The input needs a column 'user_id', or 'history' with a list of item ids a row.")
        else:
            histories = [self._history(user) for user in model_input["user_id"].tolist()]
        k = int((params or {}).get("k", 10))
        lists, popular = self.bundle.recommend(histories, k), self.bundle.most_clicked(k)
        rows = [
            {
                "row": row,
                "rank": rank,
                "item": place.item,
                "score": place.score,
                "cold": place.cold,
                "path": "model" if histories[row] else "popularity",
            }
            for row, places in enumerate(lists)
            for rank, place in enumerate(places if histories[row] else popular, start=1)
        ]
        return pd.DataFrame(rows, columns=["row", "rank", "item", "score", "cold", "path"])

    def _history(self, user: Any) -> History:
        try:
            return self.bundle.history(user)
        except UnknownIdError:
            return []


mlflow.models.set_model(BundleModel())
