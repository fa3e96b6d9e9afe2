"""The ten-minute story on generated data, by the parts that real data go through."""

from __future__ import annotations

import tempfile
import webbrowser
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import requests
from rich.console import Console
from rich.text import Text

import coldray
from coldray.bundle.model import Bundle
from coldray.bundle.people import Profile
from coldray.cli.jobs.serve import fast_serve, serving, wait_for_the_end
from coldray.cli.lines import from_here, timed
from coldray.cli.options.init import DemoOptions
from coldray.cli.progress.study import StudyProgress
from coldray.cli.ray.cluster import connected_ray
from coldray.core.errors import ClusterError
from coldray.serving.api.settings import ServiceSettings

_COMPARED = ("popularity", "content_knn", "kernel_align")
_ONE_SPLIT = {"splits.n_splits": 1}
_NEW_ITEM = "film-of-tomorrow"
_PEOPLE = "people"
"""Name of the folder of the bundle that reads who asks."""
_PROFILES: tuple[Profile, ...] = ({"occupation": "farmer", "age": 68}, {"occupation": "engineer", "age": 24})
_TITLES = 3
"""Films that are shown of each list."""
_TIMEOUT = 30.0
_PLACES = 50
"""Length of the list in which the new item is looked for."""


def show_demo(options: DemoOptions, console: Console) -> None:
    """Tune, compare and serve, and recommend an item that nobody has clicked, and to people who have clicked nothing.

    Raises
    ------
    ClusterError
        If Ray or the service does not start.
    """
    folder = options.output

    def step(number: int, words: str, command: str) -> None:
        console.print(timed(Text.assemble((f"{number}. ", "bold"), words)), highlight=False, soft_wrap=True)
        console.print(Text(f"           {command}", "dim"), soft_wrap=True)

    def found(words: object) -> None:
        console.print(timed(Text(f"   {words}")), highlight=False, soft_wrap=True)

    films = coldray.load_dataset("sample")
    step(1, "the data: generated films, whose attributes cause the clicks", "coldray datasets sample")
    found(films)
    quiet = StudyProgress(Console(quiet=True))
    with (
        tempfile.TemporaryDirectory(prefix="coldray-demo-") as place,
        fast_serve(),
        connected_ray("local", None, quiet),
    ):
        few = "--offline --set splits.n_splits=1"
        step(2, "a study: 4 trials of marec", f"coldray tune marec {few} --set search.trials=4")
        study = coldray.tune("marec", films, trials=4, settings=_ONE_SPLIT, output=folder, quiet=True)
        found(study)
        models = " ".join(_COMPARED)
        step(
            3,
            "a comparison of models on items without clicks",
            f"coldray compare compare_cold {models} {few} --trials 1",
        )
        compared = coldray.compare(_COMPARED, films, trials=1, settings=_ONE_SPLIT, output=folder, quiet=True)
        for model, test in compared.frame.select("model", "test").iter_rows():
            found(f"{model}: test {compared.result.metric} {test:.4f}")
        found(f"report: {from_here(compared.report)}")
        bundle = study.folder / "bundle"
        step(4, "a service of the winner", f"coldray serve --bundle {from_here(bundle)} --port {options.port}")
        settings = ServiceSettings(bundle=bundle, store=f"sqlite:///{Path(place) / 'store.db'}")
        with serving(settings, host="127.0.0.1", port=options.port) as address:
            found(f"{address} (interface: {address}/docs)")
            step(5, "a new item, which nobody has clicked", f"POST {address}/v1/items")
            user, like, rank = _recommended(address)
            found(f"{_NEW_ITEM} has the attributes of {like}; in the list of {user} it is number {rank} of {_PLACES}")
            people = study.folder / _PEOPLE
            command = f"coldray fit kernel_align_users --output {from_here(people)}"
            step(6, "two who have just signed up, by a model of users' attributes", command)
            newcomers = coldray.fit("kernel_align_users", films)
            newcomers.save(people)
            for profile, titles in _lists_of(newcomers, _PROFILES):
                found(f"{profile}: {', '.join(titles)}")
            found(f"coldray serve --bundle {from_here(people)} has a page with a form to sign up")
            if options.once:
                return
            step(7, "the page: try it; Ctrl-C ends the demonstration", address)
            if not options.no_browser:
                webbrowser.open(address)
            wait_for_the_end()


def _recommended(address: str) -> tuple[str, str, int]:
    """Add an item like the one a user would like best; return the user, that item, and the rank of the new one.

    Raises
    ------
    ClusterError
        If the service answers otherwise than it should, or does not list the new item.
    """
    user = _ask(address, "catalogue")["some_user"]
    best = _ask(address, "recommend", {"user_id": user, "k": 1})["items"][0]["item_id"]
    attributes = _ask(address, f"items/{best}")["attributes"]
    _ask(address, "items", {"item_id": _NEW_ITEM, "attributes": attributes})
    listed = [one["item_id"] for one in _ask(address, "recommend", {"user_id": user, "k": _PLACES})["items"]]
    if _NEW_ITEM not in listed:
        raise ClusterError(f"The service at {address} does not list {_NEW_ITEM} for {user}, though it is like {best}.")
    return user, best, listed.index(_NEW_ITEM) + 1


def _lists_of(bundle: Bundle, profiles: Sequence[Profile]) -> Iterator[tuple[str, list[str]]]:
    """Yield each profile in words, and the titles of the first items for it."""
    listed = bundle.recommend(profiles=profiles, k=_TITLES)
    for row, profile in enumerate(profiles):
        words = ", ".join(f"{name} {value}" for name, value in profile.items())
        yield words, listed.filter(pl.col("user") == row)["title"].to_list()


def _ask(address: str, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    try:
        method = "GET" if body is None else "POST"
        answer = requests.request(method, f"{address}/v1/{what}", json=body, timeout=_TIMEOUT)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise ClusterError(f"The service at {address} does not answer as it should: {error}.") from error
    found: dict[str, Any] = answer.json()
    return found
