"""Documents from any text source.

A source is a name: `stdlib` (the Python standard library's own sources, present on every machine, the default),
`redpajama` (the sample the paper drew from), a file (`.jsonl`, `.jsonl.gz`, or anything else as plain text; UTF-8, or
UTF-16 and UTF-32 that begin with their mark), or a text dataset of the Hub (`OWNER/NAME?config=C&split=S&column=T`).
Any of them may end in `#train` or `#held-out`, which splits the documents by a hash of their content, so that what a
model is probed with can be kept out of what it learns. A file whose name has a `#` in it is read as it is called.

A new source is one entry in `_SOURCES`.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import json
import os
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import parse_qsl

from madyn.errors import MOST_SEED, TextError, UsageError, check_range, one_line
from madyn.hub import hub_errors
from madyn.paths import describe_missing, exists, means_path
from madyn.regular import open_gzip, open_regular
from madyn.settings import PAPER_DOCUMENTS

REDPAJAMA = "togethercomputer/RedPajama-Data-1T-Sample"

_HELD_OUT_SHARE = 20  # one document in so many is held out
BLANK_LINE = "\n\n"


@dataclass(frozen=True)
class Text:
    """Documents drawn from a source.

    Attributes:
        source: the name they were asked for by.
        documents: in the order drawn.
        seed: the seed of the drawing.
    """

    source: str
    documents: tuple[str, ...]
    seed: int

    @property
    def content(self) -> str:
        """The documents joined by a blank line, as the paper joins them."""
        return BLANK_LINE.join(self.documents)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content.encode()).hexdigest()


def read_text(source: str, documents: int | None = PAPER_DOCUMENTS, seed: int = 0) -> Text:
    """Draw documents from a source, at random without replacement.

    Args:
        source: a name, a file or a dataset of the Hub, as this module's docstring says.
        documents: how many; all, in the source's own order, if None. A source that has fewer gives all it has.
        seed: of the drawing.

    Raises:
        TextError: the source cannot be read or holds no text.
        UsageError: the part after `#` is neither `train` nor `held-out`, and no file is called so.
    """
    if documents is not None and documents < 1:
        raise UsageError(f"documents is {documents}; at least one is needed")
    check_range("seed", seed, 0, MOST_SEED)
    name, part = _name_and_part(source)
    read = _reader_of(name)
    if part:
        kept = [d for d in read(name, None, seed) if _held_out(d) == (part == "held-out")]
        found = [kept[i] for i in _draw(len(kept), documents, seed)]
    else:
        found = read(name, documents, seed)
    if not any(d.strip() for d in found):
        raise TextError(f"{source}: no text in it")
    return Text(source, tuple(found), seed)


def refuse_no_source(source: str) -> None:
    """Refuse a name that no text can be read by, such as a path with a typo: before models are looked at for its sake.

    Nothing is read, and nobody asked: a source that passes may still turn out to hold no text.

    Raises:
        TextError, UsageError: as `read_text` would.
    """
    name, _ = _name_and_part(source)
    read = _reader_of(name)
    if read is _refuse_path:
        read(name, None, 0)
    elif read is _hub_dataset:
        _parse_dataset(name)


def _reader_of(name: str) -> Callable[[str, int | None, int], list[str]]:
    return next(read for applies, read in _SOURCES if applies(name))


def is_here(source: str) -> bool:
    """Whether a source can be read without a download."""
    name, _ = _name_and_part(source)
    return name == "stdlib" or _is_file(name)


def _name_and_part(source: str) -> tuple[str, str]:
    """A source and the part that is asked of it. A file that is there is meant before a part is."""
    name, mark, part = source.rpartition("#")
    if not mark or _is_file(source):
        return source, ""
    if part not in ("", "train", "held-out"):
        raise UsageError(f"{source}: {part!r} is no part of a text; it is #train or #held-out, or a file is missing")
    return name, part


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # no name that a file can have
        return False


def _held_out(document: str) -> bool:
    return hashlib.sha256(document.encode()).digest()[0] % _HELD_OUT_SHARE == 0


def _draw(available: int, documents: int | None, seed: int) -> Sequence[int]:
    import numpy as np

    if documents is None:
        return range(available)
    rng = np.random.default_rng(seed)
    return [int(i) for i in rng.permutation(available)[:documents]]


def _standard_library(name: str, documents: int | None, seed: int) -> list[str]:
    root = Path(sysconfig.get_paths()["stdlib"])
    passed_over = {"site-packages", "dist-packages", "__pycache__", "test", "tests"}  # Debian ships no tests
    files = []
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f not in passed_over]
        files += [Path(folder) / name for name in names if name.endswith(".py")]
    files.sort()
    found = []
    for index in _draw(len(files), documents, seed):
        try:
            found.append(files[index].read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            continue  # a few sources are there to test other encodings
        except OSError as e:
            raise TextError(f"{files[index]}: cannot be read: {e.strerror}") from e
    return found


def _redpajama(name: str, documents: int | None, seed: int) -> list[str]:
    # Its loading script is not run by current versions of `datasets`; its JSONL files (5 GB) are read directly.
    from huggingface_hub import snapshot_download

    try:
        with hub_errors(f"text {REDPAJAMA}", TextError):
            folder = snapshot_download(REDPAJAMA, repo_type="dataset", allow_patterns="*.jsonl")
    except OSError as e:
        raise TextError(f"text {REDPAJAMA} cannot be fetched: {e}") from e
    return _from_jsonl(sorted(Path(folder).glob("*.jsonl")), documents, seed)


def _jsonl_file(name: str, documents: int | None, seed: int) -> list[str]:
    return _from_jsonl([Path(name)], documents, seed)


def _from_jsonl(files: Sequence[Path], documents: int | None, seed: int) -> list[str]:
    """Two passes, one to count and one to read, so that a file of any size needs little memory."""
    available = sum(1 for _ in _lines(files))
    order = list(_draw(available, documents, seed))
    wanted = set(order)
    found = {i: _text_field(*place) for i, place in enumerate(_lines(files)) if i in wanted}
    return [found[i] for i in order]


def _lines(files: Sequence[Path]) -> Iterator[tuple[Path, int, str]]:
    for path in files:
        try:
            with _open(path) as file:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield path, number, line
        except (OSError, EOFError, ValueError) as e:
            raise TextError(f"{path}: cannot be read: {_reason(e)}") from e


def _reason(e: Exception) -> str:
    return (e.strerror if isinstance(e, OSError) else None) or one_line(e)


# The longer marks first: that of UTF-32 begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def _open(path: Path) -> IO[str]:
    """A text file, unpacked where it is packed, read as the mark at its start says, and as UTF-8 without one."""
    opened = open_gzip if path.suffix.lower() == ".gz" else open_regular
    with opened(path) as file:
        start = file.read(4)
    encoding = next((name for mark, name in _MARKS.items() if start.startswith(mark)), "utf-8")
    return io.TextIOWrapper(opened(path), encoding=encoding)


def _text_field(path: Path, number: int, line: str) -> str:
    try:
        value = json.loads(line)["text"]
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise TextError(f'{path}, line {number}: not a JSON object with a "text"') from e
    if not isinstance(value, str):
        raise TextError(f'{path}, line {number}: its "text" is not a string')
    try:
        value.encode()
    except UnicodeEncodeError as e:
        raise TextError(f'{path}, line {number}: its "text" is not Unicode text ({e.reason})') from e
    return value


def _text_file(name: str, documents: int | None, seed: int) -> list[str]:
    try:
        with _open(Path(name)) as file:
            content = file.read()
    except (OSError, EOFError, ValueError) as e:
        raise TextError(f"{name}: cannot be read as UTF-8 text: {_reason(e)}") from e
    if "\0" in content:
        raise TextError(f"{name}: no text, or UTF-16 without its mark: it holds NUL characters")
    return [content]


def _is_no_file(name: str) -> bool:
    return not _is_file(name) and (exists(name) or means_path(name.partition("?")[0]))


def _refuse_path(name: str, documents: int | None, seed: int) -> list[str]:
    what = "a folder, or no regular file; a text file is needed" if exists(name) else describe_missing(name)
    raise TextError(f"{name}: {what}")


def _hub_dataset(name: str, documents: int | None, seed: int) -> list[str]:
    import datasets
    from datasets.exceptions import DatasetsError

    repo, config, split, column = _parse_dataset(name)
    try:
        with hub_errors(f"text {repo}", TextError):
            table = datasets.load_dataset(repo, config, split=split)
    except (OSError, ValueError, RuntimeError, DatasetsError) as e:
        # Where a file cannot be parsed, `datasets` says only that, and the cause says why.
        reason = f"{e}: {e.__cause__}" if e.__cause__ else str(e) or type(e).__name__
        raise TextError(f"text {repo}: {one_line(reason)}") from e
    if column not in table.column_names:
        raise TextError(f"text {repo}: no column {column!r}; it has {', '.join(table.column_names)}; add ?column=NAME")
    return [str(table[i][column]) for i in _draw(len(table), documents, seed)]


def _parse_dataset(name: str) -> tuple[str, str | None, str, str]:
    """The repository, config, split and column of a dataset of the Hub. Raises TextError where it is none."""
    repo, _, query = name.removeprefix("hf://datasets/").partition("?")
    options = dict(parse_qsl(query))
    column = options.pop("column", "text")
    config, split = options.pop("config", None), options.pop("split", "train")
    if options or repo.count("/") != 1:
        raise TextError(
            f"{name}: neither a known text source ({', '.join(_NAMED)}), nor a file, nor a dataset of the Hub as "
            "OWNER/NAME?config=C&split=S&column=T"
        )
    return repo, config, split, column


_NAMED: dict[str, Callable[[str, int | None, int], list[str]]] = {"stdlib": _standard_library, "redpajama": _redpajama}

# In the order tried: does this reader apply to the name, and the reader.
_SOURCES: list[tuple[Callable[[str], bool], Callable[[str, int | None, int], list[str]]]] = [
    *((name.__eq__, read) for name, read in _NAMED.items()),
    (_is_no_file, _refuse_path),
    (lambda name: name.lower().endswith((".jsonl", ".jsonl.gz")), _jsonl_file),
    (_is_file, _text_file),
    (lambda name: True, _hub_dataset),
]
