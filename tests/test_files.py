"""Whole files or none, whatever happens on the way."""

import os
import resource
import subprocess
import sys

import pytest

from madyn.dataset.files import read_json, write_bytes, write_json, write_text
from madyn.errors import DatasetError, StorageError


def test_a_file_is_replaced_whole_and_readable_by_others(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    write_text(path, "one")
    write_text(path, "two")
    assert path.read_text() == "two"
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_strict_json_only(tmp_path):
    write_json(tmp_path / "f", {"λ": [1, None]})
    assert read_json(tmp_path / "f") == {"λ": [1, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "f", float("nan"))
    assert read_json(tmp_path / "f") == {"λ": [1, None]}
    (tmp_path / "g").write_text("[" * 100_000)
    with pytest.raises(DatasetError, match="not JSON"):
        read_json(tmp_path / "g")


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(StorageError, match=r"cannot write .*taken/file: .*choose another folder"):
        write_bytes(tmp_path / "taken" / "file", b"")
    assert (tmp_path / "taken").read_text() == "mine"


# The kernel refuses to let the file grow, as it does on a full disk; the limit binds root too.
_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from madyn.dataset.files import write_bytes
from madyn.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_bytes(Path(sys.argv[1]), b"x" * 5000)
except StorageError as e:
    print(e)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="this system cannot limit a file's size")
def test_a_write_that_the_disk_cuts_short_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    said = subprocess.run([sys.executable, "-c", _FULL_DISK, path], capture_output=True, text=True, check=True).stdout
    assert f"cannot write {path}" in said
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
