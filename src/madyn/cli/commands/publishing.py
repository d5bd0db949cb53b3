"""`madyn publish`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from madyn.cli.command import Command
from madyn.cli.options import OUT, DatasetArgument, JsonOption, path
from madyn.terminal import print_json


def publish(
    dataset: DatasetArgument,
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Where on the Hugging Face Hub.")],
    upload: Annotated[
        bool, typer.Option("--upload", help="Send it; without, it is said what would be sent, and nothing leaves here.")
    ] = False,
    public: Annotated[
        bool, typer.Option("--public", help="For all to see, if the repository is new; private otherwise.")
    ] = False,
    license: Annotated[
        str | None,
        typer.Option("--license", help="The Hub's short name of the licence (cc-by-4.0); mit if not given."),
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="Of the card; NAME if not given.")] = None,
    card: Annotated[
        Literal["keep", "replace"] | None,
        typer.Option("--card", help="What becomes of a README.md that you wrote, in the dataset or on the Hub."),
    ] = None,
    no_pictures: Annotated[bool, typer.Option("--no-pictures", help="Leave out what was drawn.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", parser=path, help=f"{OUT}a folder to keep what is published in; not kept if not given."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a dataset on the Hub, with a card and tables. [dim]madyn publish pythia/ OWNER/NAME[/dim]

    --json prints what `publication_record` gives; see docs/json.md.
    """
    from madyn.publish import publish_dataset
    from madyn.summaries import print_publication, publication_record

    published = publish_dataset(
        dataset, repo, send=upload, public=public, license=license, title=title, card=card,
        pictures=not no_pictures, out=out,
    )  # fmt: skip
    if as_json:
        print_json(publication_record(published))
    else:
        print_publication(published, public)


COMMAND = Command(publish, panel="Share")
