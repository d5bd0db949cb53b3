"""Reports that the packages below this one would send home about their use: off, before any of them is imported.

What runs here may be nobody else's business: names of models, of machines, and that madyn is used at all. Who wants
such reports sets the variable; what is set is left.
"""

from __future__ import annotations

import os

SETTINGS = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",  # transformers and datasets ask it too
    "GRADIO_ANALYTICS_ENABLED": "False",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Environment variables of huggingface_hub, gradio and Ray, and the one that many programs share."""


def switch_off() -> None:
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
