"""What the answers of an MLflow server mean: whether the same call may succeed later, or is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import requests
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from coldray.tracking.access import PASSWORD
from coldray.tracking.receiver import RefusedError, UnavailableError

_BROKEN = "INTERNAL_ERROR"
AWAY = frozenset(
    {
        "ABORTED",
        "CANCELLED",
        "DEADLINE_EXCEEDED",
        _BROKEN,
        "REQUEST_LIMIT_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        "TEMPORARILY_UNAVAILABLE",
    }
)
"""Answers that pass by themselves, as no answer does; all others are refusals, until somebody changes something."""
_HTTP_STATUS = re.compile(r"^API request to endpoint \S+ failed with error code (4\d\d)")
_PASSING = frozenset({"408", "425", "429"})
"""Refusals of HTTP that pass by themselves."""
_DENIED = frozenset({"CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED", "UNAUTHENTICATED"})
_TEXT_SHOWN = 300
"""Characters of an answer that are told: a proxy may have sent a page."""
_TRIES = 5
"""So often a server that works may fail at one call before that call is set aside."""


class BrokenError(UnavailableError):
    """The server has an error of its own: of this call alone, or of all of them."""


@contextmanager
def told_apart(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into errors that say whether the same call may succeed later.

    Raises
    ------
    UnavailableError
        If it may.
    RefusedError
        If it may not, until somebody changes something.
    """
    try:
        yield
    except MlflowException as error:
        raise _failure(uri, error) from error
    except SQLAlchemyError as error:  # of a database that is opened, where MLflow lets it through
        refused = not isinstance(error, OperationalError)
        text = f"The MLflow database {uri} does not work: {_first_line(str(error))}"
        raise (RefusedError if refused else UnavailableError)(text) from error
    except requests.HTTPError as error:  # of a file, which goes past the errors of MLflow
        raise _of_status(uri, error) from error
    except (requests.RequestException, OSError) as error:
        raise UnavailableError(f"The MLflow server at {uri} does not answer ({type(error).__name__}).") from error


def _failure(uri: str, error: MlflowException) -> RefusedError | UnavailableError:
    text = _first_line(error.message)
    answered = _HTTP_STATUS.search(error.message)  # of a proxy, whose answers MLflow takes for errors of its own
    if error.error_code in AWAY and not (answered and answered[1] not in _PASSING):
        kind = BrokenError if error.error_code == _BROKEN else UnavailableError
        return kind(f"The MLflow server at {uri} does not work now: {text}")
    way_out = f" {PASSWORD}." if error.error_code in _DENIED else ""
    return RefusedError(f"The MLflow server at {uri} refused: {text}{way_out}")


def _of_status(uri: str, error: requests.HTTPError) -> RefusedError | UnavailableError:
    status = 0 if error.response is None else error.response.status_code
    text = _first_line(str(error))
    if 400 <= status < 500 and str(status) not in _PASSING:
        return RefusedError(
            f"The MLflow server at {uri} refused: {text}{f' {PASSWORD}.' if status in (401, 403) else ''}"
        )
    return BrokenError(f"The MLflow server at {uri} does not work now: {text}")


def _first_line(text: str) -> str:
    """Return the first line of a text, cut to what a person reads."""
    return next(iter(text.splitlines()), "")[:_TEXT_SHOWN]


class Patience:
    """Counts how often a server has failed at one call while it worked otherwise: that call holds all others up."""

    def __init__(self) -> None:
        self._call: object = None
        self._failed, self._tries = 0, _TRIES

    def worked(self) -> None:
        """Note that a call was made: the next one is given all tries again."""
        self._tries = _TRIES

    def failed(self, call: object, error: BrokenError, works: Callable[[], object]) -> UnavailableError | RefusedError:
        """Return what a failure of a call is from now on: a refusal when the server has failed at it too often.

        Parameters
        ----------
        call
            What it is known by.
        works
            Asks the server something else, and raises an error if that fails too.
        """
        if call != self._call:
            self._call, self._failed = call, 0
        try:
            with suppress(RefusedError):  # which is an answer
                works()
        except Exception:  # it fails at everything, which passes or is seen to
            self._failed = 0
            return error
        self._failed += 1
        if self._failed < self._tries:
            return error
        self._tries = 1  # nobody is to wait long for the others of that kind
        return RefusedError(f"{error} It fails at calls of this kind, and works otherwise.")
