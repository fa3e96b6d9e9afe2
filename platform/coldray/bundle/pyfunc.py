"""The bundle as an MLflow model, logged as code: loading it unpickles nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from coldray.bundle.io import load_bundle
from coldray.bundle.model import Bundle, History
from coldray.bundle.people import Profile
from coldray.core.errors import ConfigError, DataFormatError, UnknownIdError
from coldray.features.feature_set import FeatureSet

_PROFILES, _CONTEXT = "user_attributes", "context"


class BundleModel(PythonModel):
    """Recommends items for rows of ``user_id``, ``history`` or ``user_attributes``.

    ``predict`` takes a data frame with a column ``user_id`` or ``history``, a row's list of item ids, for a model that
    reads their order the first one first. For a model that reads attributes of users a column ``user_attributes`` may
    stand beside either, or alone: a row's dict of them by name, as the service takes them, or None where the bundle's
    own are meant, if it has the user. Labels that nobody in the fit has are told in a warning. For a model that reads
    moments a column ``context`` may stand beside these: a row's dict of what is known of the moment, and ``time``. For
    a model that reads
    ratings a column ``ratings`` may stand beside ``history``: a row's list of as many floats (MLflow refuses integers),
    NaN where one is unknown, or None where all are. An unknown rating is what the model takes it to be, see
    :meth:`~coldray.bundle.model.Bundle.recommend`; of an item that is twice in a history the last one counts. Who calls
    this class itself, and no schema stands between, may give a dict of ratings by item id as a row of ``history``
    instead.

    With the parameter ``k`` it returns a row for each recommended item: ``row``, ``rank``, ``item``, ``score``,
    ``cold``, and ``path``, as of :data:`~coldray.bundle.lists.ListOrigin`: ``profile`` where nothing but attributes is
    known of the user, ``popularity`` where nothing is.
    """

    bundle: Bundle

    def load_context(self, context: PythonModelContext) -> None:
        """Read the bundle among the model's artifacts."""
        self.bundle = load_bundle(Path(context.artifacts["bundle"]))

    def predict(self, context: PythonModelContext, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Return the recommendations as a table.

        Raises
        ------
        DataFormatError
            If there is no column of users, histories or attributes of users, a row has not as many ratings as items,
            or an attribute is not of its kind.
        UnknownIdError
            If a history names an item the bundle does not have.
        UnknownAttributeError
            If a row has an attribute that no user has.
        ConfigError
            If there are attributes of users or contexts, and the model reads none.
        """
        if "history" in model_input:
            given = model_input["history"].tolist()
            ratings = model_input["ratings"].tolist() if "ratings" in model_input else [None] * len(given)
            histories = [self._rated(row, *pair) for row, pair in enumerate(zip(given, ratings, strict=True))]
        elif "user_id" in model_input:
            histories = [self._history(user) for user in model_input["user_id"].tolist()]
        elif _PROFILES in model_input:
            histories = [[]] * len(model_input)
        else:
            raise DataFormatError(
                "The input needs a column 'user_id', or 'history' with a list of item ids a row, or 'user_attributes' "
                "with a dict a row."
            )
        people = self._people(model_input, histories)
        k, known = int((params or {}).get("k", 10)), "history" not in model_input
        rows = [
            {"row": row, "rank": rank, "item": place.item, "score": place.score, "cold": place.cold, "path": origin}
            for row, (origin, places) in enumerate(self.bundle.lists(histories, k, known=known, people=people))
            for rank, place in enumerate(places, start=1)
        ]
        return pd.DataFrame(rows, columns=["row", "rank", "item", "score", "cold", "path"])

    def _people(self, model_input: pd.DataFrame, histories: list[History]) -> FeatureSet | None:
        """Return what is known of the users of the rows beside their clicks, if the model reads it."""
        people, name = self.bundle.people, self.bundle.model.name
        profiles, contexts = (_given(model_input, column) for column in (_PROFILES, _CONTEXT))
        if profiles is not None and (people is None or not people.encoder.kinds):
            raise ConfigError(f"{_PROFILES}: the model {name!r} reads none. Leave them out.")
        if contexts is not None and (people is None or people.moments is None):
            raise ConfigError(f"{_CONTEXT}: the model {name!r} reads none. Leave it out.")
        if people is None:
            return None
        if "history" in model_input or "user_id" not in model_input:
            given = [self.bundle.by_index(row, history) for row, history in enumerate(histories)]
            asking = people.asking([None] * len(model_input), profiles, contexts, given)
        else:
            known = [self.bundle.user_places.get(user) for user in model_input["user_id"].tolist()]
            asking = people.asking(known, profiles, contexts)
        if profiles is not None:
            people.tell_unread(profiles)
        if people.moments is not None:
            people.moments.tell(contexts, len(model_input))
        return asking

    def _rated(self, row: int, history: Any, ratings: Any) -> History:
        """Return the history of a row, with its ratings if there are any."""
        if isinstance(history, dict):
            return history
        items = list(history)
        if ratings is None or (isinstance(ratings, float) and np.isnan(ratings)):  # pandas may write None as NaN
            return items
        if len(ratings) != len(items):
            raise DataFormatError(
                f"Row {row} has {len(items):,} items in 'history' and {len(ratings):,} numbers in 'ratings'. Give a "
                "rating an item, NaN where it is unknown, or None for the whole row."
            )
        unknown = self.bundle.model.click_value
        known = (unknown if rating is None or np.isnan(rating) else float(rating) for rating in ratings)
        return dict(zip(items, known, strict=True))

    def _history(self, user: Any) -> History:
        try:
            return self.bundle.history(user)
        except UnknownIdError:
            return []


def _given(model_input: pd.DataFrame, column: str) -> list[Profile | None] | None:
    """Return the dicts of a column, if any row has one; pandas may write None as NaN."""
    if column not in model_input:
        return None
    rows = [None if isinstance(one, float) and np.isnan(one) else one for one in model_input[column].tolist()]
    return rows if any(one is not None for one in rows) else None


mlflow.models.set_model(BundleModel())
