"""Ray, joined or started: the cluster at an address, the one that this machine belongs to, or one for this process.

Ray has no passwords: whoever reaches its ports runs code. A cluster's ports are its owner's affair; one that is started
here serves this process, and listens on the loopback interface, which no other machine reaches.
"""

from __future__ import annotations

import logging
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from madyn.errors import MadynError, MissingDependencyError
from madyn.terminal import note

LOOPBACK = "127.0.0.1"

# Ray reads it as it is imported. Made for systems whose firewall asks about every port, it is what has Ray's servers
# bind to the address of their node, and that address be the loopback's; nothing else that Ray offers does both.
_ON_LOOPBACK = ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


def require_ray() -> None:
    """Raise MissingDependencyError where Ray is not installed."""
    if find_spec("ray") is None:
        raise MissingDependencyError('ray is not installed: pip install "madyn[cluster]"')


def start_ray(address: str = "") -> Any:
    """Ray, connected: to the cluster at an address, to this machine's, or to one that is started here.

    Raises:
        MissingDependencyError: Ray is not installed.
        MadynError: there is no cluster at the address.
    """
    require_ray()
    alone = not address and not _belongs_to_a_cluster()
    if alone:
        os.environ.setdefault(*_ON_LOOPBACK)
    import ray

    if ray.is_initialized():
        return ray
    options: dict[str, Any] = {"address": address or None}
    if alone:
        options = {"address": "local", "_node_ip_address": LOOPBACK, "include_dashboard": False}
    try:
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, OSError, ValueError) as e:
        raise MadynError(f"no Ray cluster could be reached at {address or 'this machine'}: {e}") from e
    here = ray.util.get_node_ip_address()
    if alone and here != LOOPBACK:
        note(
            f"Ray listens at {here}, where others may reach it: it was imported before it could be told otherwise; "
            f"set {'='.join(_ON_LOOPBACK)} to keep it on this machine"
        )
    return ray


def _belongs_to_a_cluster() -> bool:
    """Whether `ray start` ran here, or the environment names a cluster: where Ray itself looks for one."""
    folders = {os.environ.get("RAY_TMPDIR") or "/tmp", tempfile.gettempdir()}
    return bool(os.environ.get("RAY_ADDRESS")) or any(
        (Path(folder) / "ray/ray_current_cluster").exists() for folder in folders
    )
