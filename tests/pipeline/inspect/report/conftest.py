"""Small versions whose images are images, with ids that try to break a page; and a browser to look at pages with."""

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from locloc.pipeline.store import Version

EVIL = [
    '"><img src=x onerror="document.title=1">.png',
    "</script><script>document.title=2</script>.png",
    "'quoted' & <b>bold</b>.png",
    "line\nbreak\rtab\t.png",
    "__proto__",
    "constructor",
    "=HYPERLINK(1).png",
    "${document.title=3}`.png",
    "\u05e9\u05dc\u05d5\u05dd \u202eright.png",
    "🐎 horse 猫.png",
    "a,b;c.png",
    "\u2028line\u2029.png",
]


def png(seed: int, width: int = 64, height: int = 48) -> bytes:
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), rng.integers(0, 255, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def with_images(made: Callable[..., Any], write: Callable[..., Version], tmp_path: Path) -> Callable[..., Version]:
    """Makes a version of `ids`; row 3 is a fallback, rows 4 to 7 failed, in the order of `ids`."""

    def build(ids: list[str], store: str = "masks.store", change: Callable[[Any], None] | None = None) -> Version:
        content = made(ids, heads=3)
        content.files = [png(n) for n in range(len(ids))]
        content.splits = [1 + n % 3 for n in range(len(ids))]
        if change is not None:
            change(content)
        return write(tmp_path / store, content, tmp_path / "images")

    return build


ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright; skips where one of them is missing."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="pages are looked at with playwright, which is not installed"
    )
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("pages are looked at with Chromium, which is not installed")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def look(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens an address; fails at the end of the test for any error in the page's scripts."""
    errors: list[str] = []
    contexts = []

    def look(address: str, width: int = 1400, **more: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True, **more)
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(address)
        page.wait_for_selector("body.ready")
        return page

    yield look
    for context in contexts:
        context.close()
    assert not errors
