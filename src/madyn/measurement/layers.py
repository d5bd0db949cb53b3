"""Finding a model's layers by what they do, not by a list of model names.

A transformer keeps its layers in a list of modules, and it may have many such lists: norms, experts, blocks inside
blocks, a second stack, a vision tower. Which of them is the stack is seen by running the model on a few tokens: it is
the list whose modules hand on, call by call, what the model itself reports as its hidden states. A model that reports
none (one that is not from transformers) is taken by its structure: the list as long as its config says, or the longest
list of modules of one class. A layer that is called several times, as ALBERT's is, counts as several layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from madyn.errors import ArchitectureError, UsageError

# How a layer may lay out what it hands on, as the permutation to (B, S, d): as it is, (S, B, d), (B, d, S).
_LAYOUTS = ((0, 1, 2), (1, 0, 2), (0, 2, 1))

Calls = list[tuple[nn.Module, torch.Tensor]]


@dataclass(frozen=True)
class Stack:
    """A stack of layers.

    Attributes:
        name: the path of the list of modules in the model.
        modules: the modules, in the order in which the hidden state passes them.
        layout: the permutation that takes what a layer hands on to (B, S, d).
        padded: the layers work on more positions than the sequence has, which come after it and do not count.
    """

    name: str
    modules: tuple[nn.Module, ...]
    layout: tuple[int, ...] = _LAYOUTS[0]
    padded: bool = False

    def still_in(self, model: nn.Module) -> bool:
        """Whether the model still has these layers: somebody may have exchanged some."""
        found: Any = model
        for part in self.name.split("."):
            found = getattr(found, part, None)
        return isinstance(found, (nn.ModuleList, nn.Sequential)) and tuple(found) == self.modules

    def hidden_state(self, output: Any, length: int) -> torch.Tensor | None:
        """What a layer hands on of sequences of a length, as (B, ..., d); None if its output holds no hidden state."""
        hidden = first_tensor(output)
        if hidden is None or hidden.ndim < 3 or not hidden.is_floating_point():
            return None
        if hidden.ndim == 3:
            hidden = hidden.permute(self.layout)
        return hidden[:, :length] if self.padded else hidden


def find_stacks(
    model: nn.Module,
    arguments: Mapping[str, Any],
    layers: str | Sequence[str] | None = None,
    owners: Sequence[nn.Module] = (),
) -> list[Stack]:
    """The stacks of layers of a model: one, or the encoder's and the decoder's.

    Args:
        model: in evaluation mode.
        arguments: what its forward takes, for one short sequence; the model is run once on it.
        layers: the path of the list of layers, or several; looked for if not given.
        owners: what the model is a part of (itself with its head, a wrapper), the outermost first. A path is one in the
            first of them that has it, or in the model.

    Raises:
        ArchitectureError: no list of layers can be recognised.
        UsageError: a path in `layers` leads to no list of modules.
    """
    if layers is not None:
        return [_at_path(model, path, owners) for path in ([layers] if isinstance(layers, str) else layers)]
    lists = _lists(model)
    reported, calls = _run(model, arguments, lists)
    if not reported:
        return [_by_structure(model, lists)]
    _require_positions(model, arguments, reported)
    return [_by_behaviour(model, lists, states, calls) for states in reported]


def _require_positions(model: nn.Module, arguments: Mapping[str, Any], reported: Sequence[Sequence[Any]]) -> None:
    """Refuse a model that reports states of positions that are no tokens of the sequence: padding would be measured."""
    tokens = arguments.get("input_ids")
    for states in reported:
        if tokens is not None and states[0].ndim == 3 and states[0].shape[1] > tokens.shape[1]:
            raise ArchitectureError(
                f"{type(model).__name__} works on {states[0].shape[1]} positions where the sequence has "
                f"{tokens.shape[1]} tokens; which of them are padding cannot be told"
            )


def _at_path(model: nn.Module, path: str, owners: Sequence[nn.Module] = ()) -> Stack:
    """The stack that a path names, whatever of the owners it is a path in; it must be inside the model."""
    names = {module: name for name, module in model.named_modules()}
    elsewhere = None
    with_bases = [part for owner in owners for part in (owner, getattr(owner, "base_model", owner))]
    for owner in (*with_bases, model):
        for spelling in _spellings(owner, path):
            found = _module_at(owner, spelling)
            if found in names:
                if not isinstance(found, (nn.ModuleList, nn.Sequential)) or len(found) == 0:
                    kind = type(found).__name__
                    raise UsageError(f"{path!r} in {type(model).__name__} is a {kind}, not a list of layers")
                return Stack(names[found], tuple(found))
            elsewhere = found or elsewhere
    if elsewhere is not None:
        raise UsageError(f"{path!r} is not in the part of the model that is measured, {type(model).__name__}")
    raise UsageError(f"{type(model).__name__} has no module {path!r}; its lists of modules: {_listed(_lists(model))}")


_WRAPPERS = ("module", "_orig_mod")  # what DDP and compile put before every name of a model that they hold


def _spellings(owner: Any, path: str) -> Iterator[str]:
    """A path as it is, and without what it has from a model's head or wrapper where the model has neither."""
    yield path
    for prefix in (getattr(owner, "base_model_prefix", ""), *_WRAPPERS):
        if prefix and path.startswith(f"{prefix}."):
            yield from _spellings(owner, path.removeprefix(f"{prefix}."))


def _module_at(owner: nn.Module, path: str) -> Any:
    try:
        return owner.get_submodule(path)
    except AttributeError:
        return None


