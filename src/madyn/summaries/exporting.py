"""What `madyn export` says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from madyn.terminal import console, print_table

if TYPE_CHECKING:
    from madyn.dataset.exporting import Export


def export_contents(export: Export) -> dict[str, Any]:
    """What an export holds.

    Returns:
        path; files, for each: file, rows, bytes; absent, why a table is not there, by its name.
    """
    files = [
        {"file": name, "rows": rows, "bytes": sum(p.stat().st_size for p in _files(export.path / name))}
        for name, rows in export.rows.items()
    ]
    return {"path": str(export.path), "files": files, "absent": export.absent}


def _files(path: Any) -> list[Any]:
    return [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]


def print_export(export: Export) -> None:
    """The files with their rows and sizes, and what is not there."""
    from madyn.terminal import data_size

    files = export_contents(export)["files"]
    rows = [[one["file"], one["rows"], data_size(one["bytes"])] for one in files]
    print_table(f"written: {export.path}", ["file", "rows", "size"], rows, left=["file"])
    for name, why in export.absent.items():
        console.print(f"no {name}: {why}")
