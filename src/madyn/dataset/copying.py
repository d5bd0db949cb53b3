"""A dataset brought into a folder of the user's, to be written to there.

Caches are shared with other programs and never change, so what is made of a dataset of the Hub, or of one that comes
with madyn, goes to a folder that the user names, with the data it was made from; likewise what is made of a folder and
is to lie elsewhere. It is brought there once: a file in the folder says from where, and what its owner then writes is
not written over.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from madyn.dataset import layout
from madyn.dataset.files import create_bytes, is_local, read_bytes, root_path, write_bytes
from madyn.dataset.remote import fetch, is_shipped, locate, match_remote
from madyn.dataset.shipped import shipped_version, unpack_into
from madyn.errors import DatasetError, StorageError
from madyn.terminal import note

_ORIGIN = ".fetched-from"
_BEGUN = ".being-fetched-from"  # there until all of a dataset of the Hub is
_LONGEST = 10_000  # bytes of either
_MADE = ("*/params/*", layout.PARAMETER_TABLE)  # what fits make: the copy has its own


def bring(dataset: str | Path, out: str | Path) -> Path:
    """Bring a dataset into a folder, which is given back.

    What lay in the folder since an earlier time stays; of a dataset that lies in a folder itself, what was measured
    since then is added.

    Raises:
        DatasetError: there is no such dataset, or the folder holds something else.
        StorageError: the folder cannot be written.
    """
    folder = root_path(out)
    shipped, remote = is_shipped(dataset), match_remote(dataset)
    if shipped:
        origin = shipped_version(str(dataset))
    else:
        origin = f"{remote[0]}@{remote[1] or 'main'}" if remote else str(locate(dataset).absolute())
    held = _held(folder, origin)
    if held not in (None, origin):
        raise DatasetError(
            f"{folder} is there already and holds {held}, not {origin}: give another folder with --out, or give this "
            "folder in place of the name if it is what you mean"
        )
    if (shipped or remote) and not is_local(folder):
        raise DatasetError(f"{folder}: {dataset} is copied into a folder of this machine alone: give one with --out")
    if shipped and held is None:
        try:
            unpack_into(folder, str(dataset), {_ORIGIN: origin.encode()})
        except StorageError:
            if _held(folder, origin) != origin:  # else another process was first
                raise
    elif remote is not None and held is None:
        write_bytes(folder / _BEGUN, origin.encode())
        fetch(*remote, folder)
    if held is None:
        write_bytes(folder / _ORIGIN, origin.encode())
        with suppress(OSError):
            (folder / _BEGUN).unlink(missing_ok=True)
        note(f"{dataset} is copied to {folder}, where what is made of it is written")
    if not shipped and remote is None:
        _copy(locate(dataset), folder)
    return folder


def _said(path: Path) -> str:
    return read_bytes(path, _LONGEST).decode(errors="replace")


def _held(folder: Path, origin: str) -> str | None:
    """What a folder holds, None for nothing or a fetch of it that was stopped."""
    if (folder / _ORIGIN).exists():
        return _said(folder / _ORIGIN)
    if (folder / _BEGUN).exists():
        return None if _said(folder / _BEGUN) == origin else f"a part of {_said(folder / _BEGUN)}"
    if (folder / ".cache" / "huggingface").exists():
        return None  # the Hub client's records of a fetch that was stopped
    return "something else" if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) else None


def _copy(source: Path, folder: Path) -> None:
    for pattern in (*layout.PACKED, *_MADE):
        for path in sorted(p for p in source.glob(pattern) if p.is_file() and not layout.is_hidden(source, p)):
            target = layout.inside(folder, folder.joinpath(*path.relative_to(source).parts))
            data = layout.inside(source, path).read_bytes()
            if pattern in _MADE:
                create_bytes(target, data)  # what is made here stays, also what another process makes just now
            elif not target.exists() or target.read_bytes() != data:
                write_bytes(target, data)