def _by_behaviour(
    model: nn.Module, lists: Mapping[str, nn.ModuleList], states: Sequence[torch.Tensor], calls: Calls
) -> Stack:
    """The list whose calls hand on the reported hidden states: all but the embedding and the last.

    The last one reported has usually passed the final norm, and is not what the last layer hands on. Some models
    (Mamba and its kin) report no embedding, and what the last layer hands on before what has passed the norm.
    """
    for name, modules in lists.items():
        members = set(modules)
        outputs = [output for module, output in calls if module in members]
        if len(outputs) != len(states) - 1:
            continue
        for layout in _LAYOUTS:
            seen = [output.permute(layout) if output.ndim == 3 else output for output in outputs]
            if _all_equal(seen[:-1], states[1:-1]) or _all_equal(seen, states[:-1]):
                return Stack(name, tuple(modules), layout, padded=seen[0].shape[1] > states[0].shape[1])
    raise ArchitectureError(
        f"no list of layers in {type(model).__name__} hands on the {len(states) - 2} inner hidden states that it "
        f"reports; its lists of modules: {_listed(lists)}; say which one with `layers`"
    )


def _all_equal(outputs: Sequence[torch.Tensor], states: Sequence[torch.Tensor]) -> bool:
    return all(_equal(output, state) for output, state in zip(outputs, states, strict=True))


def _equal(output: torch.Tensor, state: torch.Tensor) -> bool:
    if output.ndim == 3:
        output = output[:, : state.shape[1]]  # some models pad a sequence to a block's length
    # NaN is equal to itself here: a model that overflows is still recognised.
    return output.shape == state.shape and torch.allclose(output.to(state), state, rtol=0, atol=0, equal_nan=True)


def layers_by_structure(model: nn.Module, layers: str | None = None) -> tuple[str, Sequence[nn.Module]]:
    """The path and the list of the layers of a model that cannot run yet, because it has no weights.

    Raises:
        ArchitectureError: none can be recognised, or the model has two stacks.
        UsageError: `layers` leads to no list of modules.
    """
    if layers is not None:
        stack = _at_path(model, layers)
    elif getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise ArchitectureError(f"{type(model).__name__} is an encoder-decoder; say which of its stacks with `layers`")
    else:
        stack = _by_structure(model, _lists(model))
    return stack.name, stack.modules


def _lists(model: nn.Module) -> dict[str, nn.ModuleList]:
    """All lists of modules, the outermost first: one inside a layer (experts, say) may pass for the stack by chance."""
    lists = {name: m for name, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) > 0}
    return dict(sorted(lists.items(), key=lambda item: item[0].count(".")))


def _by_structure(model: nn.Module, lists: Mapping[str, nn.ModuleList]) -> Stack:
    config: Any = getattr(model, "config", None)
    text_config = config.get_text_config() if hasattr(config, "get_text_config") else config
    expected = getattr(text_config, "num_hidden_layers", None)
    if expected is not None:
        candidates = {name: m for name, m in lists.items() if len(m) == expected}
    else:
        alike = {name: m for name, m in lists.items() if len({type(layer) for layer in m}) == 1 and len(m) > 1}
        longest = max((len(m) for m in alike.values()), default=0)
        candidates = {name: m for name, m in alike.items() if len(m) == longest}
    if not candidates:
        wanted = f" of {expected}" if expected is not None else ""
        raise ArchitectureError(
            f"no list{wanted} of decoder layers found in {type(model).__name__}; its lists of modules: "
            f"{_listed(lists)}; say which one with `layers`"
        )
    name = next(iter(candidates))
    return Stack(name, tuple(candidates[name]))


def _run(
    model: nn.Module, arguments: Mapping[str, Any], lists: Mapping[str, nn.ModuleList]
) -> tuple[list[list[torch.Tensor]], Calls]:
    """The hidden states that the model reports, a list a stack, and every call of a module of the lists."""
    if not hasattr(model, "config"):
        return [], []
    calls: Calls = []
    recorded = {module for modules in lists.values() for module in modules}
    with leaving_no_hooks(model), _recording(recorded, calls), torch.no_grad():
        outputs = model(**arguments, output_hidden_states=True)
    keys = ("hidden_states", "encoder_hidden_states", "decoder_hidden_states")
    found = [outputs.get(key) for key in keys] if isinstance(outputs, Mapping) else []
    return [list(states) for states in found if isinstance(states, (tuple, list)) and len(states) > 1], calls


_CAPTURES = "_output_capturing_hooks_installed"


@contextmanager
def leaving_no_hooks(model: nn.Module) -> Iterator[None]:
    """transformers hooks a model for good when it is first asked for hidden states; this takes its hooks off again."""
    modules = list(model.modules())
    hooked = any(_CAPTURES in vars(module) for module in modules)
    before = {module: set(module._forward_hooks) for module in modules}
    try:
        yield
    finally:
        marked = [module for module in modules if _CAPTURES in vars(module)]
        if marked and not hooked:
            for module in marked:
                del vars(module)[_CAPTURES]
            for module, known in before.items():
                for key in set(module._forward_hooks) - known:
                    del module._forward_hooks[key]


@contextmanager
def _recording(modules: set[nn.Module], calls: Calls) -> Iterator[None]:
    def record(module: nn.Module, inputs: Any, output: Any) -> None:
        hidden = first_tensor(output)
        if hidden is not None:
            # A copy: the next layer may work in place.
            calls.append((module, hidden.detach().clone()))

    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(record).remove)
        yield


def first_tensor(output: Any) -> torch.Tensor | None:
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if isinstance(output, (tuple, list)):
        output = output[0] if output else None
    return output if isinstance(output, torch.Tensor) else None


def _listed(lists: Mapping[str, nn.ModuleList]) -> str:
    return ", ".join(f"{name} ({len(m)})" for name, m in lists.items()) or "none"
