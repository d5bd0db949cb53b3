"""Models in a GGUF file: config, tokenizer and weights, which transformers converts as it reads them.

Such a file says no training step, so that it is scanned and not traced.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from madyn.checkpoints.gguf_files import reading_once
from madyn.checkpoints.sources.pretrained import Pretrained
from madyn.checkpoints.sources.protocol import Asked, Checkpoint, Source
from madyn.paths import exists


@dataclass(frozen=True)
class GgufFile(Pretrained):
    """A GGUF file, whose path is the source."""

    def place(self, folder: Path | None) -> tuple[str | Path, dict[str, Any]]:
        return _as_transformers_asks(Path(self.source))

    def reading(self) -> AbstractContextManager[None]:
        if find_spec("gguf") is None:  # transformers says what to install
            return nullcontext()
        return reading_once(Path(self.source))

    def config(self, folder: Path | None = None) -> Any:
        from transformers import AutoConfig

        return self._load(AutoConfig.from_pretrained)  # what it says is bounded where it is read

    def weight_files(self, form: str | None = None) -> dict[str, Path]:
        return {Path(self.source).name: Path(self.source)}


class _Gguf(Source):
    words = "a .gguf file"

    def takes(self, model: str | Path) -> bool:
        return Path(model).suffix == ".gguf" and exists(model) and Path(model).is_file()

    def find(self, model: str | Path, asked: Asked) -> Checkpoint:
        return GgufFile(str(Path(model)))

    def tokenizer(self, name: str | Path, *, trust_remote_code: bool = False) -> Any:
        from transformers import AutoTokenizer

        folder, options = _as_transformers_asks(Path(name))
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, **options)


def _as_transformers_asks(path: Path) -> tuple[str, dict[str, Any]]:
    return str(path.parent), {"gguf_file": path.name}


SOURCE = _Gguf()
