"""The service under load: against a no-op of its own stack and a plain service, and what promotions, a death and too
many requests do to it.

The load generator, the service and its peers share the cores of the machine. What is compared takes turns, and the
median of the turns counts. FastAPI reads the types of endpoints: annotations are not text here.
"""

import json
import multiprocessing
import os
import signal
import socket
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import ray
from fastapi import FastAPI
from fastapi.responses import Response
from figures import figure
from load import Check, Load, generate, post
from marec_figures import dataset
from mlflow.tracking import MlflowClient
from ray import serve

from coldray.bundle.fitting import fit_bundle
from coldray.bundle.io import save_bundle
from coldray.bundle.model import Bundle
from coldray.cli.jobs.serve import _APPLICATION, fast_serve, serving
from coldray.cli.ray.cluster import start_ray
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.models.kernel_align.model import KernelAlign, KernelAlignConfig
from coldray.serving.admission.limits import Admission
from coldray.serving.api.schemas import RecommendRequest
from coldray.serving.api.settings import ServiceSettings

NAME = "benchmark"
TURNS, TURN_SECONDS = 5, 3.0
SWAP_SECONDS, SWAP_EVERY = 60.0, 10.0
OVERLOAD, OVERLOAD_SECONDS = 4.0, 10.0
NORMAL = 2.0
"""Latencies are normal again at so many times the median before."""
SLOWEST_ACCEPTED = 2.0
"""Seconds within which 99 of 100 requests that are taken on must be answered however many there are."""
LONGEST_WAIT = 60.0

noop_api = FastAPI()
noop_api.add_middleware(Admission)


