"""Options that several commands share, each declared once; what sets a field is declared with the field (see `spread`).

`--out` is in every command the place where what the command makes is written: one file where it makes one table, else a
folder. A command that only reads (compare, forecast, predict, evaluate, effects, design) writes nothing without it;
`fit` and `figures`, which add to a dataset, then write into its own folder, and ask for `--out` where it has none.
`--csv` writes the one table that the command's result is, and is the same as `--out` where that is all it writes; see
docs/tables.md for which one. `output.give` prints and writes what these options ask for.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand


def path(text: str) -> Path:
    """A folder or a file of this machine, as an option gives it; a `file:///` URL is the path that it names."""
    from madyn.dataset.files import is_local, root_path
    from madyn.errors import UsageError

    found = root_path(text)
    if not is_local(found):
        raise UsageError(f"{text}: a folder or a file of this machine is needed here, and no URL")
    return found


DatasetArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATASET",
        help="A folder, a dataset of the Hub (OWNER/NAME or hf://datasets/OWNER/NAME), or one that comes with madyn: "
        "tiny-suite. A folder called so is ./tiny-suite.",
    ),
]
ModelsOption = Annotated[
    list[str] | None, typer.Option("--model", help="Only this model (its directory's name); may be given again.")
]
OUT = "Where what this command makes is written: "
OutFolderOption = Annotated[
    Path | None, typer.Option("--out", parser=path, help=f"{OUT}a folder; nothing is if not given.")
]

STANDARD_OUTPUT = Path("-")


def _one_on_standard_output(context: typer.Context, value: Any) -> Any:
    """Refuse JSON and a table together on standard output, before anything is worked out."""
    if STANDARD_OUTPUT in [*context.params.values(), value] and (value is True or context.params.get("as_json")):
        from madyn.errors import UsageError

        raise UsageError("--json prints on standard output, and so does a table written to -: give the table a file")
    return value


JsonOption = Annotated[
    bool,
    typer.Option(
        "--json", callback=_one_on_standard_output, help="Print one JSON value and nothing else, for programs."
    ),
]
_TABLE: dict[str, Any] = {"metavar": "FILE", "parser": path, "callback": _one_on_standard_output}
CsvOption = Annotated[
    Path | None,
    typer.Option("--csv", help="Write the table as CSV too; to - prints it, and nothing else.", **_TABLE),
]
OutTableOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "--csv",
        help=f"{OUT}a CSV file; nothing is if not given. To - prints the table, and nothing else.",
        **_TABLE,
    ),
]
TokenizerOption = Annotated[
    str | None,
    typer.Option(
        "--tokenizer", help="A folder, or a name of the Hub, whose tokenizer reads the text; else the checkpoint's own."
    ),
]
TokensOption = Annotated[
    Path | None,
    typer.Option(
        "--tokens", parser=path, help="Token ids to measure on in place of text: a file of numpy.save, (B, S)."
    ),
]
BosOption = Annotated[
    str,
    typer.Option(
        "--bos",
        metavar="[none|start]",
        help="Start each sequence with the tokenizer's BOS token; --bos alone means --bos start.",
    ),
]
ScanBosOption = Annotated[
    str,
    typer.Option(
        "--bos",
        metavar="[none|start|both]",
        help="Start each sequence with the tokenizer's BOS token, or show both ways side by side; --bos alone means "
        "--bos start.",
    ),
]
RevisionsOption = Annotated[
    str | None,
    typer.Option(
        "--revisions", help="Regular expression for the names of revisions or folders: ckpt_(?P<step>\\d+), say."
    ),
]
StepsOption = Annotated[
    str | None,
    typer.Option("--steps", help="paper, all, or 0,1,2,...; by default paper for Pythia, all for other models."),
]
ModelsArgument = Annotated[
    list[str], typer.Argument(metavar="MODEL...", help="Folders of checkpoints, or names of the Hub.")
]


def read_tokens(context: typer.Context, file: Path | None, *against: str) -> Any:
    """The ids in the file of `--tokens`, or None without it.

    Args:
        against: the parameters that say what text to take, and mean nothing beside given ids.
    """
    if file is None:
        return None
    refuse_options(context, against, "--tokens gives the token ids themselves")
    from madyn.sweep.inputs import read_token_file

    return read_token_file(file)


def refuse_beside_images(context: typer.Context, folder: Path | None, *against: str) -> None:
    """Refuse what says what text to take, where `--images` is given."""
    if folder is not None:
        refuse_options(context, against, "--images is measured on and no text")


def refuse_options(context: typer.Context, names: Iterable[str], because: str) -> None:
    from madyn.errors import UsageError

    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{because}, so that {flag} has nothing to say: give one")


BOS = ("none", "start", "both")


class WithBos(TyperCommand):
    """A command with `--bos`, which may stand without a value, as it could when it was a flag."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        following = [*args, ""][1:]
        return super().parse_args(
            ctx, ["--bos=start" if a == "--bos" and f not in BOS else a for a, f in zip(args, following, strict=True)]
        )


def starts_with_bos(bos: str, *, both: bool = False) -> bool:
    """What `--bos` says of the sequences. With `both`, that is an answer too, and counts as no BOS.

    Raises:
        UsageError: it is none of its words.
    """
    from madyn.errors import UsageError

    if bos == "both" and not both:
        raise UsageError("--bos both goes with madyn scan; a dataset is measured on one probe: none or start")
    if bos not in BOS:
        raise UsageError(f"--bos is {bos!r}; it is one of {', '.join(BOS if both else BOS[:2])}")
    return bos == "start"


def say_written(path: object, as_json: bool = False) -> None:
    """Where something was written: on standard output, unless that is for JSON alone."""
    typer.echo(f"written: {path}", err=as_json)


def is_dataset(subject: str) -> bool:
    """Whether a name means a dataset: one that comes with madyn, an address of one, or a folder with statistics."""
    from madyn.dataset import layout
    from madyn.dataset.files import root_path
    from madyn.dataset.remote import is_shipped

    if is_shipped(subject) or subject.startswith("hf://"):
        return True
    root = root_path(subject)
    if "://" not in subject and not Path(root).is_dir():
        return False
    return bool(layout.model_directories(root) or layout.manifest_models(root))
