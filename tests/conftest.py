"""What all tests share: a Hub of their own, and the command line in this process.

The Hub's client, transformers and datasets read the address of the Hub and the place of its cache once, when they are
imported. Both are therefore set before any test module is: no test can reach the real Hub or the user's cache, and
the processes that tests start inherit it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from longest import is_long, listed
from loopback_hub import LoopbackHub

_HUB = pytest.StashKey[LoopbackHub]()
_IN_MEMORY = Path("/dev/shm")
_ROOM = 6e9  # bytes


def _write_in_memory() -> None:
    """Let the tests write where nothing waits for a disk: they write some ten thousand files, each of which madyn sees
    safely onto it. Where there is no such place, or TMPDIR says another one, that one."""
    if "TMPDIR" in os.environ or not os.access(_IN_MEMORY, os.W_OK):
        return
    if shutil.disk_usage(_IN_MEMORY).free > _ROOM:
        os.environ["TMPDIR"] = tempfile.tempdir = str(_IN_MEMORY)


def pytest_configure(config: pytest.Config) -> None:
    _write_in_memory()
    config.stash[_HUB] = server = LoopbackHub()
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
        del os.environ[name]
    os.environ["HF_ENDPOINT"] = server.url
    os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="madyn-tests-")
    here = str(Path(__file__).parent)  # for scripts that tests start: they make their models as the tests do
    os.environ["PYTHONPATH"] = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    among = listed()
    for item in items:
        if is_long(item.nodeid, among):
            item.add_marker(pytest.mark.long)


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_HUB].close()
    shutil.rmtree(os.environ["HF_HOME"], ignore_errors=True)


@pytest.fixture
def hub(request: pytest.FixtureRequest) -> Iterator[LoopbackHub]:
    """A Hub with nothing on it. Its client's cache lives as long as the tests: use a name of a repository once."""
    from huggingface_hub import constants

    server = request.config.stash[_HUB]
    assert server.url == constants.ENDPOINT, "huggingface_hub was imported before the tests began"
    server.clear()  # of what tests without a hub of their own asked for
    yield server
    server.clear()


@pytest.fixture(autouse=True)
def no_kept_priors(tmp_path, monkeypatch):
    """Forecasts keep what they learned with the test, and not with the user."""
    monkeypatch.setattr("madyn.analysis.kept.folder", lambda: tmp_path / "kept-priors")


@pytest.fixture
def run(capsys, monkeypatch):
    """Run a command in this process; gives (exit code, standard output, standard error)."""

    from madyn import cli

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["madyn", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return caught.value.code, out, err

    return call


@pytest.fixture(autouse=True)
def _usual_voice():
    """What one test asked of the terminal, `-q` say, is not asked in the next."""
    from madyn import terminal

    terminal.set_voice()
