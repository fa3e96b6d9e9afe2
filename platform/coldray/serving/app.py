"""The HTTP interface on Ray Serve: one deployment, so that a request makes one hop.

``build`` is what a Serve config file names; :mod:`coldray.workflows.serve` runs it on this machine.

Serve pickles the class with what is defined above it, and FastAPI reads the types of its methods: hence no name of this
module is used before it is defined, and annotations are not text here.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import torch
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from ray import serve
from starlette.exceptions import HTTPException

import coldray
from coldray.errors import (
    ColdrayError,
    ConfigError,
    DataFormatError,
    StoreError,
    TrackingError,
    UnknownAttributeError,
    UnknownIdError,
)
from coldray.serving.live import LiveModel, ModelVersion
from coldray.serving.queries import Answer, ItemId, Query
from coldray.serving.schemas import (
    BatchRequest,
    BatchResponse,
    ErrorResponse,
    Feedback,
    FeedbackResponse,
    Item,
    Model,
    NewItem,
    RecommendRequest,
    RecommendResponse,
)
from coldray.serving.settings import ServiceSettings

logger = logging.getLogger("coldray.serving")
STATUS: dict[type[ColdrayError], tuple[int, str]] = {
    UnknownIdError: (404, "unknown_id"),
    UnknownAttributeError: (422, "unknown_attribute"),
    DataFormatError: (422, "invalid_value"),
    ConfigError: (422, "invalid_request"),
    StoreError: (503, "store_unavailable"),
}
"""HTTP status and code of deliberate errors; the rest are 500."""
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse} for status in (400, 404, 408, 413, 422, 500, 503)
}

api = FastAPI(
    title="coldray",
    version=coldray.__version__,
    description="Lists of items for users, for anybody with a history, and of items that nobody has clicked yet.",
    responses=ERRORS,
)


def error_response(status: int, code: str, message: str) -> JSONResponse:
    """Return an error in the form that all errors have."""
    headers = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


@api.exception_handler(ColdrayError)
async def _deliberate(_: Request, error: ColdrayError) -> JSONResponse:
    known = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), None)
    if known is None:
        return await _unforeseen(_, error)
    return error_response(*known, str(error))


@api.exception_handler(RequestValidationError)
async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part != "body")
    return error_response(422, "invalid_request", f"{field or 'body'}: {first['msg']}")


@api.exception_handler(HTTPException)
async def _refused(_: Request, error: HTTPException) -> JSONResponse:
    code = {400: "invalid_body", 404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
    return error_response(error.status_code, code, str(error.detail))


@api.exception_handler(Exception)
async def _unforeseen(_: Request, error: Exception) -> JSONResponse:
    logger.error("A request failed.", exc_info=error)
    return error_response(500, "internal", "The service failed at this request; its log says why.")


@api.middleware("http")
async def _limit_body(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    limit = request.app.state.max_body_bytes
    length = request.headers.get("content-length")
    if request.method == "POST" and length is not None and (not length.isdigit() or int(length) > limit):
        return error_response(413, "too_large", f"The body may have {limit:,} bytes at most.")
    return await call_next(request)


def _listed(live: LiveModel, answer: Answer) -> dict[str, Any]:
    items = [
        {
            "rank": rank,
            "item_id": place.item,
            "score": place.score,
            "cold": place.cold,
            "attributes": live.engine.attributes(place.item),
        }
        for rank, place in enumerate(answer.places, start=1)
    ]
    model = {"name": live.version.name, "version": live.version.version}
    return {"items": items, "path": answer.path, "model": model}


@serve.deployment
@serve.ingress(api)
class RecommendService:
    """A replica: the model it serves now, and the tasks that keep it up to date."""

    def __init__(self, settings: ServiceSettings) -> None:
        """Load the model; a replica that cannot is not started, and the reason is in the error."""
        torch.set_num_threads(settings.threads)
        api.state.max_body_bytes = settings.max_body_bytes
        self.settings, self.source = settings, settings.source()
        self.store = settings.open_store()
        version = self.source.current()
        self.live = LiveModel(self.source.load(version), version, self.store)
        self._changing = asyncio.Lock()
        self._refused: ModelVersion | None = None
        self._following = asyncio.get_running_loop().create_task(self._follow())
        self.lists.set_max_batch_size(settings.max_batch)  # type: ignore[attr-defined]
        self.lists.set_batch_wait_timeout_s(settings.batch_wait_s)  # type: ignore[attr-defined]

    # ---- keeping up to date

    async def _follow(self) -> None:
        """Look for another version, new items and feedback, for as long as the replica lives."""
        while True:
            await asyncio.sleep(self.settings.poll_s)
            try:
                await self._swap()
                async with self._changing:
                    await asyncio.to_thread(self.live.refresh)
            except ColdrayError as error:  # the registry or the store is away: what is served goes on
                logger.warning("Still serving %s: %s", self.live.version, error)
            except Exception:
                logger.exception("Still serving %s.", self.live.version)

    async def _swap(self) -> None:
        """Serve the version that the alias points to; one that does not load or pass its self-test is refused."""
        wanted = await asyncio.to_thread(self.source.current)
        if wanted in (self.live.version, self._refused):
            return
        try:
            bundle = await asyncio.to_thread(self.source.load, wanted)
            fresh = await asyncio.to_thread(LiveModel, bundle, wanted, self.store)
        except TrackingError:
            raise
        except Exception as error:
            self._refused = wanted
            logger.error("Version %s is refused, %s goes on: %s", wanted, self.live.version, error)
            return
        async with self._changing:
            before, self.live = self.live.version, fresh
            self._refused = None
        logger.warning("Serving %s in the place of %s.", wanted, before)

    async def check_health(self) -> None:
        """Tell Serve that the replica is well unless its task has ended."""
        if self._following.done():
            raise RuntimeError("The task that follows the registry has ended.")

    def __del__(self) -> None:
        """End the task and close the store; a replica whose model did not load has neither."""
        if hasattr(self, "_following"):
            self._following.cancel()
        if hasattr(self, "store"):
            self.store.close()

    # ---- lists

    @serve.batch
    async def lists(self, queries: list[Query]) -> list[tuple[LiveModel, Answer]]:
        """Answer queries together, all of them from one version."""
        live = self.live
        return [(live, answer) for answer in live.engine.answer(queries)]

    @api.post("/v1/recommend", response_model=RecommendResponse)
    async def recommend(self, request: RecommendRequest) -> Response:
        """Return the best items for a user, or for somebody with a history."""
        query = request.query()
        self.live.engine.check(query)
        live, answer = await self.lists(query)
        return Response(json.dumps(_listed(live, answer)), media_type="application/json")

    @api.post("/v1/recommend:batch", response_model=BatchResponse)
    async def recommend_batch(self, request: BatchRequest) -> Response:
        """Return several lists, all of them by one version of the model."""
        queries = [entry.query() for entry in request.requests]
        live = self.live
        for query in queries:
            live.engine.check(query)
        answers = await asyncio.to_thread(live.engine.answer, queries)
        responses = [_listed(live, answer) for answer in answers]
        return Response(json.dumps({"responses": responses}), media_type="application/json")

    # ---- items

    @api.post("/v1/items", response_model=Item, status_code=201)
    async def add_item(self, item: NewItem) -> Item:
        """Take a new item, known by its attributes alone: it is recommended from now on, and after a restart."""
        self.live.check_new(item.item_id, item.attributes)
        await asyncio.to_thread(self.store.put_item, item.item_id, item.attributes)
        return await self._item_after_refresh(item.item_id)

    async def _item_after_refresh(self, item_id: ItemId) -> Item:
        async with self._changing:
            await asyncio.to_thread(self.live.refresh)
        return self._item(item_id)

    def _item(self, item_id: ItemId) -> Item:
        engine = self.live.engine
        if not engine.knows_item(item_id):
            raise UnknownIdError(f"item_id: there is no item {item_id!r}.")
        return Item(item_id=item_id, attributes=engine.attributes(item_id), cold=engine.is_cold(item_id))

    @api.get("/v1/items/{item_id}", response_model=Item)
    async def get_item(self, item_id: str) -> Item:
        """Return what is known of an item."""
        return self._item(self.live.engine.typed(item_id))

    @api.delete("/v1/items/{item_id}", status_code=204)
    async def delete_item(self, item_id: str) -> None:
        """Recommend an item no more; histories keep it."""
        found = self._item(self.live.engine.typed(item_id))
        await asyncio.to_thread(self.store.put_item, found.item_id, None)
        async with self._changing:
            await asyncio.to_thread(self.live.refresh)

    # ---- feedback

    @api.post("/v1/feedback", response_model=FeedbackResponse, status_code=202)
    async def feedback(self, event: Feedback) -> FeedbackResponse:
        """Keep a click or a rating; it is durable before this answers, and the user's next list knows it."""
        self._item(event.item_id)
        new = await asyncio.to_thread(self.store.put_event, event.event_id, event.user_id, event.item_id, event.rating)
        if new:
            async with self._changing:
                await asyncio.to_thread(self.live.refresh)
        return FeedbackResponse(event_id=event.event_id, new=new)

    # ---- the service itself

    @api.get("/v1/models", response_model=list[Model])
    async def models(self) -> list[Model]:
        """Return which model is served."""
        version = self.live.version
        return [Model(name=version.name, version=version.version)]

    @api.get("/health")
    async def health(self) -> dict[str, str]:
        """Answer while the process lives."""
        return {"status": "ok"}

    @api.get("/ready")
    async def ready(self) -> dict[str, str]:
        """Answer once a model is served."""
        return {"status": "ready", "model": self.live.version.name, "version": self.live.version.version}


def application(settings: ServiceSettings) -> serve.Application:
    """Return the application that ``serve.run`` takes."""
    threads = {name: str(settings.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    deployment = RecommendService.options(  # type: ignore[attr-defined]
        num_replicas=settings.replicas,
        max_ongoing_requests=settings.max_ongoing,
        max_queued_requests=settings.max_queued,
        ray_actor_options={"num_cpus": 1, "num_gpus": settings.gpus, "runtime_env": {"env_vars": threads}},
        health_check_period_s=5,
        graceful_shutdown_timeout_s=10,
    )
    bound: serve.Application = deployment.bind(settings)
    return bound


def build(args: dict[str, Any]) -> serve.Application:
    """Return the application of a Serve config file, whose ``args`` are :class:`ServiceSettings`."""
    return application(ServiceSettings.model_validate(args))
