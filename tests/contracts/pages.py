"""One browser for every test of a page, and pages that remember what they asked of other hosts."""

import atexit
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from bundles import bundle_of, made_once, need_back_end

from pocket_diffusers.spaces.build_static import build_static, copy_runtime, runs_networks, weights_of_page

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
HOW_TO_HAVE_ONE = "install Chromium, or let `make browser` try"
PATIENCE = 120_000
"""Milliseconds; how long a busy machine may take, not how long it should."""


@pytest.fixture(scope="session")
def browser():
    """The one of this process: playwright starts once, though tests of several folders ask for it."""
    return _chromium()


@cache
def _chromium():
    sync_api = pytest.importorskip("playwright.sync_api", reason="pages need the extra 'test'")
    playwright = sync_api.sync_playwright().start()
    installed = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if installed is None and not Path(playwright.chromium.executable_path).exists():
        playwright.stop()
        pytest.skip(f"pages need a browser: {HOW_TO_HAVE_ONE}")
    atexit.register(playwright.stop)
    return playwright.chromium.launch(executable_path=installed, args=["--no-sandbox"])


@pytest.fixture
def open_page(browser) -> Iterator[Callable]:
    """Opens an address and returns the page; at the end no page may have asked anything of another host.

    `open_page.asked` lists all addresses that pages and their workers asked for.
    """
    contexts, asked, broken = [], [], []

    def open_page(address: str, width: int = 1280, height: int = 860, dark: bool = False):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        page.on("pageerror", lambda error: broken.append(str(error)))
        page.set_default_timeout(PATIENCE)
        page.goto(address)
        return page

    open_page.asked = asked
    yield open_page
    for context in contexts:
        context.close()
    hosts = {urlsplit(url).hostname for url in asked if urlsplit(url).scheme not in ("data", "blob")}
    assert hosts == {"127.0.0.1"}, f"the page asked {hosts}"
    assert not broken


@pytest.fixture(scope="session")
def serve_folder() -> Iterator[Callable[[Path], str]]:
    """Serves a folder as any web server of plain files would, and returns its address."""
    servers = []

    def serve(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def site_of(slug: str, factory: pytest.TempPathFactory) -> Path:
    """The static page of a method, built once a run; tests leave it as it is."""
    if not runs_networks(slug):
        return made_once(f"{slug}-page", factory, lambda place: build_static(slug, place))
    need_back_end("onnx")

    def make(place: Path) -> None:
        scratch = factory.mktemp("runtime")
        try:
            copy_runtime(scratch / "probe", scratch / "npm")
        except OSError as error:
            pytest.skip(f"onnxruntime-web cannot be fetched: {error}")
        build_static(slug, place, bundle=bundle_of(weights_of_page(slug), "onnx", factory))

    return made_once(f"{slug}-page", factory, make)


class _Silent(SimpleHTTPRequestHandler):
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript", ".js": "text/javascript"}

    def log_message(self, *arguments: object) -> None:
        pass
