"""What a word names that may be a path here or a repository of the Hub: told by its form, before anybody is asked.

A path with a typo in it looks like `OWNER/NAME`. Asked of the Hub it costs half a minute and ends in advice to log in;
and a company's folder names are nobody else's. So what has the form of a path is one, and if it is not there that is
said at once, with what is there and is spelt alike.
"""

from __future__ import annotations

import errno
import os
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

_SUFFIXES = frozenset(
    (".bin", ".csv", ".gguf", ".gz", ".h5", ".json", ".jsonl", ".md", ".npy", ".npz", ".onnx", ".parquet", ".pickle",
     ".pkl", ".pt", ".pth", ".py", ".safetensors", ".tar", ".tgz", ".toml", ".tsv", ".txt", ".xz", ".yaml", ".yml",
     ".zip", ".zst")
)  # fmt: skip
_LOOKED_AT = 10_000  # names of a folder
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR)


def exists(name: str | Path) -> bool:
    """Whether there is a file or folder of this name. No name that a file cannot have is an error."""
    return _reason(name) is None


def means_path(name: str | Path) -> bool:
    """Whether a word that names no URL means a file or folder of this machine, there or not: by its form.

    One does that begins with `.`, `~` or `/`, has more than one `/` or one at its end, has a suffix of files, lies in a
    folder that is there, or is there itself.

    >>> [means_path(n) for n in ("./x", "a/b/c", "book.txt", "~/x", "gpt2", "EleutherAI/pythia-1.4b", "s3://a/b")]
    [True, True, True, True, False, False, False]
    """
    if isinstance(name, Path):
        return True
    if "://" in name:
        return False
    owner, slash, _ = name.partition("/")
    return (
        name.startswith((".", "~", "/"))
        or name.count("/") > 1
        or name.endswith("/")
        or (os.sep == "\\" and os.sep in name)
        or Path(name).suffix.lower() in _SUFFIXES
        or bool(slash and exists(owner))
        or _reason(name) not in _NOT_THERE
    )


def describe_missing(name: str | Path) -> str:
    """Why a path cannot be had, and what is beside it and spelt alike: "no such folder or file; there is runs/a"."""
    reason = _reason(name)
    if isinstance(reason, str):
        return reason
    if reason not in (None, *_NOT_THERE):
        return f"cannot be read: {os.strerror(reason)}"
    near = _alike(Path(name))
    return "no such folder or file" + (f"; there is {' and '.join(near)}" if near else "")


def _reason(name: str | Path) -> int | str | None:
    """Why a file cannot be looked at: an error number, or words; None where it can."""
    try:
        Path(name).stat()
    except OSError as e:
        return e.errno or errno.EIO
    except ValueError:
        return "no name that a file can have"
    return None


def _alike(path: Path) -> list[str]:
    """What is in the deepest folder of a path that is there, and is spelt like what is not."""
    missing = path
    while not exists(missing.parent):
        missing = missing.parent
    try:
        with os.scandir(missing.parent) as entries:
            names = [entry.name for entry in islice(entries, _LOOKED_AT)]
    except OSError:
        return []
    rest = path.relative_to(missing)
    near = (missing.parent / name / rest for name in get_close_matches(missing.name, names, 3))
    return [str(one) for one in near if exists(one)]
