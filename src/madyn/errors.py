"""What can go wrong, as types that a caller can act on.

Every error that madyn raises on purpose derives from `MadynError`, and its message says what went wrong, where, and
what to do. The command line prints that message as one line and exits with the class's `exit_code`.
"""

import functools
import operator
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def reason_of(error: BaseException) -> str:
    """What an error says, for a record of it: madyn's own as it is, any other with its kind."""
    return str(error) if isinstance(error, MadynError) else f"{type(error).__name__}: {error}"


def one_line(text: object, most: int = 300) -> str:
    """Text from elsewhere as a message quotes it: on one line, without control characters, cut where it is long.

    >>> one_line("a\\nb\\x1b[31m"), one_line("x" * 1000, most=5)
    ('a b [31m', 'xxxxx...')
    """
    said = str(text)[: 4 * most]
    said = " ".join("".join(c if c.isprintable() else " " for c in said).split())
    return said if len(said) <= most and len(str(text)) <= 4 * most else f"{said[:most]}..."


def first_line(e: BaseException) -> str:
    """What an exception of a library says first, as a message quotes it; its kind where it says nothing."""
    lines = str(e).strip().splitlines()
    return one_line(lines[0]) if lines else type(e).__name__


def quoted(value: object) -> str:
    """A value as a message quotes it, whatever it is: short, and on one line. A whole number of thousands of digits
    cannot even be printed.

    >>> quoted("a"), quoted(10**5000), quoted([10**5000])
    ("'a'", 'a huge number', 'a list')
    """
    if isinstance(value, int) and value.bit_length() > 200:
        return "a huge number"
    try:
        return one_line(repr(value[:200] if isinstance(value, (str, bytes)) else value), 80)
    except Exception:  # a number in it that is too long to print, or a class of somebody else's
        return f"a {type(value).__name__}"


class MadynError(Exception):
    """Base of every error raised on purpose. `exit_code` is what the command line exits with.

    >>> import madyn
    >>> try:
    ...     madyn.open_dataset("./not-there")
    ... except madyn.MadynError as error:
    ...     print(type(error).__name__, error.exit_code)
    DatasetError 1
    """

    exit_code = 1


class UsageError(MadynError, ValueError):
    """An argument that cannot mean anything: an unknown name, a malformed list, contradictory options."""

    exit_code = 2


class ArchitectureError(MadynError, ValueError):
    """A model whose shape cannot be read, or in which no decoder layers can be found."""


class CheckpointError(MadynError):
    """A checkpoint that does not exist or cannot be read."""


class TextError(MadynError):
    """A text source that cannot be read, or text too short for the sequences asked for."""


class ProbeMismatchError(MadynError):
    """The text or the tokens differ from those that a dataset was measured with."""


class NonFiniteError(MadynError, ArithmeticError):
    """A hidden state holds NaN or infinity."""


class DatasetError(MadynError):
    """A dataset, or a file of one, that is missing or malformed."""


class StorageError(MadynError, OSError):
    """A file that cannot be written: no permission, no space, not a folder."""


class SeriesError(MadynError, ValueError):
    """A series that no curve can be fitted to: too few points, or nothing finite."""


class MissingDependencyError(MadynError, ImportError):
    """A part of madyn was called whose optional dependency is not installed."""


def check_range(name: str, value: object, least: int, most: int) -> int:
    """A whole number of any integer type, as an int.

    Raises:
        UsageError: it is none (an array, a text, a truth value), below what can be, or above what makes sense.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # pyright: ignore[reportArgumentType]
    except Exception:  # of whatever was given
        number = None
    if number is None or not least <= number <= most:
        raise UsageError(f"{name} is {quoted(value)}; it is a whole number from {least} to {most}")
    return number


def one_of(name: str, value: object, known: Iterable[str]) -> str:
    """One of some names, as it is. Raises UsageError where it is none of them."""
    names = list(known)
    if not isinstance(value, str) or value not in names:
        raise UsageError(f"{name} is {quoted(value)}; it is one of {', '.join(names)}")
    return value


def listed(name: str, value: object) -> list[Any]:
    """What an argument lists, where one text stands for itself. Raises UsageError where it lists nothing."""
    if isinstance(value, (str, bytes)):
        return [value]
    try:
        return list(value)  # pyright: ignore[reportCallIssue, reportArgumentType]
    except Exception as e:  # of whatever was given
        raise UsageError(f"{name} is {quoted(value)}; expected a list") from e


MOST_SEED = 2**63 - 1
MOST_WORKERS = 1024
"""Processes, or threads of one, that a machine is asked for; no larger number is meant."""

EXTRAS = {
    "models": (
        "torch", "transformers", "accelerate", "datasets", "gguf", "psutil", "safetensors", "tokenizers", "xxhash",
    ),
    "predict": ("sklearn", "xgboost", "shap", "threadpoolctl"),
    "cluster": ("ray", "s3fs"),
    "export": ("pyarrow", "zarr"),
    "report": ("plotly", "jinja2"),
    "app": ("gradio",),
}  # fmt: skip
"""The modules that each extra of the package brings, the one that it is for first."""

_WITH = {"joblib": "predict", "aiobotocore": "cluster", "botocore": "cluster", "numcodecs": "export"}
"""Modules that come with those of an extra."""


def missing_dependency(error: ModuleNotFoundError) -> Exception:
    """The error to raise where an import failed: which extra to install, or the same error for a module of our own."""
    name = (error.name or "").partition(".")[0]
    if name in ("", "madyn"):
        return error
    extra = _WITH.get(name) or next((extra for extra, modules in EXTRAS.items() if name in modules), None)
    package = f'"madyn[{extra}]"' if extra else name  # what only works with madyn, a trainer say, is no extra
    return MissingDependencyError(f"{name} is not installed: pip install {package}")


def needs_extra(function: Callable[P, T]) -> Callable[P, T]:
    """A public function that imports what an extra brings: where it is missing, it says which to install."""

    @functools.wraps(function)
    def asking(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return function(*arguments, **options)
        except ModuleNotFoundError as e:
            raise missing_dependency(e) from e

    return asking
