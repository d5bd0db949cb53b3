"""The files of a Space of the Hub: a folder that, pushed there, shows a dataset."""

from __future__ import annotations

import re
from pathlib import Path

from madyn import __version__
from madyn.dataset.files import write_text
from madyn.errors import UsageError, quoted

_NAME = re.compile(r"[\w.-]+/[\w.-]+|[a-z][a-z-]*")

_README = """---
title: madyn
sdk: gradio
sdk_version: {gradio}
app_file: app.py
license: mit
---

Massive activations of {dataset} over training: explore, fit your own numbers, design a model, watch a run. Made by
`madyn app {dataset} --space`.
"""

_APP = """import os

from madyn.app import LAUNCH, build_app

page = build_app("{dataset}", may_watch=False)
page.launch(server_name="0.0.0.0", server_port=int(os.environ.get("PORT", "7860")), **LAUNCH)
"""


def write_space(folder: Path, dataset: str) -> list[Path]:
    """Write `app.py`, `requirements.txt` and `README.md`.

    Args:
        dataset: of the Hub, OWNER/NAME, or one that comes with madyn: a folder of this machine is not there.

    Raises:
        UsageError: it is neither.
        StorageError: the folder cannot be written.
    """
    from importlib.metadata import version

    if not _NAME.fullmatch(dataset) or dataset.startswith("."):
        raise UsageError(
            f"{quoted(dataset)}: a Space shows a dataset of the Hub, OWNER/NAME, or one that comes with madyn"
        )
    texts = {
        "app.py": _APP.format(dataset=dataset),
        "requirements.txt": f"madyn[app,predict]=={__version__}\n",
        "README.md": _README.format(dataset=dataset, gradio=version("gradio")),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]
