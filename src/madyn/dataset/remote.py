"""Where a dataset lies: a folder, the Hub, or the package itself.

The published dataset is 2 GB, nearly all of it pictures that can be drawn again; only the rest is fetched. Reading goes
through caches; `copying` brings a dataset that is to be written to into a folder.

The bare name of a dataset that comes with madyn always means that dataset, whatever the working directory holds, so
that one command gives one answer everywhere; a folder of that name is `./NAME`.
"""

from __future__ import annotations

import re
from pathlib import Path

from madyn.dataset.files import is_folder, is_local, root_path, storage_error
from madyn.dataset.shipped import shipped_names, unpack_shipped
from madyn.errors import DatasetError, one_line
from madyn.hub import hub_errors
from madyn.paths import describe_missing, exists, means_path
from madyn.terminal import note

_URL = re.compile(r"hf://datasets/(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?/?")
_NAME = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[\w.-]+)(?:@(?P<revision>\S+))?")
_OTHER = "not the name of a dataset on the Hub (OWNER/NAME), none that comes with madyn ({}), and "
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
    "monitor/*",
    "intervention/*",
    "throughput.json",
]


def locate(dataset: str | Path) -> Path:
    """The folder of a dataset that exists: the path itself, or where a dataset from elsewhere lies in a cache.

    Args:
        dataset: a folder, `hf://datasets/OWNER/NAME[@REVISION]`, `OWNER/NAME` (where no such folder is), or the name of
            a dataset that comes with madyn, which a `Path` and `./NAME` never are.

    Raises:
        DatasetError: there is no such folder, or no such dataset on the Hub, or the Hub cannot be reached.
        StorageError: what was fetched cannot be written.
    """
    if is_shipped(dataset):
        if Path(dataset).is_dir():
            note(f"{dataset} is the dataset that comes with madyn; the folder of that name here is ./{dataset}")
        return unpack_shipped(str(dataset))
    remote = match_remote(dataset)
    if remote is None:
        root = root_path(dataset)
        if is_local(root) and not exists(root):
            other = "" if means_path(str(dataset)) else _OTHER.format(", ".join(shipped_names()))
            raise DatasetError(f"{one_line(dataset)}: {other}{describe_missing(root)}")
        if not is_folder(root):
            raise DatasetError(f"{dataset}: {'a file' if is_local(root) else 'nothing there'}; a dataset is a folder")
        return root
    return fetch(*remote)


def fetch(repo: str, revision: str | None, folder: Path | None = None) -> Path:
    """Fetch what is wanted of a dataset of the Hub into a folder, or into the Hub's cache."""
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
    """Whether a name means a dataset that comes with madyn."""
    return isinstance(dataset, str) and dataset in shipped_names()


def match_remote(dataset: str | Path) -> tuple[str, str | None] | None:
    """The repository and revision that a name means on the Hub, or None for a local folder."""
    text = str(dataset)
    if isinstance(dataset, Path) and not text.startswith("hf:"):
        return None
    if "://" in text and not text.startswith("hf:"):
        return None
    local = exists(text) or means_path(text.partition("@")[0])
    match = _URL.fullmatch(text) or (None if local else _NAME.fullmatch(text))
    if text.startswith("hf:") and match is None:
        raise DatasetError(f"{text}: not a dataset's address; it reads hf://datasets/OWNER/NAME, @REVISION if needed")
    return (match["repo"], match["revision"]) if match else None
