"""Where a dataset lies: a folder, the Hub, or the package itself, and how it is brought to a folder.

The published dataset is 2 GB, nearly all of it pictures that can be drawn again; only the rest is fetched. Reading
goes through the Hub's cache; a dataset that is to be written to (fitted again, redrawn) is fetched into a folder of
its own, since the cache is shared and must not change. It is fetched there once: what its owner then writes is not
fetched over.
"""

from __future__ import annotations

import re
from pathlib import Path

from madyn.dataset.files import root_path, storage_error, write_bytes
from madyn.dataset.shipped import shipped_names, unpack_shipped
from madyn.errors import DatasetError
from madyn.hub import hub_errors

_URL = re.compile(r"hf://datasets/(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?/?")
_NAME = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[\w.-]+)(?:@(?P<revision>\S+))?")
_ORIGIN = ".fetched-from"  # in a folder that was fetched whole: what it was fetched from
_WANTED = [
    "*.csv",
    "README.md",
    "LICENSE",
    "*/stats/*",
    "*/params/*.json",
    "manifest/*",
    "locations/*",
    "positions/*",
    "training/*",
]


def locate(dataset: str | Path, *, into: Path | None = None) -> Path:
    """The folder of a dataset that exists: the path itself, or where a dataset of the Hub was fetched to.

    Args:
        dataset: a folder, `hf://datasets/OWNER/NAME[@REVISION]`, `OWNER/NAME`, or the name of a dataset that comes with
            madyn. A folder of that name comes first.
        into: the folder to bring a dataset that is not in one into, once; a cache if None.

    Raises:
        DatasetError: there is no such folder, or no such dataset on the Hub, or the Hub cannot be reached, or `into`
            holds something else.
        StorageError: what was fetched cannot be written.
    """
    if is_shipped(dataset):
        return unpack_shipped(str(dataset), into)
    remote = match_remote(dataset)
    if remote is None:
        root = root_path(dataset)
        if not root.is_dir():
            raise DatasetError(
                f"{dataset}: no such folder, not the name of a dataset on the Hub (OWNER/NAME), and none that comes "
                f"with madyn ({', '.join(shipped_names())})"
            )
        return root
    return _fetch(*remote) if into is None else _fetch_into(into, *remote)


def _fetch_into(folder: Path, repo: str, revision: str | None) -> Path:
    origin = f"{repo}@{revision or 'main'}"
    marker = folder / _ORIGIN
    if marker.exists():
        held = marker.read_text()
    elif (folder / ".cache" / "huggingface").exists():
        held = None  # the Hub client's records of a fetch that was stopped
    else:
        held = "something else" if folder.is_dir() and any(folder.iterdir()) else None
    if held == origin:
        return folder
    if held is not None:
        raise DatasetError(
            f"{folder} is there already and holds {held}, not {origin}: fetch into another folder with --out, or give "
            "the folder in place of the name if it is what you mean"
        )
    _fetch(repo, revision, folder)
    write_bytes(marker, origin.encode())
    return folder


def _fetch(repo: str, revision: str | None, folder: Path | None = None) -> Path:
    from huggingface_hub import constants, snapshot_download

    try:
        with hub_errors(f"there is no folder {repo}; on the Hub, dataset {repo}", DatasetError):
            return Path(
                snapshot_download(
                    repo, repo_type="dataset", revision=revision, allow_patterns=_WANTED, local_dir=folder
                )
            )
    except OSError as e:
        raise storage_error(folder or Path(constants.HF_HUB_CACHE), e) from e


def is_shipped(dataset: str | Path) -> bool:
    """Whether a name means a dataset that comes with madyn. A folder of that name comes first."""
    return isinstance(dataset, str) and dataset in shipped_names() and not Path(dataset).exists()


def match_remote(dataset: str | Path) -> tuple[str, str | None] | None:
    """The repository and revision that a name means on the Hub, or None for a local folder."""
    text = str(dataset)
    if isinstance(dataset, Path) and not text.startswith("hf:"):
        return None
    if "://" in text and not text.startswith("hf:"):
        return None
    match = _URL.fullmatch(text) or (None if Path(text).exists() else _NAME.fullmatch(text))
    if text.startswith("hf:") and match is None:
        raise DatasetError(f"{text}: not a dataset's address; it reads hf://datasets/OWNER/NAME, @REVISION if needed")
    return (match["repo"], match["revision"]) if match else None
