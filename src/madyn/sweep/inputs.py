"""What models are measured on: windows of a probe's text, or token ids and images that the user gives in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from madyn.architecture import Architecture
from madyn.checkpoints import Checkpoint
from madyn.checkpoints.tokenizers import find_tokenizer, refuse_no_tokenizer
from madyn.dataset import manifest
from madyn.errors import ArchitectureError, CheckpointError, MadynError, TextError, UsageError
from madyn.settings import GIVEN, Probe
from madyn.sweep.images import refuse_without_images
from madyn.sweep.remarks import bos_remark
from madyn.text import Text, cut_windows, hash_tokens, refuse_no_source, spelt_remark

if TYPE_CHECKING:
    import numpy as np

    from madyn.measurement import Measurement


@dataclass(frozen=True)
class Inputs:
    """What one model is measured on: token ids (B, S) or pixel values (B, C, H, W), and what is worth knowing of it."""

    values: np.ndarray
    remarks: tuple[str, ...] = ()


def given_inputs(inputs: Any) -> np.ndarray:
    """What the user gives in place of text: token ids (B, S), or (S,) for one sequence, or pixel values (B, C, H, W).

    Raises:
        UsageError: it is neither.
    """
    import numpy as np

    values = np.asarray(inputs)
    if values.ndim == 1 and values.dtype.kind in "iu":
        values = values[None]
    if values.ndim not in (2, 4) or 0 in values.shape or values.dtype.kind not in ("iu" if values.ndim == 2 else "f"):
        raise UsageError(
            f"inputs of shape {values.shape} and {values.dtype}; token ids (B, S) or pixel values (B, C, H, W)"
        )
    return values


def read_token_file(path: Path) -> np.ndarray:
    """Token ids (B, S), or (S,) for one sequence, from a file of NumPy's (`numpy.save`).

    Raises:
        TextError: the file cannot be read as one array.
        UsageError: it holds something other than token ids.
    """
    import numpy as np

    try:
        # Mapped, so that a file which claims more than it holds is refused before memory is taken for it.
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as e:
        raise TextError(f"{path}: no such file") from e
    except OSError as e:
        raise TextError(f"{path}: cannot be read: {e.strerror or e}") from e
    except (ValueError, EOFError, BadZipFile) as e:  # numpy's own words advise to unpickle what it does not know
        raise TextError(f"{path}: not an array saved by numpy.save, or not the whole of one") from e
    if not isinstance(found, np.ndarray) or found.ndim not in (1, 2) or found.dtype.kind not in "iu":
        described = f"shape {found.shape} and {found.dtype}" if isinstance(found, np.ndarray) else "several arrays"
        raise UsageError(f"{path}: {described}; token ids are whole numbers (B, S)")
    return given_inputs(np.array(found, dtype=np.int64))


def probe_of_inputs(probe: Probe, values: np.ndarray) -> Probe:
    """The probe that says of given inputs what they are; which positions are looked at stays as asked."""
    return replace(probe, text=GIVEN, sequences=len(values), length=None, bos=False)


def describe_inputs(probe: Probe, values: np.ndarray | None = None) -> str:
    """What is measured on, for a reader: "10 sequences of stdlib", "2 sequences of 32 given token ids"."""
    if values is None:
        return f"{probe.sequences} sequences of {probe.text}"
    if values.ndim == 2:
        return f"{len(values)} sequences of {values.shape[1]} given token ids"
    return f"{len(values)} given images of {values.shape[2]} x {values.shape[3]}"


def measured_length(values: np.ndarray, measured: Measurement) -> int | None:
    """How many positions a sequence has: tokens, or what the layers make of an image; None where they differ."""
    if values.ndim == 2:
        return int(values.shape[1])
    lengths = set(measured.lengths.tolist())
    return lengths.pop() if len(lengths) == 1 else None


def probe_record(probe: Probe, text: Text | None, values: np.ndarray | None) -> manifest.ProbeRecord:
    if text is not None:
        return manifest.ProbeRecord(text=probe.text, sha256=text.sha256, documents=len(text.documents), seed=probe.seed)
    assert values is not None
    return manifest.ProbeRecord(text=GIVEN, sha256=hash_tokens(values), documents=0, seed=0)


def inputs_for(checkpoints: Sequence[Checkpoint], text: Text, probe: Probe, tokenizer: Any) -> Inputs | MadynError:
    """The windows of a text for a model; the reason, where no checkpoint of it says what it needs.

    Raises:
        UsageError: the model reads images.
    """
    shape = _first_readable(checkpoints, probe, tokenizer)
    if isinstance(shape, MadynError):
        return shape
    length, reader = shape
    windows = cut_windows(text, reader, probe.sequences, length, bos=probe.bos)
    remarks = (spelt_remark(windows.spelt), "" if probe.bos else bos_remark(reader))
    return Inputs(windows.ids, tuple(remark for remark in remarks if remark))


def refuse_typos(probe: Probe, tokenizer: Any) -> None:
    """Refuse a probe or a tokenizer whose name can be none, before the models are looked at that are to read it.

    Raises:
        TextError, UsageError: there is no such text.
        CheckpointError: there is no such tokenizer.
    """
    refuse_no_source(probe.text)
    if isinstance(tokenizer, (str, Path)):
        refuse_no_tokenizer(tokenizer)


def named_tokenizer(tokenizer: Any, *, trust_remote_code: bool = False) -> Any:
    """A tokenizer as it is given: by the name of a folder or of a model of the Hub, itself, or not at all."""
    if isinstance(tokenizer, (str, Path)):
        return find_tokenizer(tokenizer, trust_remote_code=trust_remote_code)
    return tokenizer


def _first_readable(checkpoints: Sequence[Checkpoint], probe: Probe, tokenizer: Any) -> tuple[int, Any] | MadynError:
    """Length and tokenizer, which all checkpoints of a model share, from the first whose files can be read."""
    reason: MadynError = CheckpointError("no checkpoint")
    for checkpoint in checkpoints:
        try:
            if probe.length is not None and tokenizer is not None:
                return probe.length, tokenizer  # nothing of the checkpoint is needed
            config = checkpoint.config()
            refuse_without_images(checkpoint, config)
            length = probe.length_for(Architecture.from_config(config))
            return length, checkpoint.tokenizer() if tokenizer is None else tokenizer
        except (CheckpointError, ArchitectureError) as e:
            reason = e  # its own measurement will fail too, and be recorded
    return reason
