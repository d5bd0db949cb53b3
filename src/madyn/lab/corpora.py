"""What a suite's models learn from and are measured on: one tokenizer, the text's tokens, and the probe's windows.

Made once, and kept beside the dataset; every model's process then reads the same files.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from madyn.checkpoints.tokenizers import find_tokenizer
from madyn.dataset import layout, manifest
from madyn.dataset.files import is_there, storage_error, write_bytes, write_json
from madyn.dataset.lab_files import (
    CorpusRecord,
    folder_fault,
    hash_file,
    read_corpus_record,
    read_sums,
    sums_of,
    write_sums,
)
from madyn.dataset.partial import SUFFIX, make_folder
from madyn.dataset.schema import Line, read_as
from madyn.dataset.training import read_record
from madyn.errors import DatasetError, TextError, UsageError
from madyn.lab.recipe import Recipe
from madyn.lab.suites import LabSuite
from madyn.lab.tokenizer import load_tokenizer, train_tokenizer
from madyn.settings import Probe
from madyn.terminal import note
from madyn.text import BLANK_LINE, Text, hash_tokens, read_text, token_sequences, tokenize


@dataclass(frozen=True)
class Corpus:
    """Where the tokens of a suite lie, and what its models must know of them.

    Attributes:
        tokens: a file of the training text's token ids, (N,).
        windows: by a recipe's `framing`, token ids (B, S) that hidden states are measured on, and token ids (B, S) that
            the held-out loss is taken over.
        vocab_size: of the tokenizer; ids from there on are those of registers.
        record: hashes of the texts, and what was drawn of them.
    """

    tokens: Path
    windows: Mapping[tuple[int, bool, int], tuple[np.ndarray, np.ndarray]]
    vocab_size: int
    bos_token_id: int
    record: dict[str, Any]

    def probe(self, recipe: Recipe) -> np.ndarray:
        return self.windows[recipe.framing][0]

    def held_out(self, recipe: Recipe) -> np.ndarray:
        return self.windows[recipe.framing][1]


def prepare_corpus(suite: LabSuite, root: Path) -> Corpus:
    """Train the tokenizer and tokenise the texts; what was done before is read.

    Raises:
        UsageError: the folder holds the tokens of another text or tokenizer.
        ProbeMismatchError: the dataset was measured on another text.
        TextError: a text cannot be read or is too short.
        StorageError: the folder cannot be written.
    """
    text, measure = suite.text, suite.measure
    read = read_text(text.source, text.documents, text.seed)
    held_out = read_text(measure.source, measure.documents, measure.seed)
    record = {**asdict(text), "documents": len(read.documents), "sha256": read.sha256}
    file, tokens = layout.lab_folder(root) / "corpus.json", layout.tokens_path(root)
    probe = manifest.ProbeRecord(
        text=measure.source, sha256=held_out.sha256, documents=len(held_out.documents), seed=measure.seed
    )
    manifest.refuse_other_probe(root, probe)
    known = _known_corpus(file)
    used = _refuse_other_text(root, known, record)
    tokenizer = _own_tokenizer(suite, root, read, used, known.tokenizer_sha256 if known else None)
    _ensure_tokens(tokens, tokenizer, read.documents, known.tokens_sha256 if known else None)
    made = CorpusRecord(record, hash_file(tokens), read_sums(layout.tokenizer_folder(root)))
    if known != made:
        write_json(file, asdict(made))  # last: it marks the corpus complete
    manifest.claim_probe(root, probe)
    if tokenizer.bos_token_id is None:
        raise UsageError(f"the tokenizer {text.tokenizer} has no BOS token, which every sequence begins with")
    framings = {recipe.framing: recipe for recipe in (suite.recipe, *(run.recipe for run in suite.runs()))}
    windows = {
        framing: (_probe_windows(held_out, suite, recipe, tokenizer), _loss_windows(suite, recipe, tokenizer))
        for framing, recipe in framings.items()
    }
    _refuse_other_windows(layout.lab_folder(root) / "held_out.json", hash_tokens(windows[suite.recipe.framing][1]))
    return Corpus(
        tokens,
        windows,
        len(tokenizer),
        tokenizer.bos_token_id,
        {**record, "probe_sha256": held_out.sha256},
    )


def _known_corpus(file: Path) -> CorpusRecord | None:
    """What a folder says of its tokens; None where there are none, or it says nothing that can be read."""
    try:
        return read_corpus_record(file) if is_there(file) else None
    except DatasetError as e:
        note(f"{e}; it is written anew")
        return None


def _refuse_other_text(root: Path, found: CorpusRecord | None, record: dict[str, Any]) -> bool:
    """Refuse a text or tokenizer that models of this folder did not learn from, by what it or their records say.

    Returns:
        whether the folder says what they learned from.
    """
    known: list[Any] = [found.made_from] if found else []
    if not known and layout.tokenizer_folder(root).exists():  # a dataset that came without what the lab keeps
        records = [read_record(root, path.stem) for path in layout.training_files(root)]
        texts = [r.plan.get("text") for r in records[:1] if r]
        known = [{k: v for k, v in t.items() if k != "probe_sha256"} if isinstance(t, dict) else t for t in texts]
    if any(other != record for other in known):
        raise UsageError(f"{root} holds models that learned from another text or tokenizer; use another --out")
    return bool(known)


def _refuse_other_windows(file: Path, sha256: str) -> None:
    """Refuse other text for the held-out loss than that of the suite's first run, which its models must share."""
    if is_there(file) and read_as(file, Line, what="the hash of a text") != sha256:
        raise UsageError(f"the text of the held-out loss has changed since the first models were trained (see {file})")
    if not file.exists():
        write_json(file, sha256)


