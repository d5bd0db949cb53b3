"""`madyn info`."""

from __future__ import annotations

from typing import Any

from madyn.cli.command import Command
from madyn.cli.options import JsonOption
from madyn.terminal import console, data_size, print_json


def info(as_json: JsonOption = False) -> None:
    """Versions, extras, threads, devices and caches, for a bug report. [dim]madyn info[/dim]

    --json prints what `installation` gives; see docs/json.md.
    """
    from madyn.cli.installation import installation

    found = installation()
    if as_json:
        print_json(found)
    else:
        for name, said in _lines(found):
            console.print(f"{name:<12}{said}")


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [
        ("madyn", f"{found['madyn']} in {found['path']}"),
        ("python", f"{found['python']}, {found['platform']}"),
        ("core", _versions(found["libraries"])),
    ]
    for extra, versions in found["extras"].items():
        told = _versions(versions)
        if extra in found["missing"]:
            told += f'   (for all of it: pip install "madyn[{extra}]")'
        lines.append((extra, told))
    every, usable = found["cores"]
    variables = "".join(f", {name}={value}" for name, value in found["variables"].items())
    torch = "" if found["threads"] is None else f", {found['threads']} threads of torch"
    lines.append(("cores", f"{usable} of {every}{torch}{variables}"))
    lines.append(("devices", "torch is not installed" if found["devices"] is None else ", ".join(found["devices"])))
    for name, cache in found["caches"].items():
        size = "not there yet" if cache["bytes"] is None else data_size(cache["bytes"])
        more = "" if cache["whole"] else "more than "
        lines.append(("cache", f"{name}: {cache['path']}, {more}{size}"))
    return [*lines, ("shipped", ", ".join(found["shipped"]) or "nothing")]


def _versions(found: dict[str, str | None]) -> str:
    return ", ".join(f"{name} {said or 'missing'}" for name, said in found.items())


COMMAND = Command(info, panel="Start here")
