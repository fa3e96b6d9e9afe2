"""The HTTP interface on Ray Serve: one deployment, so that a request makes one hop.

``build`` is what a Serve config file names; :mod:`coldray.workflows.serve` runs it on this machine.

Serve pickles the class with what is defined above it, and FastAPI reads the types of its methods: hence no name of this
module is used before it is defined, and annotations are not text here.
"""

import asyncio
import logging
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
from coldray.serving.admission import Admission, error_response
from coldray.serving.answers import answer_json
from coldray.serving.catalogue import CatalogueEndpoints, found_item
from coldray.serving.catalogue import router as catalogue_router
from coldray.serving.live import LiveModel, ModelVersion
from coldray.serving.page import router as page_router
from coldray.serving.queries import Answer, ItemId, Query
from coldray.serving.reasons import explain
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
REFUSALS = {400: "invalid_body", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
"""Codes of errors that the framework finds."""
SLACK = 4
"""Serve lets a replica have so many times the requests that the replica takes on."""
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse} for status in (400, 401, 404, 408, 413, 422, 429, 500, 503)
}

api = FastAPI(
    title="coldray",
    version=coldray.__version__,
    description="Lists of items for users, for anybody with a history, and of items that nobody has clicked yet.",
    responses=ERRORS,
)
api.add_middleware(Admission)
for router in (catalogue_router, page_router):
    api.include_router(router)


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
    code = REFUSALS.get(error.status_code, "refused")
    return error_response(error.status_code, code, str(error.detail))


@api.exception_handler(Exception)
async def _unforeseen(_: Request, error: Exception) -> JSONResponse:
    logger.error("A request failed.", exc_info=error)
    return error_response(500, "internal", "The service failed at this request; its log says why.")


def _answer_json(live: LiveModel, answer: Answer, request: RecommendRequest) -> str:
    return answer_json(live, answer, explain(live.engine, answer) if request.explain else None)


@serve.deployment
@serve.ingress(api)
class RecommendService(CatalogueEndpoints):
    """A replica: the model it serves now, and the tasks that keep it up to date."""

    def __init__(self, settings: ServiceSettings) -> None:
        """Load the model; a replica that cannot is not started, and the reason is in the error."""
        torch.set_num_threads(settings.threads)
        api.state.limits = settings.limits()
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
        if request.explain:  # not in the time of other requests
            written = await asyncio.to_thread(_answer_json, live, answer, request)
        else:
            written = answer_json(live, answer)
        return Response(written, media_type="application/json")

    @api.post("/v1/recommend:batch", response_model=BatchResponse)
    async def recommend_batch(self, batch: BatchRequest) -> Response:
        """Return several lists, all of them by one version of the model."""
        queries = [entry.query() for entry in batch.requests]
        live = self.live
        for query in queries:
            live.engine.check(query)

        def written() -> str:
            answers = zip(live.engine.answer(queries), batch.requests, strict=True)
            return ",".join(_answer_json(live, answer, request) for answer, request in answers)

        responses = await asyncio.to_thread(written)
        return Response(f'{{"responses":[{responses}]}}', media_type="application/json")

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
        return found_item(self.live.engine, item_id)

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
        # Refusals in the form that all errors have are the service's own; Serve's come into it only far beyond.
        max_ongoing_requests=SLACK * settings.at_once,
        max_queued_requests=SLACK * settings.at_once,
        backpressure_config={"retry_after_s": 1},
        logging_config={"log_level": "WARNING", "enable_access_log": False},  # a line a request, with its path
        ray_actor_options={"num_cpus": 1, "num_gpus": settings.gpus, "runtime_env": {"env_vars": threads}},
        health_check_period_s=5,
        graceful_shutdown_timeout_s=10,
    )
    bound: serve.Application = deployment.bind(settings)
    return bound


def build(args: dict[str, Any]) -> serve.Application:
    """Return the application of a Serve config file, whose ``args`` are :class:`ServiceSettings`."""
    return application(ServiceSettings.model_validate(args))
