"""A folder brought to the Hub, by the Hub's own client, so that what was stopped goes on.

The client hashes and sends what the Hub lacks and commits in parts; what is there already, from a run that was cut
short or from an earlier publication, is not sent again. Nothing is ever deleted on the Hub. Afterwards the Hub is asked
what it has, and that is held against the folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from madyn import __version__
from madyn.errors import MadynError, StorageError, UsageError, first_line, quoted
from madyn.hub import hub_errors, retrying
from madyn.publish.card import NAME, is_own
from madyn.terminal import few, is_quiet

CardChoice = Literal["keep", "replace"]

_AGAIN = "run the same command again: what has arrived is not sent a second time"


@dataclass(frozen=True)
class Upload:
    """What became of an upload: where it is, the last commit, whether the repository was made for it, and which files
    were there already and are none of this dataset's."""

    url: str
    commit: str
    created: bool
    others: list[str]


def check_repository(repo: str) -> str:
    """OWNER/NAME as the Hub takes it. Raises UsageError where it is none."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # pyright: ignore[reportPrivateImportUsage]

    if not isinstance(repo, str) or repo.count("/") != 1 or not all(repo.split("/")):
        raise UsageError(f"{quoted(repo)} is not the name of a dataset on the Hub; it reads OWNER/NAME")
    try:
        validate_repo_id(repo)
    except HFValidationError as e:
        raise UsageError(f"{quoted(repo)} is not the name of a dataset on the Hub (OWNER/NAME): {first_line(e)}") from e
    return repo


def choose_card(mine: str, there: str | None, where: str, choice: CardChoice | None) -> str:
    """The card to go by, of a new one and of one that is there already.

    Raises:
        UsageError: somebody has written or edited that one, and nobody says what is to become of it.
    """
    if there is None or is_own(there) or there == mine or choice == "replace":
        return mine
    if choice == "keep":
        return there
    raise UsageError(
        f"{where} has a {NAME} that madyn did not write, or that was edited: --card keep leaves it as it is, --card "
        "replace writes a new one in its place"
    )


def upload(folder: Path, repo: str, *, public: bool, choice: CardChoice | None) -> Upload:
    """Bring a folder to the Hub as a dataset; a repository that is not there is made, private unless `public`.

    Raises:
        UsageError: there is no token, or a card is there that is somebody's own, or the Hub refuses the card.
        StorageError: the Hub refuses it, or cannot be reached.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.utils import disable_progress_bars

    if get_token() is None:
        raise UsageError("there is no token for the Hub: `hf auth login` with one that may write, or set HF_TOKEN")
    if is_quiet():
        disable_progress_bars()
    api = HfApi(library_name="madyn", library_version=__version__)
    before = _asked(repo, lambda: _listed(api, repo))
    if before is None:
        _asked(repo, lambda: api.create_repo(repo, repo_type="dataset", private=not public, exist_ok=True))
    kept = _keeps_card(api, repo, folder, choice) if before and NAME in before else False
    info = _asked(repo, lambda: _send(api, folder, repo, kept))
    after = _asked(repo, lambda: _listed(api, repo)) or {}
    ours = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    _refuse_missing(repo, {n: p.stat().st_size for n, p in ours.items() if not (kept and n == NAME)}, after)
    others = sorted(set(after) - set(ours) - {".gitattributes", NAME})
    return Upload(f"{api.endpoint}/datasets/{repo}", info.oid, before is None, others)


def _asked(repo: str, call: Callable[[], Any]) -> Any:
    """What the Hub's client gives; its faults in one line."""
    try:
        with hub_errors(f"dataset {repo}", StorageError, access="write to"):
            return retrying(call)
    except MadynError as e:
        if isinstance(e, StorageError) and "could not be reached" in str(e):
            raise StorageError(f"{e}; {_AGAIN}") from e
        raise
    except Exception as e:  # of a client that wraps its own, and of its engine, which has others
        raise StorageError(f"dataset {repo}: the upload stopped ({first_line(e)}); {_AGAIN}") from e


def _listed(api: Any, repo: str) -> dict[str, int] | None:
    """The files that the Hub has, and their sizes; None where it has no such repository."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        found = api.list_repo_tree(repo, repo_type="dataset", recursive=True)
        return {one.path: one.size for one in found if hasattr(one, "size")}
    except RepositoryNotFoundError:
        return None


def _keeps_card(api: Any, repo: str, folder: Path, choice: CardChoice | None) -> bool:
    """Whether the card on the Hub stays."""
    there = _asked(repo, lambda: Path(api.hf_hub_download(repo, NAME, repo_type="dataset")).read_text("utf-8"))
    mine = (folder / NAME).read_text(encoding="utf-8")
    return choose_card(mine, there, f"https://huggingface.co/datasets/{repo}", choice) != mine


def _send(api: Any, folder: Path, repo: str, kept: bool) -> Any:
    try:
        return api.upload_folder(
            repo_id=repo,
            repo_type="dataset",
            folder_path=folder,
            ignore_patterns=[NAME] if kept else None,
            commit_message=f"Publish with madyn {__version__}",
        )
    except RuntimeError as e:  # which the client wraps what stopped a file in
        raise e.__cause__ or e from None
    except json.JSONDecodeError as e:  # a proxy's page, or nothing, in place of an answer
        raise ConnectionError("it answered, and not in JSON") from e
    except ValueError as e:
        if "metadata in README.md" in str(e):
            raise UsageError(f"dataset {repo}: the Hub refuses the card: {' '.join(str(e).split())}") from e
        raise


def _refuse_missing(repo: str, ours: Mapping[str, int], there: Mapping[str, int]) -> None:
    wrong = [name for name, size in ours.items() if there.get(name) != size]
    if wrong:
        raise StorageError(
            f"dataset {repo}: the Hub has not {few(wrong)} as they are here; see whether a .gitignore there names "
            "them, and run the same command again"
        )
