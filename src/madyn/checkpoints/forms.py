"""The forms that a checkpoint's weights are stored in, known from the names of its files alone.

A repository may hold one set of weights several times over: whole and in shards, as safetensors and as pickles. They
are not always equal, and where one form is not what it should be, another may be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

KINDS = ("model.safetensors", "pytorch_model.bin")  # in the order in which transformers looks for them

_OTHERS = ("training_args.bin", "optimizer.bin", "scheduler.bin", "adapter_model.bin", "adapter_model.safetensors")


@dataclass(frozen=True)
class Form:
    """One set of weight files.

    Attributes:
        label: what it is called for a reader: the file's name, or `model-*-of-00003.safetensors`.
        ending: "safetensors" or "bin", as in `settings.FORMS`.
        files: those that are there; `missing` the shards that are not.
    """

    label: str
    ending: str
    files: tuple[str, ...]
    missing: tuple[str, ...] = ()


def stored_forms(names: Iterable[str]) -> list[Form]:
    """All forms among a checkpoint's files, the one that transformers would read first.

    >>> [form.label for form in stored_forms(["pytorch_model.bin", "model-00001-of-00002.safetensors", "x.bin"])]
    ['model-*-of-00002.safetensors', 'pytorch_model.bin']
    """
    names = set(names)
    forms = []
    for kind in KINDS:
        stem, _, ending = kind.rpartition(".")
        if kind in names:
            forms.append(Form(kind, ending, (kind,)))
        shard = re.compile(rf"({re.escape(stem)}-)(\d{{1,9}})-of-(\d{{1,9}})\.{ending}")
        counts = {(m[1], m[3], len(m[2])) for name in names if (m := shard.fullmatch(name))}
        sets = []
        for start, count, digits in counts:
            if int(count) > len(names) * 100:
                continue  # nonsense, and too long to list
            expected = [f"{start}{n:0{digits}d}-of-{count}.{ending}" for n in range(1, int(count) + 1)]
            there = tuple(name for name in expected if name in names)
            missing = tuple(name for name in expected if name not in names)
            sets.append(Form(f"{start}*-of-{count}.{ending}", ending, there, missing))
        index = f"{kind}.index.json"
        if index in names and kind not in names and not sets:  # shards named in a way of their own, which it names
            others = tuple(sorted(name for name in names if name.endswith(f".{ending}") and name not in _OTHERS))
            sets.append(Form(f"*.{ending}", ending, others))
        forms += sorted(sets, key=lambda form: (bool(form.missing), form.label))
    return forms


def wanted_form(names: Iterable[str], form: str) -> Form | None:
    """The form that is read where `form`, one of `settings.FORMS`, is asked for; None where there is none.

    Where `takes_index` the names do not tell, and it is the first in order.
    """
    return next((f for f in stored_forms(names) if form in ("auto", f.ending)), None)


def takes_index(names: Iterable[str], form: str) -> bool:
    """Whether there are shards of several saves, of which only an index says which are the model."""
    wanted = wanted_form(names, form)
    if wanted is None or wanted.label in KINDS:
        return False
    return sum(f.ending == wanted.ending for f in stored_forms(names)) > 1
