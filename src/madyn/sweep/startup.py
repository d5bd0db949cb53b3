"""What a sweep takes before it measures anything: imports, the text and its tokens, and the first model.

For small models this is most of the time, and it does not grow with the number of checkpoints. It is measured where
it happens: a plan imports and builds what a trace will, in a process that has not done so before. Only the text is
tokenised in part, and the rest is reckoned from its length.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from madyn.errors import MadynError
from madyn.settings import Probe
from madyn.text import is_here, read_text, tokenize

if TYPE_CHECKING:
    from madyn.checkpoints import Checkpoint

_SAMPLE = 1_000_000  # letters: what is reckoned from it is right to about a fifth


@dataclass
class StartUp:
    """Seconds by what they are for, and what could not be reckoned.

    What this process has imported before took it no time, as it will take none in a sweep that this process runs.
    """

    parts: dict[str, float] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(self.parts.values())

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.parts[part] = self.parts.get(part, 0.0) + time.perf_counter() - start

    def add_imports(self) -> None:
        with self.timing("imports"):
            import transformers  # noqa: F401

            import madyn.measurement  # noqa: F401

    def add_text(self, probe: Probe, readers: Sequence[tuple[Checkpoint, Any]]) -> None:
        """Reading the text, and tokenising all of it for each model.

        Args:
            readers: the first checkpoint of each model, and the tokenizer given in place of its own, or None.
        """
        if not readers:
            return
        if not is_here(probe.text):
            self.unknown.append(f"reading {probe.text} and tokenising it")
            return
        with self.timing("text"):
            content = read_text(probe.text, probe.documents, probe.seed).content
        sample = content[:_SAMPLE]
        for checkpoint, given in readers:
            try:
                with self.timing("text"):
                    tokenizer = checkpoint.tokenizer() if given is None else given
            except MadynError as e:
                self.unknown.append(f"tokenising ({e})")
                continue
            start = time.perf_counter()
            tokenize(sample, tokenizer)
            self.parts["text"] += (time.perf_counter() - start) * len(content) / len(sample)
