"""What `madyn publish` says."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from madyn.terminal import console, counted, data_size, is_verbose, note, print_table

if TYPE_CHECKING:
    from madyn.publish import Publication


def publication_record(publication: Publication) -> dict[str, Any]:
    """What was published, or would be.

    Returns:
        repo; uploaded, whether it was; url, commit and created (of the repository), null for a dry run; files, for
        each: file, bytes; bytes of all; card, its text; notes, a list of sentences; out, the folder that was kept, or
        null.
    """
    done = publication.upload
    return {
        "repo": publication.repo,
        "uploaded": done is not None,
        "url": done and done.url,
        "commit": done and done.commit,
        "created": done and done.created,
        "bytes": sum(publication.files.values()),
        "files": [{"file": name, "bytes": size} for name, size in publication.files.items()],
        "card": publication.card,
        "notes": publication.notes,
        "out": publication.out and str(publication.out),
    }


def print_publication(publication: Publication, public: bool) -> None:
    """The files by folder, or with -v one by one; the card of a dry run; where it is, or how to upload it."""
    files, done = publication.files, publication.upload
    size = data_size(sum(files.values()))
    title = f"{'published' if done else 'to publish'}: {counted(len(files), 'file')}, {size}"
    if is_verbose():
        print_table(title, ["file", "size"], [[name, data_size(size)] for name, size in files.items()], left=["file"])
    else:
        folders: dict[str, list[int]] = defaultdict(list)
        for name, count in files.items():
            folders[_folder(name)].append(count)
        rows = [[name, len(sizes), data_size(sum(sizes))] for name, sizes in folders.items()]
        print_table(title, ["what", "files", "size"], rows, left=["what"])
    if done is None:
        console.print("the card (README.md):", style="bold")
        console.print(publication.card)
    for sentence in publication.notes:
        note(sentence)
    if publication.out is not None:
        console.print(f"written: {publication.out}")
    if done is None:
        console.print(
            f"nothing was uploaded; --upload sends it to {publication.repo}, where a new repository is "
            f"{'public' if public else 'private unless --public is given'}"
        )
    else:
        made = f" (a new {'public' if public else 'private'} repository)" if done.created else ""
        console.print(f"uploaded: {done.url}{made}")


def _folder(name: str) -> str:
    """Files of all models together: stats/ and not the folder of each."""
    parts = name.split("/")
    if len(parts) == 1:
        return name
    shared = ("manifest", "locations", "positions", "training", "intervention", "tables", "analysis")
    return f"{parts[0]}/" if parts[0] in shared else f"{{model}}/{parts[1]}/"
