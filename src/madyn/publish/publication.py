"""`publish_dataset`: a dataset's files, its tables and its card in one folder, shown first and uploaded when told to.

A dry run makes all of it and asks nobody; it says what would be sent. Whatever is made is made beside the dataset's own
folder, which stays as it is.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from madyn.checking.records import Records
from madyn.dataset import Dataset, layout, open_dataset
from madyn.dataset.exporting import TABLE_NAMES, write_parquet
from madyn.dataset.files import is_local, is_there, read_bytes, root_path, storage_error
from madyn.dataset.partial import making_folder
from madyn.errors import DatasetError, StorageError, UsageError, missing_dependency, one_of
from madyn.publish.card import NAME, check_license, make_card
from madyn.publish.contents import TABLES, files_to_publish, records_of, sources_on_this_machine
from madyn.publish.facts import gather
from madyn.publish.uploading import CardChoice, Upload, check_repository, choose_card, upload
from madyn.terminal import counted, few

_MOST_CARD = 1 << 22  # bytes


@dataclass(frozen=True)
class Publication:
    """What was published, or would be.

    Attributes:
        repo: OWNER/NAME.
        files: their sizes in bytes, by path.
        card: the text of README.md.
        notes: what is worth knowing before others see it, a sentence each.
        out: the folder that was kept, where one was asked for.
        upload: what became of it; None for a dry run.
    """

    repo: str
    files: dict[str, int]
    card: str
    notes: list[str] = field(default_factory=list)
    out: Path | None = None
    upload: Upload | None = None


def publish_dataset(
    dataset: str | Path | Dataset,
    repo: str,
    *,
    send: bool = False,
    public: bool = False,
    license: str | None = None,
    title: str | None = None,
    card: CardChoice | None = None,
    pictures: bool = True,
    out: str | Path | None = None,
) -> Publication:
    """Publish a dataset on the Hub, or say what would be published.

    Args:
        dataset: as for `open_dataset`.
        repo: OWNER/NAME. A repository that is there gets what is new; nothing on it is deleted.
        send: upload it; without, nothing leaves this machine and the Hub is not asked.
        public: for all to see, where the repository is made; private otherwise. One that is there stays as it is.
        license: the Hub's short name of it, mit if not given.
        title: of the card; else the repository's name.
        card: what becomes of a README.md, in the dataset's folder or on the Hub, that madyn did not write: "keep" or
            "replace".
        pictures: publish those that were drawn.
        out: a folder to keep what is published in, in place of what an earlier call left there.

    Raises:
        UsageError: an argument cannot be, there is no token, or a README.md of somebody's is in the way.
        DatasetError: there is no such dataset, nothing in it was measured, or something in it is damaged.
        StorageError: a folder cannot be written; the Hub refuses or cannot be reached.
        MissingDependencyError: pyarrow is not installed.

    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> import madyn
    >>> root = Path(mkdtemp())
    >>> (root / "tiny" / "stats").mkdir(parents=True)
    >>> values = "[[[9.0], [2.0], [1.5], [0.5]]]"  # sequences x (top1, top2, top3, median) x layers
    >>> for step in (0, 1000):
    ...     written = (root / "tiny" / "stats" / f"exp2_tiny_step{step}").write_text(values)
    >>> publication = madyn.publish.publish_dataset(
    ...     root, "OWNER/NAME"
    ... )  # says what it would send, and sends nothing
    >>> "README.md" in publication.files
    True
    """
    check_repository(repo)
    if card is not None:
        one_of("card", card, ("keep", "replace"))
    opened = open_dataset(dataset)
    if not opened.models:
        raise DatasetError(f"{opened.path}: nothing in it was measured; see `madyn show {opened.path}`")
    given = _license(opened, license)
    files = files_to_publish(opened, pictures)
    records = records_of(opened)
    if out is not None and is_local(root_path(out)):
        _refuse_inside(root_path(out), opened.path)
    with _folder(out, files) as folder:
        made = _made(folder, opened, records, repo, files, given, title, card)
        if send or out is not None:
            for name, path in files.items():
                _put(path, folder / name, link=out is None)
        sizes = {name: path.stat().st_size for name, path in {**files, **made}.items()}
        text = made[NAME].read_text(encoding="utf-8")
        done = upload(folder, repo, public=public, choice=card) if send and out is None else None
    if send and out is not None:
        done = upload(root_path(out), repo, public=public, choice=card)
    notes = _notes(records, sizes, text, done)
    return Publication(repo, dict(sorted(sizes.items())), text, notes, None if out is None else root_path(out), done)


def _license(dataset: Dataset, license: str | None) -> str:
    """The licence asked for, or MIT; none is guessed from a text that is there."""
    if license is not None:
        return check_license(license)
    path = dataset.path / "LICENSE"
    if is_there(path) and "MIT License" not in read_bytes(path, _MOST_CARD).decode(errors="replace"):
        raise UsageError(f"{path} is not the MIT licence: say with --license which one it is (apache-2.0, say)")
    return "mit"


def _refuse_inside(folder: Path, root: Path) -> None:
    if folder.resolve().is_relative_to(root.resolve()):
        raise UsageError(f"{folder} lies in the dataset, which stays as it is: give another folder with --out")


@contextmanager
def _folder(out: str | Path | None, files: Mapping[str, Path]) -> Iterator[Path]:
    """The folder to fill: the one asked for, all or nothing of it and in place of an earlier one; or one that goes."""
    try:
        if out is None:
            with tempfile.TemporaryDirectory(prefix="madyn-publish-") as name:
                yield Path(name)
            return
        folder = root_path(out)
        made = {NAME, *(f"{TABLES}/{name}.parquet" for name in TABLE_NAMES)}
        other = sorted(set(_files_in(folder)) - set(files) - made)
        if other:
            raise StorageError(f"{folder} holds {other[0]!r}, which is no part of this publication: give another --out")
        with making_folder(folder, replace=True) as partial:
            yield partial
    except ModuleNotFoundError as e:
        raise missing_dependency(e) from e
    except StorageError:
        raise
    except OSError as e:
        raise storage_error(Path(tempfile.gettempdir()) if out is None else root_path(out), e) from e


def _files_in(folder: Path) -> list[str]:
    if not is_local(folder):
        raise UsageError(f"{folder}: what is published is kept in a folder of this machine; give one with --out")
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()]


def _made(
    folder: Path,
    dataset: Dataset,
    records: Mapping[str, Records],
    repo: str,
    files: Mapping[str, Path],
    license: str,
    title: str | None,
    choice: CardChoice | None,
) -> dict[str, Path]:
    """The card and the tables, written into a folder: their paths by name."""
    tables = folder / TABLES
    tables.mkdir()
    rows, _ = write_parquet(dataset, tables)
    mine = make_card(repo, gather(dataset, records, tables, rows, files), license, title)
    own = dataset.path / NAME
    there = read_bytes(own, _MOST_CARD).decode("utf-8", "replace") if is_there(own) else None
    text = choose_card(mine, there, str(dataset.path), choice)
    (folder / NAME).write_text(text, encoding="utf-8", newline="\n")
    return {NAME: folder / NAME, **{f"{TABLES}/{name}": tables / name for name in rows}}


def _put(path: Path, target: Path, link: bool) -> None:
    """A file under another name: a link where that will do, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        with suppress(OSError, NotImplementedError):  # Windows makes none for everybody
            target.symlink_to(path.resolve())
            return
    shutil.copyfile(path, target)


def _notes(records: Mapping[str, Records], sizes: Mapping[str, int], text: str, done: Upload | None) -> list[str]:
    notes = []
    sources = sources_on_this_machine(records)
    if sources:
        notes.append(f"the manifests name paths of your machine as sources: {few(sources, 3)}")
    if "configs:" not in text.partition("\n---")[0]:
        notes.append(f"the {NAME} that is kept names no `configs`: the Hub and `load_dataset` will not find the tables")
    if layout.PARAMETER_TABLE not in sizes:
        notes.append("there is no parameter table; `madyn fit` makes one")
    if not any(name.endswith(".png") for name in sizes):
        notes.append("there are no pictures; `madyn figures` draws them")
    if done is not None and done.others:
        what = counted(len(done.others), "file")
        notes.append(f"{what} on the Hub are none of this dataset's, and stay: {few(done.others, 3)}")
    return notes
