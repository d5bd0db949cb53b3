"""What of this machine and this installation decides how madyn behaves: `madyn info`, which a bug report is to hold.

Versions are read from what the installer wrote, so that nothing is imported for them; torch alone is, where it is
installed, since only it knows its devices. No token and no address is told, and the home folder is `~`.
"""

from __future__ import annotations

import os
import platform
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import madyn
from madyn.errors import EXTRAS

_CORE = ("numpy", "scipy", "pandas", "xarray", "matplotlib", "huggingface_hub", "pydantic", "typer", "rich")
_CALLED = {"sklearn": ("scikit-learn",), "xgboost": ("xgboost", "xgboost-cpu")}
_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE")
_PATIENCE = 2.0  # seconds for the size of a cache


def installation() -> dict[str, Any]:
    """What there is, as plain values.

    Returns:
        madyn, python, platform: versions, and the system; path: where madyn is; libraries: versions by module, of the
        core; extras: for each of them versions by module, None where one is missing; missing: the extras that lack
        something; cores: all, and those that this process may use; variables: those set that say how many threads,
        which devices or whether the Hub is asked; threads: torch's; devices: that torch can use, in words, None for
        both without torch; caches: for each path and bytes (None where there is none yet; whole says whether the size
        is of all of it, or counting took too long); shipped: the names of the datasets that come with madyn.
    """
    extras = {extra: {name: _version(name) for name in names} for extra, names in EXTRAS.items()}
    threads, devices = _torch()
    return {
        "madyn": madyn.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "path": _from_home(Path(madyn.__file__).parent),
        "libraries": {name: _version(name) for name in _CORE},
        "extras": extras,
        "missing": [extra for extra, found in extras.items() if None in found.values()],
        "cores": [os.cpu_count(), _usable_cores()],
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "threads": threads,
        "devices": devices,
        "caches": {name: _cache(path) for name, path in _caches().items()},
        "shipped": _shipped(),
    }


def _version(module: str) -> str | None:
    if find_spec(module) is None:
        return None
    for name in _CALLED.get(module, (module,)):
        with suppress(PackageNotFoundError):
            return version(name)
    return "unknown"


def _usable_cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _torch() -> tuple[int | None, list[str] | None]:
    if find_spec("torch") is None:
        return None, None
    try:
        import torch

        found = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
        if torch.backends.mps.is_available():
            found.append("mps")
        return torch.get_num_threads(), ["cpu", *found]
    except Exception as e:  # a broken installation is just what is to be reported
        return None, [f"torch cannot be used: {type(e).__name__}"]


def _caches() -> dict[str, Path]:
    from huggingface_hub.constants import HF_HUB_CACHE
    from platformdirs import user_cache_path

    return {"madyn": user_cache_path("madyn"), "Hugging Face Hub": Path(HF_HUB_CACHE)}


def _cache(path: Path) -> dict[str, Any]:
    size, whole = _size(path)
    return {"path": _from_home(path), "bytes": size, "whole": whole}


def _size(path: Path) -> tuple[int | None, bool]:
    """Bytes of the files in a folder, links not followed; and whether all were counted."""
    if not path.is_dir():
        return None, True
    total, until = 0, time.monotonic() + _PATIENCE
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118  fast, of many
        if time.monotonic() > until:
            return total, False
    return total, True


def _shipped() -> list[str]:
    from madyn.dataset.shipped import shipped_names

    return shipped_names()


def _from_home(path: Path) -> str:
    """A path without the user's name in it.

    >>> _from_home(Path.home() / "a"), _from_home(Path("/b"))
    ('~/a', '/b')
    """
    with suppress(ValueError, RuntimeError):
        return str("~" / path.absolute().relative_to(Path.home()))
    return str(path)
