"""The HTTP interface on Ray Serve: one deployment, so that a request makes one hop.

``build`` is what a Serve config file names; :mod:`coldray.cli.jobs.serve` runs it on this machine.

Serve pickles the class with what is defined above it, and FastAPI reads the types of its methods: hence no name of this
module is used before it is defined, and annotations are not text here.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from fastapi import FastAPI, Response
from ray import serve
from ray.util.metrics import Counter
from starlette.background import BackgroundTask

import coldray
from coldray.bundle.reasons import Explained, explain
from coldray.core.errors import DataFormatError
from coldray.serving.admission.limits import Admission
from coldray.serving.api.answers import answer_json
from coldray.serving.api.batches import Batches, Writes
from coldray.serving.api.catalogue import CatalogueEndpoints, found_item
from coldray.serving.api.catalogue import router as catalogue_router
from coldray.serving.api.page import router as page_router
from coldray.serving.api.problems import ERRORS, answer_problems
from coldray.serving.api.schemas import (
    BatchRequest,
    BatchResponse,
    Feedback,
    FeedbackResponse,
    Item,
    ItemDetails,
    NamedVersion,
    NewItem,
    RecommendRequest,
    RecommendResponse,
    ServedModel,
)
from coldray.serving.api.settings import ServiceSettings
from coldray.serving.api.short_way import ShortWay
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.ids import refuse_new_id
from coldray.serving.engine.queries import Answer, ItemId, Query
from coldray.serving.live.model import LiveModel
from coldray.serving.live.shadow import RayMeasures, Shadow
from coldray.serving.live.versions import answered

_SLACK = 4
"""Serve lets a replica have so many times the requests that the replica takes on."""
_api = FastAPI(
    title="coldray",
    version=coldray.__version__,
    description="Lists of items for users, for anybody with a history, and of items that nobody has clicked yet.",
    responses=ERRORS,
)
_api.add_middleware(ShortWay, path="/v1/recommend", schema=RecommendRequest)
_api.add_middleware(Admission)  # the last to be added comes first
answer_problems(_api)


def _answer_json(live: LiveModel, answer: Answer, request: RecommendRequest) -> str:
    return answer_json(live, answer, _explained(live.engine, answer) if request.explain else None)


def _explained(engine: Engine, answer: Answer) -> Explained:
    return explain(engine.bundle, engine.maker, answer.history, answer.places)


@serve.deployment
@serve.ingress(_api)
class RecommendService(CatalogueEndpoints):
    """A replica: the models it serves now, and the tasks that keep them up to date."""

    def __init__(self, settings: ServiceSettings) -> None:
        """Load the model; a replica that cannot is not started, and the reason is in the error."""
        torch.set_num_threads(settings.threads)
        _api.state.limits, _api.state.short_way = settings.limits(), self.recommend
        self.settings = settings
        self.store = settings.open_store()
        self.models = settings.served_models(self.store)
        self.shadow = Shadow(settings.shadow_share, RayMeasures())
        self.kept = settings.kept_lists()
        self._looked_up = Counter("coldray_cached_lists", "Lists that were looked up among those kept.", ("found",))
        self._following = asyncio.get_running_loop().create_task(self._follow())
        self.lists = Batches(answered, max_size=settings.max_batch, wait_s=settings.batch_wait_s)
        """Answers queries together, those to one model at once."""
        self._events = Writes(self.store.put_events, max_size=settings.at_once)
        self._aside = ThreadPoolExecutor(settings.threads, "lists")

    @property
    def live(self) -> LiveModel:
        """The champion, which answers unless something else is said."""
        return self.models.champion

    # ---- keeping up to date

    async def _follow(self) -> None:
        """Look for other versions, new items and feedback, for as long as the replica lives."""
        while True:
            await asyncio.sleep(self.settings.poll_s)
            self._count()
            await self.models.follow()

    def _count(self) -> None:
        """Tell Ray how many lists were kept; here, as a request has no time for it."""
        for found, number in self.kept.counted().items():
            if number:
                self._looked_up.inc(number, {"found": found})

    async def check_health(self) -> None:
        """Tell Serve that the replica is well unless a task of it has ended."""
        if self._following.done() or self.shadow.working.done():
            raise RuntimeError("A task that keeps the models up to date has ended.")

    def __del__(self) -> None:
        """End the tasks and close the store; a replica whose model did not load has less of it."""
        if hasattr(self, "_following"):
            self._following.cancel()
            self.shadow.working.cancel()
        if hasattr(self, "store"):
            self.store.close()

    # ---- lists

    @_api.post("/v1/recommend", response_model=RecommendResponse)
    async def recommend(self, request: RecommendRequest) -> Response:
        """Return the best items for a user, or for somebody with a history."""
        live = await self.models.asked(request)
        key = self.kept.key(live, request)
        text = await self.kept.get(key)
        if text is not None:
            return Response(text, media_type="application/json")
        query = request.query()
        live.engine.check(query)
        # What takes long is done aside, so that the loop sees who else comes, and refuses who is too much.
        if query.diversity:
            loop = asyncio.get_running_loop()
            (answer,) = await loop.run_in_executor(self._aside, live.engine.answer, [query])
        else:
            answer = await self.lists.ask((live, query))
        if request.explain:
            text = (await asyncio.to_thread(_answer_json, live, answer, request)).encode()
        else:
            text = answer_json(live, answer).encode()
        self.kept.put(key, text)
        return Response(text, media_type="application/json", background=self._compared(live, query, answer))

    def _compared(self, live: LiveModel, query: Query, answer: Answer) -> BackgroundTask | None:
        """Return what has the shadow make the same list, after the client got theirs."""
        shadow = self.models.shadow
        if shadow is None or shadow is live or not self.shadow.wants_next():
            return None
        return BackgroundTask(self.shadow.compare, shadow, query, answer)

    @_api.post("/v1/recommend:batch", response_model=BatchResponse)
    async def recommend_batch(self, batch: BatchRequest) -> Response:
        """Return several lists, by one version of the model unless requests name others or there is a canary."""
        asked = [(await self.models.asked(request), request.query()) for request in batch.requests]
        for live, query in asked:
            live.engine.check(query)

        def written() -> str:
            answers = zip(asked, answered(asked), batch.requests, strict=True)
            return ",".join(_answer_json(live, answer, request) for (live, _), answer, request in answers)

        responses = await asyncio.to_thread(written)
        return Response(f'{{"responses":[{responses}]}}', media_type="application/json")

    # ---- items

    @_api.post("/v1/items", response_model=ItemDetails, status_code=201)
    async def add_item(self, item: NewItem) -> ItemDetails:
        """Take a new item, known by its attributes alone: it is recommended from now on, and after a restart."""
        self.live.check_new(item.item_id, item.attributes)
        if self.live.engine.find(item.item_id) is None:
            refuse_new_id(item.item_id, "item_id")
        self.live.check_written(item.attributes)
        named = self.live.engine.named_item(item.item_id)
        await asyncio.to_thread(self.store.put_item, named, item.attributes)
        return await self._item_after_refresh(named)

    async def _item_after_refresh(self, item_id: ItemId) -> ItemDetails:
        await self.models.refresh()
        return self._details(item_id)

    def _item(self, item_id: ItemId) -> Item:
        return found_item(self.live.engine, item_id)

    def _details(self, item_id: ItemId) -> ItemDetails:
        engine = self.live.engine
        item = found_item(engine, item_id)
        unread = engine.bundle.encoder.unread_labels([item.attributes])
        return ItemDetails(**item.model_dump(), unread_labels=unread)

    @_api.get("/v1/items/{item_id:path}", response_model=ItemDetails)
    async def get_item(self, item_id: str) -> ItemDetails:
        """Return what is known of an item."""
        return self._details(self.live.engine.typed(item_id))

    @_api.delete("/v1/items/{item_id:path}", status_code=204)
    async def delete_item(self, item_id: str) -> None:
        """Recommend an item no more; histories keep it. For one that was removed before nothing changes."""
        if not self.live.engine.knows_item(self.live.engine.typed(item_id)):
            await self.models.refresh()  # another replica may have taken it in
        item = self.live.engine.typed(item_id)
        if self.live.was_removed(item):  # a request may come twice: the proxy repeats it if a replica dies
            return
        found = self._item(item)
        await asyncio.to_thread(self.store.put_item, found.item_id, None)
        await self.models.refresh()

    # ---- feedback

    @_api.post("/v1/feedback", response_model=FeedbackResponse, status_code=202)
    async def feedback(self, event: Feedback) -> FeedbackResponse:
        """Keep a click or a rating; it is durable before this answers, and the user's next list knows it.

        An item that was shown and not clicked is kept too, for a service that tries items out.
        """
        new = await self._events.ask(
            await asyncio.to_thread(
                self.live.event, event.event_id, event.user_id, event.item_id, event.rating, clicked=event.clicked
            )
        )
        if isinstance(new, DataFormatError):
            raise new
        if new:
            await self.models.refresh()
        return FeedbackResponse(event_id=event.event_id, new=new)

    # ---- the service itself

    @_api.get("/v1/models", response_model=list[ServedModel])
    async def served(self) -> list[ServedModel]:
        """Return which models are served, the champion first."""
        return [
            ServedModel(
                name=version.name,
                version=version.version,
                role=role,
                share=share,
                lists=self.models.of_role(role).lists_told,
                forms=self.models.of_role(role).forms,
                clicks=self.models.of_role(role).clicks_told,
            )
            for role, version, share in self.models.roles()
        ]

    @_api.get("/v1/versions", response_model=list[NamedVersion], response_model_exclude_none=True)
    async def versions(self) -> list[NamedVersion]:
        """Return the versions of the model that a request may name, youngest first: the last hundred."""
        found, refused = await asyncio.to_thread(self.models.source.registered), self.models.refusals
        return [
            NamedVersion(
                name=one.version.name,
                version=one.version.version,
                aliases=list(one.aliases),
                refused=refused.get(one.version),
            )
            for one in found
        ]

    @_api.get("/health")
    async def health(self) -> dict[str, str]:
        """Answer while the process lives."""
        return {"status": "ok"}

    @_api.get("/ready")
    async def ready(self) -> dict[str, str]:
        """Answer once a model is served."""
        return {"status": "ready", "model": self.live.version.name, "version": self.live.version.version}

    # Routes are tried in the order in which they came: the one for lists is the first, and these are the last.
    _api.include_router(catalogue_router)
    _api.include_router(page_router)


def _replica_count(settings: ServiceSettings) -> dict[str, Any]:
    """Return how many replicas Serve runs: always as many, or between two bounds."""
    if settings.max_replicas is None:
        return {"num_replicas": settings.replicas}
    bounds = {"min_replicas": settings.replicas, "max_replicas": settings.max_replicas}
    return {"autoscaling_config": {**bounds, "target_ongoing_requests": settings.target_ongoing}}


def application(settings: ServiceSettings) -> serve.Application:
    """Return the application that ``serve.run`` takes."""
    threads = {name: str(settings.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    deployment = RecommendService.options(  # type: ignore[attr-defined]
        **_replica_count(settings),
        # Refusals in the form that all errors have are the service's own; Serve's come into it only far beyond.
        max_ongoing_requests=_SLACK * settings.at_once,
        max_queued_requests=_SLACK * settings.at_once,
        backpressure_config={"retry_after_s": 1},
        logging_config={"log_level": "WARNING", "enable_access_log": False},  # a line a request, with its path
        ray_actor_options={"num_cpus": 1, "num_gpus": settings.gpus, "runtime_env": {"env_vars": threads}},
        health_check_period_s=5,
        graceful_shutdown_timeout_s=10,
    )
    bound: serve.Application = deployment.bind(settings)
    return bound


def build(args: dict[str, Any]) -> serve.Application:
    """Return the application of a Serve config file, whose ``args`` are :class:`ServiceSettings`.

    Raises
    ------
    ConfigError
        If it does not say who may ask: on a cluster others may reach the service.
    """
    settings = ServiceSettings.model_validate(args)
    settings.require_access()
    return application(settings)
