"""The ways in which hidden states are rounded: a format, the values that share a scale, and what is done before.

The rounding itself is torch's: `fake_quantize_per_channel_affine` for whole numbers (to the nearest, ties to even), and
its eight-bit floats for the others. What is added here is only which values share a scale: a scale takes the largest of
them to the format's largest number, without an offset, as is usual for activations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from scipy.linalg import hadamard

from madyn.errors import one_of

_LARGEST = {"int8": 127.0, "int4": 7.0, "e4m3": 448.0, "e5m2": 57344.0}
_FLOATS = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}

Form = Literal["plain", "kept apart", "rotated"]
FORMS: tuple[Form, ...] = ("plain", "kept apart", "rotated")
"""As it is; with the largest values apart in full precision; and after a Hadamard rotation of the features."""


@dataclass(frozen=True)
class Scheme:
    """A format and which values share a scale.

    Attributes:
        form: "int8", "int4", "e4m3" or "e5m2", the last two with four and five bits of exponent.
        share: "tensor" (all values of a sequence), "token", "channel" (a feature over the tokens), or so many features
            of a token that lie side by side, the last of them fewer where the width is no multiple.
    """

    form: str
    share: str | int

    @property
    def name(self) -> str:
        return f"{self.form} per {self.share if isinstance(self.share, str) else f'group of {self.share}'}"

    def round(self, rows: torch.Tensor) -> torch.Tensor:
        """The values (S, d) as they come back from this format, float32."""
        blocks = self._split(rows.detach().float())
        # A block of zeros has no scale; any will do.
        scale = (blocks.abs().amax(dim=1) / _LARGEST[self.form]).clamp_min(torch.finfo(torch.float32).tiny)
        if self.form in _FLOATS:
            back = (blocks / scale[:, None]).to(_FLOATS[self.form]).float() * scale[:, None]
        else:
            largest = int(_LARGEST[self.form])
            none = torch.zeros(len(scale), dtype=torch.int32, device=scale.device)
            back = torch.fake_quantize_per_channel_affine(blocks, scale, none, 0, -largest, largest)
        return self._join(back, rows.shape).contiguous()

    def _split(self, rows: torch.Tensor) -> torch.Tensor:
        """A row a scale."""
        if self.share == "tensor":
            return rows.reshape(1, -1)
        if self.share == "token":
            return rows
        if self.share == "channel":
            return rows.T.contiguous()
        assert isinstance(self.share, int)
        padded = torch.nn.functional.pad(rows, (0, -rows.shape[1] % self.share))
        return padded.reshape(-1, self.share)

    def _join(self, blocks: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        if self.share == "channel":
            return blocks.T
        if isinstance(self.share, int):
            return blocks.reshape(shape[0], -1)[:, : shape[1]]
        return blocks.reshape(shape)


SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme("int8", "tensor"), Scheme("int8", "token"), Scheme("int8", "channel"), Scheme("int4", 32),
        Scheme("int4", 128), Scheme("e4m3", "tensor"), Scheme("e5m2", "tensor"),
    )
}  # fmt: skip
"""By name, such as "int8 per tensor"."""

PER_TENSOR = "int8 per tensor"


def scheme_called(name: str) -> Scheme:
    """One of `SCHEMES`.

    Raises:
        UsageError: there is none of that name.
    """
    return SCHEMES[one_of("scheme", name, tuple(SCHEMES))]


@dataclass(frozen=True)
class Rounded:
    """Hidden states that went through a format.

    Attributes:
        values: as they come back, shape (S, d), float32.
        stored: those that the format holds, in its own basis: zero where a value was rounded to zero.
        given: what the format was given, in the same basis.
    """

    values: torch.Tensor
    stored: torch.Tensor
    given: torch.Tensor

    @property
    def zeroed(self) -> float:
        """The share of the values that were given and became zero, of those that were not zero."""
        there = self.given != 0
        return float((there & (self.stored == 0)).sum() / there.sum().clamp_min(1))


def apply(scheme: Scheme, rows: torch.Tensor, form: Form = "plain", keep: int = 0) -> Rounded:
    """Hidden states of one sequence as they come back from a scheme.

    Args:
        rows: shape (S, d).
        form: one of `FORMS`.
        keep: of "kept apart": how many of the largest |h| of the sequence stay as they are, and out of the scales.
    """
    rows = rows.detach().float()
    if form == "rotated":
        turned = rotated(rows)
        stored = scheme.round(turned)
        return Rounded(rotated(stored), stored, turned)
    rest = rows.clone()
    apart = largest(rows, keep if form == "kept apart" else 0)
    rest.view(-1)[apart] = 0
    stored = scheme.round(rest)
    values = stored.clone()
    values.view(-1)[apart] = rows.reshape(-1)[apart]
    return Rounded(values, stored, rest)


def largest(rows: torch.Tensor, count: int) -> torch.Tensor:
    """The places of the largest |h| in the flattened states."""
    return rows.abs().reshape(-1).topk(min(count, rows.numel())).indices


def rotated(rows: torch.Tensor) -> torch.Tensor:
    """Each token's features turned by a Hadamard matrix, which is its own inverse.

    There is such a matrix by Sylvester's construction for powers of two alone. Another width is turned in blocks of the
    largest power of two that divides it: 576 = 9 x 64. An odd width stays as it is.
    """
    block = rotation_block(rows.shape[1])
    turn = torch.as_tensor(hadamard(block) / block**0.5, dtype=torch.float32, device=rows.device)
    return (rows.reshape(len(rows), -1, block) @ turn).reshape(rows.shape)


def rotation_block(width: int) -> int:
    """How many features are turned together.

    >>> [rotation_block(width) for width in (576, 640, 1024, 81)]
    [64, 128, 1024, 1]
    """
    return width & -width
