"""Options that are made from the fields of a dataclass."""

from dataclasses import dataclass, fields
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from madyn import cli
from madyn.cli.spread import Fields, spread
from madyn.settings import Probe, Said, Settings, said_of


@dataclass(frozen=True)
class Oven:
    """A thing with settings."""

    heat: Annotated[int, Said("Degrees.")] = 180
    fan: Annotated[bool | None, Said("Move the air; where it helps by default.")] = None
    light: Annotated[bool, Said("Show it.")] = False
    rack: Annotated[str | None, Said("Which one.", option="shelf")] = None


def bake(*, dish: str, oven: Annotated[Oven, Fields("heat", "fan", "rack", defaults={"heat": 200})]) -> None:
    """Bake a dish."""
    typer.echo(f"{dish} {oven}")


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(spread(bake))
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_a_command_is_called_with_one_dataclass(run):
    assert run("pie").output == "pie Oven(heat=200, fan=None, light=False, rack=None)\n"
    said = run("pie", "--heat", "90", "--no-fan", "--shelf", "low").output
    assert said == "pie Oven(heat=90, fan=False, light=False, rack='low')\n"
    assert run("pie", "--light").exit_code == 2
    assert run("pie", "--rack", "low").exit_code == 2
    assert run("pie", "--heat", "hot").exit_code == 2


def test_the_help_says_what_the_fields_say(run):
    said = " ".join(run("--help").output.replace("│", " ").split())
    for words in ("Bake a dish.", "--heat", "Degrees. [default: 200]", "--fan", "--no-fan", "Move the air;", "--shelf"):
        assert words in said
    assert "--light" not in said


@pytest.mark.parametrize("kind", [Settings, Probe])
def test_every_field_of_a_measurement_is_an_option_of_trace(kind):
    """With the field's own words and default; a field that is added becomes one by itself."""
    options = {option.name: option for option in vars(typer.main.get_command(cli.app))["commands"]["trace"].params}
    for f in fields(kind):
        said = said_of(kind)[f.name][1]
        option = options[said.option or f.name]
        if f.name == "bos":  # with words of its own: none, start or both
            continue
        assert (option.default, option.help) == (f.default, said.help)
        assert said.help in kind.__doc__


def test_a_command_may_say_another_default():
    options = {option.name: option for option in vars(typer.main.get_command(cli.app))["commands"]["scan"].params}
    assert (options["sequences"].default, options["length"].help) == (4, "Tokens a sequence; at most 512 if not given.")
    assert "documents" not in options
