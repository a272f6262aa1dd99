"""The tutorials: pages of the site, for which this file is a hook of mkdocs.

``python docs/notebooks.py [FILE ...]`` executes them anew.

A link to ``tutorials/x.ipynb`` leads to the notebook in the repository and to its page on the site.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

TUTORIALS = Path(__file__).parent / "tutorials"
MINUTES = 30
"""After which a cell is given up; on a quiet core no notebook takes more than three."""


class NotebookFile(File):
    """A notebook that mkdocs takes for a page."""

    def is_documentation_page(self) -> bool:
        """Return that it is one."""
        return True


def on_files(files: Files, *, config: Any) -> Files:
    """Make pages of the notebooks."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        files.remove(file)
        files.append(NotebookFile(file.src_uri, config.docs_dir, config.site_dir, config.use_directory_urls))
    return files


def on_page_read_source(*, page: Any, config: Any) -> str | None:
    """Return a notebook as Markdown, with a link to the notebook itself below the title; None for other pages."""
    path = Path(page.file.abs_src_path)
    if path.suffix != ".ipynb":
        return None
    text, _ = MarkdownExporter().from_filename(str(path))
    text = re.sub(r"<style scoped>.*?</style>", "", text, flags=re.DOTALL)  # of pandas: the site has its own
    text = text.replace('<table border="1" class="dataframe">', "<table>").replace(' style="text-align: right;"', "")
    title, _, rest = text.strip().partition("\n")
    own = f'<p><a href="{path.name}" download>Download this page as a notebook</a></p>'
    return f"{title}\n\n{own}\n\n{rest}\n"


def on_post_build(*, config: Any) -> None:
    """Put each notebook beside its page."""
    for path in TUTORIALS.glob("*.ipynb"):
        folder = Path(config.site_dir) / "tutorials" / (path.stem if config.use_directory_urls else "")
        shutil.copy(path, folder / path.name)


def execute(path: Path, folder: Path) -> Any:
    """Return a notebook with the outputs that its cells have now; any error ends it.

    Args:
        path: The notebook.
        folder: An empty folder to run in.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=MINUTES * 60, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    client.execute()
    for cell in notebook.cells:
        cell.metadata.clear()  # when it was run
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_bar(output)]
            for output in cell.outputs:
                if "text/html" in output.get("data", {}):
                    del output["data"]["text/plain"]  # the same once more
    notebook.metadata = {"kernelspec": notebook.metadata.kernelspec, "language_info": {"name": "python"}}
    return notebook


def _is_bar(output: Any) -> bool:
    """Return whether an output is a progress bar, which is over."""
    return output.get("name") == "stderr" or "application/vnd.jupyter.widget-view+json" in output.get("data", {})


def main(names: Sequence[str]) -> None:
    """Execute notebooks, all if none is named, and write their outputs."""
    import nbformat

    for path in [TUTORIALS / Path(name).name for name in names] or sorted(TUTORIALS.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(path, Path(folder))
            text = nbformat.writes(notebook).replace(f"{folder}/", "")
        path.write_text(re.sub(r"\x1b\[[0-9;]*m", "", text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
