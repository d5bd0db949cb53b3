"""Checkpoints that transformers' own loaders read, wherever they lie.

Weights are read without running code of theirs: safetensors, or pickles with `weights_only`; code that comes with a
model only where the user trusts it. What the loaders say and do on the way is kept quiet, and what they raise becomes
one line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from madyn.checkpoints.gguf_files import forget
from madyn.checkpoints.placing import judge, renamings
from madyn.checkpoints.records import read_json_as, refuse_absurd_config, refuse_other_than_files
from madyn.checkpoints.remote_code import describe_failure, refuse_kernels
from madyn.checkpoints.sources.protocol import OTHERWISE, Checkpoint
from madyn.checkpoints.weights import Weights
from madyn.errors import CheckpointError, MadynError
from madyn.hub import hub_errors
from madyn.remedies.known import plain_type


@dataclass(frozen=True)
class Pretrained(Checkpoint):
    """A checkpoint that transformers loads. Where it looks, `place` says."""

    def place(self, folder: Path | None) -> tuple[str | Path, dict[str, Any]]:
        """What transformers' loaders are given: a folder or a name, and options; of files in `folder`, if given."""
        return folder or self.source, {}

    def is_remote(self, folder: Path | None) -> bool:
        """Whether the loaders ask the Hub for it."""
        return False

    def reading(self) -> AbstractContextManager[None]:
        """Entered for as long as a loader works."""
        return nullcontext()

    def config(self, folder: Path | None = None) -> Any:
        from transformers import AutoConfig

        return self._load(_bounded(AutoConfig), folder=folder)

    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        try:
            found = self._load(AutoTokenizer.from_pretrained, what="tokenizer")
        except CheckpointError as e:
            raise CheckpointError(f"{e}; {OTHERWISE}") from e
        if is_empty(found):
            raise CheckpointError(f"{self} has no tokenizer; {OTHERWISE}")
        return found

    def image_processor(self) -> Any:
        from transformers import AutoImageProcessor

        return self._load(AutoImageProcessor.from_pretrained, what="image processor", backend="pil")

    def load_whole(
        self, dtype: Any, device: str = "cpu", folder: Path | None = None, *, head: bool = False
    ) -> tuple[Any, list[str]]:
        if folder is None:
            folder = self.folder()
        weights = None if folder is None else self.weights(folder)  # names the file that cannot be read
        options = {"kind": auto_class(self.config(folder))} if head else {}
        model, report = self.load_reported(folder, weights, dtype=dtype, **options)
        remarks = judge(str(self), model, report, weights)
        return model.eval().to(device), remarks

    def load_reported(self, folder: Path | None, weights: Weights | None, **options: Any) -> tuple[Any, dict[str, Any]]:
        from transformers import AutoModel

        kind = options.pop("kind", AutoModel)
        options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
        if weights is not None:
            config = self.config(folder)
            if getattr(config, "transformers_weights", None):
                raise CheckpointError(
                    f"{self}: its config names {config.transformers_weights} as its weights; only the usual names are "
                    "read: rename it to model.safetensors and take transformers_weights out of the config"
                )
            options["key_mapping"] = renamings(config, weights) or None
            options["use_safetensors"] = weights.files[0].suffix == ".safetensors"
        loaded = self._load(kind.from_pretrained, folder=folder, **options)
        forget()
        return loaded

    def _load(self, load: Any, what: str = "checkpoint", folder: Path | None = None, **options: Any) -> Any:
        """What one of transformers' loaders gives. Raises CheckpointError, with the reason in one line."""
        where, own = self.place(folder)
        remote = self.is_remote(folder)
        if not remote:
            refuse_other_than_files(Path(where))
            _know(Path(where))
        try:
            with hub_errors(f"{what} {self}", CheckpointError, remote=remote), _quiet_loading(), self.reading():
                return load(where, trust_remote_code=self.trust_remote_code, **own, **options)
        except MadynError:
            raise
        except Exception as e:  # a hostile or broken file can make the loaders raise anything at all
            reason = describe_failure(e, where, trusted=self.trust_remote_code)
            raise CheckpointError(f"{what} {self} cannot be loaded: {reason}") from e


def _know(folder: Path) -> None:
    """Tell transformers of the lab's own kinds of model, where a checkpoint is of one: its code is this package's."""
    own = folder / "config.json"
    if own.exists() and (plain := plain_type(read_json_as(own, dict[str, Any]).get("model_type"))):
        from madyn.remedies.models import classes

        classes(plain)


def auto_class(config: Any) -> Any:
    """The class of transformers that builds a config's model with the head that predicts tokens, if it has one.

    An encoder is taken for what its checkpoint says: with the head for masked tokens, or with none. BERT and its kin
    could be built as causal models too, which their weights are not.
    """
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    said = next(iter(getattr(config, "architectures", None) or []), "")
    masked = type(config) in MODEL_FOR_MASKED_LM_MAPPING
    if masked and not getattr(config, "is_decoder", False) and not said.endswith(("CausalLM", "LMHeadModel")):
        return AutoModelForMaskedLM if said.endswith("ForMaskedLM") else AutoModel
    if getattr(config, "is_encoder_decoder", False):
        return AutoModel
    return AutoModelForCausalLM if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else AutoModel


def _bounded(auto_config: Any) -> Callable[..., Any]:
    """`AutoConfig.from_pretrained`, once what the config says has been looked at: some build a list a layer."""
    from transformers import PreTrainedConfig

    def load(source: Any, *, trust_remote_code: bool, **options: Any) -> Any:
        own = Path(source) / "config.json"
        found = (
            read_json_as(own, dict[str, Any])
            if own.exists()
            else PreTrainedConfig.get_config_dict(source, **options)[0]
        )
        refuse_absurd_config(found, source)
        if not trust_remote_code:
            refuse_kernels(found, source)
        return auto_config.from_pretrained(source, trust_remote_code=trust_remote_code, **options)

    return load


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Without transformers' bar and report of weights loaded, new ones for each of hundreds of checkpoints."""
    from transformers.utils import logging

    before, verbosity = logging.set_tqdm_hook(_without_bar), logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_tqdm_hook(before)
        logging.set_verbosity(verbosity)


def _without_bar(bar: Any, args: Any, kwargs: Any) -> Any:
    return bar(*args, **{**kwargs, "disable": True})


def is_empty(tokenizer: Any) -> bool:
    """Whether it knows no letter: what transformers makes of a folder that has no tokenizer, from the model's type.

    Such a one has special tokens, for some types (T5) a hundred, and at most the mark of a space or a full stop.
    """
    vocabulary = getattr(tokenizer, "get_vocab", None)
    if vocabulary is None:  # of a kind of its own, which nothing but a file can have said
        return False
    added = {str(token) for token in getattr(tokenizer, "added_tokens_decoder", {}).values()}
    return not any(any(map(str.isalnum, str(word))) for word in vocabulary() if word not in added)
