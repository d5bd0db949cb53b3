"""What a measurement runs on: torch's devices and types by their names, and the versions that it depends on."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import version
from typing import Any

import madyn
from madyn.errors import UsageError


def resolve_device(device: str | None) -> str:
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as e:
        raise UsageError(f"device {device!r} cannot be used here: {str(e).splitlines()[0]}") from e
    return device


def torch_dtype(name: str) -> Any:
    import torch

    return getattr(torch, name)


@cache
def versions() -> dict[str, str]:
    """The versions that a measurement depends on."""
    packages = {name: version(name) for name in ("torch", "transformers", "numpy")}
    return {"python": platform.python_version(), "madyn": madyn.__version__, **packages}