@serve.deployment(
    max_ongoing_requests=1000,
    ray_actor_options={"num_cpus": 0, "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "1"}}},
    logging_config={"log_level": "WARNING", "enable_access_log": False},
)
@serve.ingress(noop_api)
class NoOp:
    """Reads a request behind the limits of the service, as the service does, and answers it with nothing."""

    def __init__(self, settings: ServiceSettings) -> None:
        noop_api.state.limits = settings.limits()

    @noop_api.post("/recommend")
    async def recommend(self, request: RecommendRequest) -> Response:
        return Response('{"items": []}', media_type="application/json")


def fitted(ridge: float) -> Bundle:
    """Return KernelAlign on all clicks of ml1m-hetrec."""
    model = KernelAlign(KernelAlignConfig(alpha=0.2, ridge=ridge))
    return fit_bundle(model, dataset(), FeatureEncoder(FeatureConfig()), {})


def user_requests(bundle: Bundle, **asked: object) -> list[bytes]:
    """Return a request for a list of ten for each user."""
    return [post("/v1/recommend", {"user_id": user, "k": 10, **asked}) for user in bundle.user_ids.tolist()]


def lists(bundle: Bundle) -> list[list[object]]:
    """Return the items of each user's list, by a way of their own: the bundle's, without the service."""
    users = bundle.user_ids.tolist()
    found = [places for _, places in bundle.lists([bundle.history(user) for user in users], 10)]
    return [[place.item for place in row] for row in found]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def service(settings: ServiceSettings) -> Iterator[int]:
    """Run the service as its job does, on an embedded Ray of its own; yield its port."""
    with fast_serve():
        start_ray(cpus=settings.replicas + 1)
        try:
            port = free_port()
            with serving(settings, host="127.0.0.1", port=port):
                yield port
        finally:
            ray.shutdown()


@contextmanager
def folder_service(bundle: Bundle, replicas: int = 1, cache: str = "none") -> Iterator[int]:
    """Run the service on a bundle."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        save_bundle(bundle, root / "bundle")
        settings = ServiceSettings(
            bundle=root / "bundle", store=f"sqlite:///{root / 'store.db'}", replicas=replicas, cache=cache
        )
        with service(settings) as port:
            yield port


def wait_for(condition: Callable[[], bool], seconds: float = LONGEST_WAIT) -> float:
    """Return the seconds until `condition` holds."""
    start = time.perf_counter()
    while not condition():
        if time.perf_counter() - start > seconds:
            raise TimeoutError(f"It was not so after {seconds:g} s.")
        time.sleep(0.02)
    return time.perf_counter() - start


def ask(port: int, path: str, body: object = None) -> tuple[int, dict[str, object]]:
    """Return the status and the content of an answer; an error is raised."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data=data, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.status, json.loads(answer.read())


class Checked:
    """Compares answers with the lists that the versions of a model give."""

    def __init__(self, expected: Mapping[str, Sequence[list[object]]]) -> None:
        self.expected = expected
        self.wrong = 0
        self.versions: set[str] = set()

    def __call__(self, place: int, status: int, body: bytes) -> None:
        """Count an answer of status 200 that is not the list of the version it names."""
        if status != 200:
            return
        answer = json.loads(body)
        version = answer["model"]["version"]
        self.versions.add(version)
        items = [entry["item_id"] for entry in answer["items"]]
        self.wrong += version not in self.expected or items != self.expected[version][place]


def plain_service(folder: str, port: int, ready: threading.Event) -> None:
    """Run the peer: one process of uvicorn that scores every item and sorts in Python."""
    import numpy as np
    import torch
    import uvicorn

    from coldray.bundle.io import load_bundle

    torch.set_num_threads(1)
    bundle = load_bundle(Path(folder))
    items, rows = bundle.item_ids.tolist(), {user: row for row, user in enumerate(bundle.user_ids.tolist())}
    weights = bundle.model.score(_identity(bundle.model.n_items), np.arange(bundle.model.n_items))
    api = FastAPI()

    @api.post("/v1/recommend")
    def recommend(request: RecommendRequest) -> dict[str, object]:
        row = rows[request.user_id]
        seen = bundle.interactions.indices[bundle.interactions.indptr[row] : bundle.interactions.indptr[row + 1]]
        scores = weights[seen].sum(axis=0)
        known = set(seen.tolist())
        ranked = sorted(((float(score), item) for item, score in enumerate(scores) if item not in known), reverse=True)
        return {"items": [{"item_id": items[item], "score": score} for score, item in ranked[: request.k]]}

    ready.set()
    uvicorn.run(api, host="127.0.0.1", port=port, log_level="warning", access_log=False)


def _identity(size: int) -> object:
    import numpy as np
    import scipy.sparse as sp

    return sp.csr_array(sp.eye_array(size, dtype=np.float32))


@contextmanager
def plain(bundle: Bundle) -> Iterator[int]:
    """Run the peer in a process of its own; yield its port."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        save_bundle(bundle, Path(name) / "bundle")
        port, ready = free_port(), context.Event()
        process = context.Process(target=plain_service, args=(str(Path(name) / "bundle"), port, ready), daemon=True)
        process.start()
        try:
            if not ready.wait(LONGEST_WAIT):
                raise TimeoutError("The plain service did not start.")
            wait_for(lambda: _listens(port))
            yield port
        finally:
            process.terminate()
            process.join()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def median(loads: Sequence[Load], what: Callable[[Load], float]) -> float:
    """Return the median over turns."""
    return statistics.median(map(what, loads))


@figure("serve_share_of_noop", unit="×", bar=0.6, better="higher")
@figure("serve_over_plain", unit="×", bar=1.5, better="higher")
@figure("serve_p99_over_p50", unit="×", bar=4.0, better="lower")
@figure("serve_p50_ms", unit="ms", bar=10.0, better="lower")
@figure("serve_rps_16", unit="requests/s", bar=700, better="higher")
@figure("new_item_visible_s", unit="s", bar=2.0, better="lower")
def throughput() -> dict[str, float]:
    """Lists of ten by KernelAlign on ml1m-hetrec, seen items left out: through 32, 16 and 1 connections."""
    bundle = fitted(6.0)
    requests = user_requests(bundle)
    nothing = [request.replace(b"POST /v1/recommend ", b"POST /noop/recommend ", 1) for request in requests]
    with folder_service(bundle) as port, plain(bundle) as other:
        serve.run(NoOp.bind(ServiceSettings(bundle=Path("-"))), name="noop", route_prefix="/noop")  # type: ignore[attr-defined]
        check_lists(port, bundle, requests)
        ours, noops, plains = [], [], []
        for _ in range(TURNS):
            noops.append(turn(port, nothing, 32))
            ours.append(turn(port, requests, 32))
            plains.append(turn(other, requests, 32))
        sixteen, one = ([turn(port, requests, count) for _ in range(TURNS)] for count in (16, 1))
        seen = new_item_visible(port, bundle)
    rate = median(ours, lambda load: load.per_second)
    return {
        "serve_share_of_noop": rate / median(noops, lambda load: load.per_second),
        "serve_over_plain": rate / median(plains, lambda load: load.per_second),
        "serve_p99_over_p50": median(ours, lambda load: load.quantile(0.99) / load.quantile(0.5)),
        "serve_p50_ms": 1000 * median(one, lambda load: load.quantile(0.5)),
        "serve_rps_16": median(sixteen, lambda load: load.per_second),
        "new_item_visible_s": seen,
    }


def turn(port: int, requests: Sequence[bytes], connections: int, check: Check | None = None) -> Load:
    """Return one turn; a request that fails spoils it."""
    load = generate(port, requests, connections=connections, seconds=TURN_SECONDS, check=check)
    if load.failed:
        raise RuntimeError(f"Requests failed: {load.statuses}")
    return load


def check_lists(port: int, bundle: Bundle, requests: Sequence[bytes]) -> None:
    """Warm the service up, and see that its lists are right."""
    checked = Checked({"-": lists(bundle)})
    load = generate(port, requests, connections=8, seconds=2 * TURN_SECONDS, check=checked)
    if checked.wrong or load.failed:
        raise RuntimeError(f"{checked.wrong} lists are wrong; {load.statuses}")


def new_item_visible(port: int, bundle: Bundle) -> float:
    """Return the seconds from the call that adds an item to the first list that contains it."""
    twin = bundle.item_ids.tolist()[0]
    attributes = ask(port, f"/v1/items/{twin}")[1]["attributes"]
    start = time.perf_counter()
    ask(port, "/v1/items", {"item_id": 10**9, "attributes": attributes})
    wanted = {"user_id": bundle.user_ids.tolist()[0], "k": 10, "candidates": "cold"}
    wait_for(lambda: any(place["item_id"] == 10**9 for place in ask(port, "/v1/recommend", wanted)[1]["items"]))
    return time.perf_counter() - start


def promote(client: MlflowClient, folder: Path) -> str:
    """Register a bundle and return its version."""
    run = client.create_run("0")
    client.log_artifacts(run.info.run_id, str(folder), "bundle")
    return str(client.create_model_version(NAME, f"{run.info.artifact_uri}/bundle", run.info.run_id).version)


@figure("swap_failed_requests", unit="requests", bar=0, better="lower")
def swaps() -> float:
    """Failed and wrong answers of 60 s with a promotion every 10 s, between two versions in a registry."""
    bundles = [fitted(6.0), fitted(600.0)]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        os.chdir(root)  # where the registry keeps what is logged
        uri = f"sqlite:///{root / 'mlflow.db'}"
        client = MlflowClient(uri, uri)
        client.create_registered_model(NAME)
        expected = {}
        for place, bundle in enumerate(bundles):
            save_bundle(bundle, root / f"bundle-{place}")
            expected[promote(client, root / f"bundle-{place}")] = lists(bundle)
        versions = list(expected)
        client.set_registered_model_alias(NAME, "champion", versions[0])
        checked, requests, stopped = Checked(expected), user_requests(bundles[0]), threading.Event()
        settings = ServiceSettings(tracking_uri=uri, model_name=NAME, store=f"sqlite:///{root / 'store.db'}")
        with service(settings) as port:
            thread = threading.Thread(target=_promote_in_turn, args=(client, versions, stopped))
            thread.start()
            try:
                load = generate(port, requests, connections=16, seconds=SWAP_SECONDS, check=checked)
            finally:
                stopped.set()
                thread.join()
        os.chdir("/")
    if checked.versions != set(versions):
        raise RuntimeError(f"Only {checked.versions} were served.")
    return float(load.failed + checked.wrong)


def _promote_in_turn(client: MlflowClient, versions: Sequence[str], stopped: threading.Event) -> None:
    place = 0
    while not stopped.wait(SWAP_EVERY):
        place += 1
        client.set_registered_model_alias(NAME, "champion", versions[place % len(versions)])


def replica_processes() -> list[int]:
    """Return the replicas of this process's Ray, by process id."""
    own = psutil.Process().children(recursive=True)
    return [one.pid for one in own if f"ServeReplica:{_APPLICATION}:" in " ".join(one.cmdline())]


@figure("kill_failed_requests", unit="requests", bar=0, better="lower")
def kill() -> float:
    """Requests that fail, after one retry on a broken connection, when one replica of two is killed under load."""
    bundle = fitted(6.0)
    with folder_service(bundle, replicas=2) as port:
        check_lists(port, bundle, user_requests(bundle))
        replicas = replica_processes()
        victim = threading.Timer(3.0, os.kill, (replicas[0], signal.SIGKILL))
        victim.start()
        load = generate(port, user_requests(bundle), connections=16, seconds=10.0)
        wait_for(lambda: len(replica_processes()) == 2 and replicas[0] not in replica_processes() and _two_run())
    return float(load.failed)


def _two_run() -> bool:
    deployment = serve.status().applications[_APPLICATION].deployments["RecommendService"]
    return deployment.replica_states.get("RUNNING") == 2


@figure("overload_recovery_s", unit="s", bar=5.0, better="lower")
def overload() -> float:
    """Seconds until latencies are normal again after four times as many requests as can be answered.

    Those beyond are refused with 503 and Retry-After, and those taken on are answered within a bound. Diverse lists are
    asked for: of plain ones the service makes more than one generator of load can ask for.
    """
    bundle = fitted(6.0)
    requests = user_requests(bundle, diversity=0.5)
    with folder_service(bundle) as port:
        check_lists(port, bundle, user_requests(bundle))
        capacity = turn(port, requests, 16).per_second
        before = turn(port, requests, 4).quantile(0.5)
        load = generate(
            port, requests, connections=500, seconds=OVERLOAD_SECONDS, per_second=OVERLOAD * capacity
        )  # fmt: skip
        start = time.perf_counter()
        while True:
            after = generate(port, requests, connections=4, seconds=0.25)
            if len(after.latencies) and after.quantile(0.5) <= NORMAL * before and not after.failed:
                break
            if time.perf_counter() - start > LONGEST_WAIT:
                raise TimeoutError("Latencies did not become normal again.")
    recovered = time.perf_counter() - start
    print(f"capacity {capacity:.0f}/s, {load.statuses}, p99 {load.quantile(0.99):.3f} s, {recovered:.2f} s")
    if set(load.statuses) != {200, 503} or load.retry_after != load.statuses[503]:
        raise RuntimeError(f"Answers were {load.statuses}, {load.retry_after} of them with Retry-After.")
    if load.quantile(0.99) > SLOWEST_ACCEPTED:
        raise RuntimeError(f"99 of 100 requests took up to {load.quantile(0.99):.1f} s.")
    return recovered
