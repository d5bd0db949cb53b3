"""The notebooks run from their first cell to the last, in a kernel of their own and an empty folder."""

from pathlib import Path

import nbformat
import pytest

HOME = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(HOME.glob("*.ipynb"))
LARGEST = 200_000  # bytes, outputs and pictures among them


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    if path.stem == "from_dataset_to_figure":
        assert (tmp_path / "ratio.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_says_nothing_of_the_machine_that_it_ran_on(path):
    text = path.read_text(encoding="utf-8")
    assert len(text) < LARGEST
    assert not [word for word in ("/root", "/home", "/Users", "/work", "/tmp", "site-packages") if word in text]
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))


def test_both_are_there():
    assert [path.stem for path in NOTEBOOKS] == ["from_dataset_to_figure", "from_model_to_intervention"]
