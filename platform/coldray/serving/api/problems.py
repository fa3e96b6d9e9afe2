"""What is answered when something is wrong: one form for all errors, and nothing of the inside of the service."""

import logging
import re
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from coldray.core.errors import (
    ColdrayError,
    ConfigError,
    DataFormatError,
    StoreError,
    TrackingError,
    UnknownAttributeError,
    UnknownIdError,
)
from coldray.serving.admission.limits import error_response
from coldray.serving.api.schemas import ErrorResponse

logger = logging.getLogger("coldray.serving")
_STATUS: dict[type[ColdrayError], tuple[int, str]] = {
    UnknownIdError: (404, "unknown_id"),
    UnknownAttributeError: (422, "unknown_attribute"),
    DataFormatError: (422, "invalid_value"),
    ConfigError: (422, "invalid_request"),
    StoreError: (503, "store_unavailable"),
    TrackingError: (503, "registry_unavailable"),
}
"""HTTP status and code of deliberate errors; the rest are 500."""
_STEP = re.compile(r"(function-[a-z]+|union|list|constrained-[a-z]+)\[")
"""A step within a type, which is no name of a field."""
_REFUSALS = {400: "invalid_body", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
"""Codes of errors that the framework finds."""
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse} for status in (400, 401, 404, 408, 413, 422, 429, 500, 503)
}
"""What every endpoint may answer, as its description says."""


async def _deliberate(request: Request, error: Exception) -> JSONResponse:
    known = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), None)
    if known is None:
        return await _unforeseen(request, error)
    if known[0] >= 500:
        logger.warning("A request could not be answered: %s", error)
        return error_response(*known, "What the service needs for this request cannot be reached; ask again later.")
    return error_response(*known, str(error))


async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part != "body" and not _STEP.match(str(part)))
    return error_response(422, "invalid_request", f"{field or 'body'}: {first['msg']}")


async def _refused(_: Request, error: HTTPException) -> JSONResponse:
    code = _REFUSALS.get(error.status_code, "refused")
    return error_response(error.status_code, code, str(error.detail))


async def _unforeseen(_: Request, error: Exception) -> JSONResponse:
    logger.error("A request failed.", exc_info=error)
    return error_response(500, "internal", "The service failed at this request; its log says why.")


def answer_problems(api: FastAPI) -> None:
    """Have an application answer errors in their one form."""
    api.exception_handler(ColdrayError)(_deliberate)
    api.exception_handler(RequestValidationError)(_invalid)
    api.exception_handler(HTTPException)(_refused)
    api.exception_handler(Exception)(_unforeseen)
