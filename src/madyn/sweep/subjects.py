"""One checkpoint that is looked at by itself, and the text that it is shown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from madyn.architecture import Architecture
from madyn.checkpoints import Checkpoint, find_checkpoint
from madyn.errors import CheckpointError, MadynError
from madyn.settings import Probe, Settings
from madyn.sweep.images import refuse_without_images
from madyn.sweep.inputs import Inputs, describe_inputs, given_inputs, inputs_for, named_tokenizer, refuse_typos
from madyn.sweep.machine import resolve_device, torch_dtype
from madyn.sweep.units import Loaded, load_model
from madyn.text import read_text

SHORT_LENGTH = 512  # long enough to show what is massive, short enough to take seconds


@dataclass(frozen=True)
class Subject:
    """A checkpoint, the probe that it is shown, how it is run, and the tokenizer that reads for it (None: none)."""

    checkpoint: Checkpoint
    probe: Probe
    settings: Settings
    tokenizer: Any

    @classmethod
    def find(
        cls,
        model: str | Path,
        revision: str | None,
        probe: Probe | None,
        settings: Settings | None,
        tokenizer: Any,
        given: bool,
    ) -> Subject:
        settings = settings or Settings()
        trust = settings.trust_remote_code
        checkpoint = find_checkpoint(model, revision, trust_remote_code=trust, form=settings.weights)
        probe = probe or Probe(sequences=4)
        if not given:  # what is wrong with the model is said before its tokenizer is asked for
            refuse_typos(probe, tokenizer)
            config = checkpoint.config()
            refuse_without_images(checkpoint, config)
            probe.length_for(Architecture.from_config(config))
        reader = named_tokenizer(tokenizer, trust_remote_code=trust)
        if reader is None:
            try:
                reader = checkpoint.tokenizer()
            except CheckpointError:
                if not given:  # text cannot be read without it; given tokens are then shown as their ids
                    raise
        return cls(checkpoint, probe, settings, reader)

    def prepare(self, probe: Probe) -> tuple[Inputs, str]:
        """The windows of the probe's text, and what they are for a reader."""
        length = probe.length_for(Architecture.from_config(self.checkpoint.config()))
        probe = replace(probe, length=min(SHORT_LENGTH, length) if probe.length is None else length)
        text = read_text(probe.text, probe.documents, probe.seed)
        found = inputs_for([self.checkpoint], text, probe, self.tokenizer)
        if isinstance(found, MadynError):
            raise found
        first = "each after a BOS token" if probe.bos else "without BOS"
        said = f"{probe.sequences} sequences of {probe.length} tokens of {probe.text}, seed {probe.seed}, {first}"
        return found, said

    def given(self, inputs: Any) -> tuple[Inputs, str]:
        values = given_inputs(inputs)
        return Inputs(values), describe_inputs(self.probe, values)

    def load(self) -> Loaded:
        return load_model(self.checkpoint, self.checkpoint.folder(), self.settings)

    def load_with_head(self) -> tuple[Any, list[str]]:
        """The model with the head that predicts tokens, if it has one, and what is worth knowing of it."""
        device, dtype = resolve_device(self.settings.device), torch_dtype(self.settings.dtype)
        return self.checkpoint.load_whole(dtype, device, self.checkpoint.folder(), head=True)