def probe_of(suite: LabSuite, recipe: Recipe | None = None) -> Probe:
    """The suite's way of measuring, as `trace` takes it; of a model that departs from the suite's recipe its own."""
    measure, recipe = suite.measure, recipe or suite.recipe
    return Probe(
        measure.source,
        sequences=measure.sequences,
        length=recipe.positions,
        bos=recipe.bos,
        documents=measure.documents,
        seed=measure.seed,
    )


def _probe_windows(text: Text, suite: LabSuite, recipe: Recipe, tokenizer: Any) -> np.ndarray:
    sequences = token_sequences(text, tokenizer, suite.measure.sequences, recipe.length, bos=recipe.bos)
    return _behind_registers(sequences, recipe, len(tokenizer))


def _behind_registers(sequences: np.ndarray, recipe: Recipe, first: int) -> np.ndarray:
    if not recipe.registers:
        return sequences
    registers = np.arange(first, first + recipe.registers, dtype=sequences.dtype)
    return np.concatenate([np.broadcast_to(registers, (len(sequences), len(registers))), sequences], axis=1)


def _loss_windows(suite: LabSuite, recipe: Recipe, tokenizer: Any) -> np.ndarray:
    """Windows spread evenly over the source's documents: the few that hidden states are measured on would not do.

    What is predicted is the same tokens for all recipes of one length: without BOS, the token before stands in its
    place.
    """
    measure = suite.measure
    text = read_text(measure.source, measure.loss_documents, measure.seed)
    ids = np.asarray(tokenize(text.content, tokenizer).ids, dtype=np.int64)
    window = recipe.length - 1
    if len(ids) < window:
        raise TextError(f"{suite.measure.source}: its {len(ids)} tokens do not fill one sequence of {window + 1}")
    starts = np.linspace(0, len(ids) - window, suite.measure.loss_sequences).astype(np.int64)
    body = ids[starts[:, None] + np.arange(window)]
    bos = np.full((len(body), 1), tokenizer.bos_token_id, dtype=np.int64)
    first = bos if recipe.bos else ids[np.maximum(starts - 1, 0)][:, None]
    return _behind_registers(np.concatenate([first, body], axis=1), recipe, len(tokenizer))


def _own_tokenizer(suite: LabSuite, root: Path, read: Text, used: bool, known: dict[str, str] | None) -> Any:
    """The tokenizer of a folder, made if there is none, and made anew where it is damaged and that gives the same.

    Args:
        used: models have learned with it, or may have.
        known: the hashes of its files, where they are recorded elsewhere too.

    Raises:
        DatasetError: it is damaged or gone, and what is made here is another one.
        StorageError: it cannot be written.
    """
    folder, text = layout.tokenizer_folder(root), suite.text
    fault = folder_fault(folder, known)
    expected = known or _sums_of_folder(folder) if used else None
    if used and fault is None and expected is not None:
        return load_tokenizer(folder)
    tokenizer = find_tokenizer(text.tokenizer) if text.tokenizer else train_tokenizer(read.documents, text.vocab_size)
    files = _saved(tokenizer, layout.lab_folder(root))
    sums = sums_of(files)
    if expected not in (None, sums):
        raise DatasetError(f"{fault}; made of the text here and now, it is another tokenizer: put the file back")
    if expected is not None:
        note(f"{fault}; it is made anew from the text, to the same bytes")
    for name, data in files.items():
        write_bytes(folder / name, data)
    write_sums(folder, sums)  # last: it marks the tokenizer complete
    return load_tokenizer(folder)


def _sums_of_folder(folder: Path) -> dict[str, str] | None:
    try:
        return read_sums(folder)
    except DatasetError:
        return None


def _saved(tokenizer: Any, beside: Path) -> dict[str, bytes]:
    """The files that a tokenizer is saved in, by their names."""
    try:
        make_folder(beside)
        with TemporaryDirectory(dir=beside, prefix=".tokenizer.", suffix=SUFFIX) as scratch:
            tokenizer.save_pretrained(scratch)
            found = sorted(path for path in Path(scratch).rglob("*") if path.is_file())
            return {path.relative_to(scratch).as_posix(): path.read_bytes() for path in found}
    except OSError as e:
        raise storage_error(beside, e) from e


def _ensure_tokens(path: Path, tokenizer: Any, documents: tuple[str, ...], expected: str | None) -> None:
    """See to it that the file of the text's tokens is there, and is what was made at first.

    Raises:
        DatasetError: it is damaged, and what is made here is something else.
    """
    if path.exists():
        if expected is not None and hash_file(path) == expected:
            return
        if expected is not None:
            note(f"{path}: not what the lab wrote; it is made anew from the text")
    ids = np.fromiter((i for d in documents for i in tokenize(d + BLANK_LINE, tokenizer).ids), dtype=np.int32)
    content = io.BytesIO()
    np.save(content, ids)
    if expected not in (None, hashlib.sha256(content.getvalue()).hexdigest()):
        raise DatasetError(f"{path}: damaged or gone, and what is made of the text here and now is not what it was")
    write_bytes(path, content.getvalue())
