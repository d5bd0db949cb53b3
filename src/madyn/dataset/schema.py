"""JSON of the layout, read into types: what a file may hold is said once, and anything else is refused in one line.

pydantic holds the values against the types: it is as fast as reading the JSON alone, it bounds nesting and digits, and
it says where a value is wrong. It is strict: "3" is not a 3, and NaN or 1e400 are numbers nowhere. Fields that a type
does not name are passed over, since later versions may write more.
"""

from __future__ import annotations

import math
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from annotated_types import Ge, Gt, Le, MaxLen, MinLen

from madyn.dataset.files import MAX_FILE_BYTES, read_bytes
from madyn.errors import DatasetError, one_line, quoted

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")

MAX_STEP = 2**53
"""The largest step: beyond it, not every whole number is a float."""

Step = Annotated[int, Ge(0), Le(MAX_STEP)]
Count = Annotated[int, Ge(0), Le(2**63 - 1)]
Number = Annotated[float, Ge(-sys.float_info.max), Le(sys.float_info.max)]
"""A number that is one: neither NaN nor infinite."""

Positive = Annotated[float, Gt(0), Le(sys.float_info.max)]

Line = Annotated[str, MaxLen(10_000)]
"""Text for a reader: a reason, a remark."""

Name = Annotated[str, MinLen(1), MaxLen(255)]
"""What something is called: a model, a package, a parameter."""

_SHOWN = 60  # characters of a value that is refused


def read_as(path: Path, kind: Any, limit: int = MAX_FILE_BYTES, what: str = "") -> Any:
    """The value of a JSON file, as a type says it: a dataclass, `list[...]`, or anything else that pydantic knows.

    Args:
        limit: bytes that no such file has more of.
        what: the file is meant to be, for the message where it is another thing.

    Raises:
        DatasetError: the file is missing, unreadable, not JSON, or not what the type says; it names the place.
    """
    from pydantic import ValidationError

    try:
        return _adapter(kind).validate_json(read_bytes(path, limit).removeprefix(b"\xef\xbb\xbf"), strict=True)
    except ValidationError as e:
        said = explain(e)
        raise DatasetError(
            f"{path}: {f'not {what}: ' if what and not said.startswith('not JSON') else ''}{said}"
        ) from e


def hold_as(value: Any, kind: Any, where: str) -> None:
    """Hold a value that is read already against a type. Raises DatasetError, which names the place after `where`."""
    from pydantic import ValidationError

    try:
        _adapter(kind).validate_python(value, strict=True)
    except ValidationError as e:
        raise DatasetError(f"{where}: {explain(e)}") from e


@lru_cache(maxsize=64)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def explain(error: ValidationError) -> str:
    """pydantic's first complaint in one short line: where, what is wrong, and what was found."""
    first = error.errors(include_url=False)[0]
    place = ".".join(one_line(part, _SHOWN) for part in first["loc"][:8])
    said = one_line(first["msg"], 200)
    said = said[:1].lower() + said[1:]
    if first["type"] == "json_invalid":
        return f"not JSON: {said.removeprefix('invalid JSON: ')}"
    if isinstance(first["input"], float) and not math.isfinite(first["input"]):
        said = "input should be a finite number"
    found = "" if first["type"].startswith("missing") else f", found {_short(first['input'])}"
    return f"{place + ': ' if place else ''}{said}{found}"


def _short(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return f"a {'record' if isinstance(value, dict) else 'list'} of {len(value)}"
    return quoted(value)
