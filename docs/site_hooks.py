"""What the site needs to show pages that are written for a code host too.

README.md and CONTRIBUTING.md become pages of the site with no second copy of them. Links that lead out of docs/ to a
file of the repository lead to the page of the site where there is one, to the file on the code host where `repo_url`
says where that is, and are plain names of files where nothing does: a site that is read offline has no dead links.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

HOME = Path(__file__).parent.parent
BORROWED = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md"} | {
    f"notebooks/{path.name}": f"notebooks/{path.name}" for path in sorted((HOME / "notebooks").glob("*.ipynb"))
}
"""Pages of the site, and the files of the repository that they show."""

_FENCED = re.compile(r"(^ *```.*?^ *```[^\n]*$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\[\]]*)\]\((?P<target>[^()\s#]+)(?P<anchor>#[^()\s]*)?\)")


def on_config(config: Any) -> Any:
    """So that blocks of pages that are run can say `from site_pictures import inline`."""
    if str(HOME / "docs") not in sys.path:
        sys.path.insert(0, str(HOME / "docs"))
    return config


def on_files(files: Files, config: Any) -> Files:
    for page, source in BORROWED.items():
        files.append(File.generated(config, page, abs_src_path=str(HOME / source)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """The page with its links as the site has them; code is left as it is."""
    kept = BORROWED.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    here, there = posixpath.dirname(kept), posixpath.dirname(page.file.src_uri)
    on_host = config.repo_url and f"{config.repo_url.rstrip('/')}/blob/main"

    def led(link: re.Match[str]) -> str:
        text, anchor = link["text"], link["anchor"] or ""
        if re.match(r"[a-z]+:", link["target"]):
            return link[0]
        path = posixpath.normpath(posixpath.join(here, link["target"]))
        on_site = of_site(path)
        if on_site is not None:
            return f"{link['picture']}[{text}]({posixpath.relpath(on_site, there or '.')}{anchor})"
        if on_host:
            return f"{link['picture']}[{text}]({on_host}/{path}{anchor})"
        return text if path in text else f"{text} (`{path}`)"

    parts = _FENCED.split(markdown)
    parts[::2] = [_LINK.sub(led, part) for part in parts[::2]]
    return "".join(parts)


def of_site(path: str) -> str | None:
    """Where the site has a file of the repository, or None if it does not."""
    for page, source in BORROWED.items():
        if path == source:
            return page
    return path.removeprefix("docs/") if path.startswith("docs/") else None
