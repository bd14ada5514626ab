"""The notebooks of examples/ run from start to end, in a kernel of Jupyter."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.ipynb")))
def test_a_notebook_runs(name: str) -> None:
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not committed"
    client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(EXAMPLES)}})
    client.execute()
    texts = [str(output) for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("image/png" in text or "text/html" in text for text in texts)
