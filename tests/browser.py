"""A real browser for pages: Chromium, where there is one. What it asks of any host but this one is refused and kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open pages with")
_FLAGS = [
    "--headless", "--no-sandbox", "--disable-background-networking", "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]  # fmt: skip


PATIENCE = 120_000  # ms: a browser on a machine that is busy


class Tab:
    """A page, what it asked for, and what went wrong in it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: said.type == "error" and self.errors.append(said.text))

    def outside(self) -> list[str]:
        """Requests to anything but this machine."""
        return [url for url in self.requests if not url.startswith(("file:", "data:", "blob:", "http://127.0.0.1"))]


@contextmanager
def opened_tab(width: int = 1200, theme: Any = "light", *, touch: bool = False) -> Iterator[Tab]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        try:
            screen: Any = {"width": width, "height": 900}
            page = browser.new_page(viewport=screen, color_scheme=theme, has_touch=touch)
            page.set_default_timeout(PATIENCE)
            yield Tab(page)
        finally:
            browser.close()
