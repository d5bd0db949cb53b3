"""The pages of docs/ as a site: built with no warning, all links lead somewhere, and reading it asks no other host.

The site is built once, as `make docs` builds it, in a folder of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import pytest

from browser import Tab, needs_browser, opened_tab

HOME = Path(__file__).parent.parent
FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "object": "data"}
"""What a browser fetches of a page without being asked; of `link` elements, those that are not mere mentions."""
PATIENCE = 60_000  # ms: a busy machine
MISSING = "404.html"
"""What a server gives for a missing address, whatever that is: its links are from the root."""
MENTIONED = {"canonical", "next", "prev", "edit"}

pytestmark = pytest.mark.slow


class Page(NamedTuple):
    path: Path
    ids: set[str]
    links: list[str]
    fetched: list[str]


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and not MENTIONED & set(given.get("rel", "").split()):
            self.fetched.append(given["href"])
        if FETCHED.get(tag) in given:
            self.fetched.append(given[FETCHED[tag]])


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(HOME / "src")}
    done = subprocess.run(command, cwd=HOME, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "WARNING" not in done.stderr, done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def pages(built) -> dict[Path, Page]:
    found = {}
    for path in sorted(built.rglob("*.html")):
        reader = Reader()
        reader.feed(path.read_text(encoding="utf-8"))
        found[path] = Page(path, reader.ids, reader.links, reader.fetched)
    return found


def is_outside(url: str) -> bool:
    return bool(urlsplit(url).netloc)


def test_every_page_of_the_docs_is_in_the_site(built, pages):
    sources = {path.relative_to(HOME / "docs").with_suffix(".html") for path in (HOME / "docs").rglob("*.md")}
    there = {path.relative_to(built) for path in pages}
    assert sources <= there
    assert {Path("index.html"), Path("contributing.html")} <= there


def test_no_page_fetches_from_outside(built, pages):
    assert [url for page in pages.values() for url in page.fetched if is_outside(url)] == []
    styles = [path.read_text(encoding="utf-8") for path in built.rglob("*.css")]
    assert styles
    assert [url for text in styles for url in re.findall(r"url\(\s*[\"']?((?:https?:)?//[^)]*)", text)] == []


def test_what_pages_fetch_is_there(pages):
    for page in pages.values():
        for url in page.fetched:
            if page.path.name != MISSING and not url.startswith("data:"):
                assert target(page.path, url)[0].is_file(), f"{page.path.name}: {url}"


def test_every_link_and_anchor_leads_somewhere(built, pages):
    dead = []
    for page in pages.values():
        if page.path.name == MISSING:
            continue
        for url in page.links:
            if is_outside(url) or url.startswith(("mailto:", "data:")):
                continue
            path, anchor = target(page.path, url)
            lost = not path.is_file() or (anchor and path in pages and anchor not in pages[path].ids)
            if lost:
                dead.append(f"{page.path.relative_to(built)}: {url}")
    assert dead == []


def target(page: Path, url: str) -> tuple[Path, str]:
    """Which file and which place in it a link of a page leads to."""
    parts = urlsplit(url)
    path = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    return path / "index.html" if path.is_dir() else path, unquote(parts.fragment)


@needs_browser
def test_the_search_finds_a_page_from_a_file(built):
    with opened_tab() as tab:
        tab.page.goto((built / "index.html").as_uri())
        search(tab, "quantization")


@needs_browser
def test_the_search_finds_a_page_from_a_server(built):
    handler = partial(Quiet, directory=str(built))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, opened_tab() as tab:
        Thread(target=server.serve_forever, daemon=True).start()
        tab.page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
        search(tab, "quantization")
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def search(tab: Tab, word: str) -> None:
    tab.page.fill("input[name=query]", word)
    found = tab.page.wait_for_selector(".md-search-result__link", state="attached", timeout=PATIENCE)
    assert found is not None
    assert ".html" in (found.get_attribute("href") or "")
    assert tab.outside() == []
    assert tab.errors == []


WIDE = """() => {
  const scrolls = (e) => e && (["auto", "scroll"].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  const shown = [...document.querySelectorAll(".md-content__inner *:not(.katex *)")];
  const beyond = shown.filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !scrolls(e));
  return beyond.map((e) => `${e.tagName} ${e.className} ${e.textContent.slice(0, 60)}`);
}"""
"""What reaches beyond the screen's right edge and cannot be scrolled to."""


@needs_browser
@pytest.mark.parametrize("width", [390, 1400])
def test_pages_read_from_files_ask_no_host_complain_of_nothing_and_fit_the_screen(pages, width):
    """Tables, formulas and code scroll inside themselves."""
    with opened_tab(width) as tab:
        wide = {}
        for path in pages:
            if path.name == MISSING:
                continue
            tab.page.goto(path.as_uri())
            if tab.page.query_selector(".arithmatex"):
                tab.page.wait_for_selector(".katex", state="attached", timeout=PATIENCE)
            wide[path.name] = tab.page.evaluate(WIDE)
            assert tab.page.evaluate("document.documentElement.scrollWidth") <= width, path.name
        assert not any(wide.values()), {name: found[:5] for name, found in wide.items() if found}
        assert tab.outside() == []
        assert tab.errors == []


@needs_browser
def test_formulas_are_drawn_and_no_source_of_one_is_left(built):
    with opened_tab() as tab:
        tab.page.goto((built / "mathematics.html").as_uri())
        tab.page.wait_for_selector(".katex", state="attached", timeout=PATIENCE)
        assert tab.page.evaluate("document.querySelectorAll('.arithmatex:not(:has(.katex))').length") == 0
        assert "$" not in tab.page.inner_text(".md-content__inner")
        assert tab.errors == []
        assert tab.outside() == []
