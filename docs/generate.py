"""Write what comes from elsewhere: ``python docs/generate.py``; a test compares it with what is committed.

- docs/options_reference.md: every option of ours, from the comments beside its default.
- docs/modules.md: one line per module, from its docstring.
- the tables of results in all pages, from docs/results/records (:mod:`tables`). A new record, of a comparison's folder
  or of what a benchmark wrote with ``--output``::

      python docs/generate.py --record=saved/compare --name=scientific_sasrec_lcrec
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import tables  # noqa: E402  (beside this file)

from recbole_lcrec.config.declared import read_comments
from recbole_lcrec.config.loader import load_values
from recbole_lcrec.config.options import known_options
from recbole_lcrec.config.paths import properties_dir

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / "recbole_lcrec"
FILES = {
    "overall.yaml": "Every model",
    "embedding.yaml": "Models that read embeddings of the items",
    "index.yaml": "Models with an item index",
    "generative.yaml": "Models that generate paths (LCRec, TIGER, P5CID, LIGER)",
    "t5.yaml": "Models that train a T5 (TIGER, P5CID)",
    "language_model.yaml": "Models that tune a causal language model (LCRec, LIGER, TALLRec, InstructRec)",
    "user_texts.yaml": "Models that learn from users' texts (LCRec, InstructRec)",
    "model/LCRec.yaml": "LCRec",
    "model/LCRec/scratch.yaml": "LCRec under `recipe: scratch`",
    "model/LCRec/paper.yaml": "LCRec under `recipe: paper`",
    "model/LCRec/base_model.yaml": "LCRec with `base_model`",
    "model/LCRec/laptop_cpu.yaml": "LCRec under `recipe: laptop_cpu`",
    "model/LCRec/gpu_24gb.yaml": "LCRec under `recipe: gpu_24gb`",
    "model/LCRec/gpu_80gb.yaml": "LCRec under `recipe: gpu_80gb`",
    "model/TIGER.yaml": "TIGER",
    "quantizer/letter.yaml": "Quantizer `letter`",
    "model/LIGER.yaml": "LIGER",
    "model/RPG.yaml": "RPG",
    "model/P5CID.yaml": "P5CID",
    "candidates.yaml": "Models that rank candidates (TALLRec, InstructRec)",
    "model/TALLRec.yaml": "TALLRec",
    "model/InstructRec.yaml": "InstructRec",
    "recommend.yaml": "Recommending (`--recommend`)",
    "serve.yaml": "Serving (`--serve`)",
    "tune.yaml": "Searches (`--tune`)",
}


def options_page() -> str:
    """Return the reference of our options in Markdown."""
    parts = [
        "# Option reference",
        "",
        "Written by `docs/generate.py` from the YAML files in `properties/`. `~` is None.",
    ]
    for name, title in FILES.items():
        path = properties_dir() / name
        comments, values = read_comments(path), load_values(path)
        parts += [
            "",
            f"## {title}",
            "",
            f"`properties/{name}`",
            "",
            "| option | default | takes | |",
            "|---|---|---|---|",
        ]
        for option, value in values.items():
            takes, text = known_options()[option].declaration, comments[option][1]
            parts.append(f"| `{option}` | `{_shown(value)}` | {_cell(takes)} | {_cell(text)} |")
    return "\n".join(parts) + "\n"


def modules_page() -> str:
    """Return one line per module in Markdown, room by room."""
    parts = ["# Modules", "", "Written by `docs/generate.py` from the modules' docstrings."]
    for room in sorted(path for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()):
        parts += ["", f"## {room.name}", "", _first_line(room / "__init__.py"), ""]
        for path in sorted(room.rglob("*.py")):
            if path.name != "__init__.py":
                parts.append(f"- `{path.relative_to(PACKAGE).as_posix()}`: {_first_line(path)}")
    return "\n".join(parts) + "\n"


def _first_line(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return _plain(" ".join(text.split("\n\n")[0].split()))


def _plain(text: str) -> str:
    return text.replace("``", "`").replace("<", "&lt;") if "`" not in text else text.replace("``", "`")


def _shown(value: object) -> str:
    return "~" if value is None else _cell(str(value))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


PAGES = {"options_reference.md": options_page, "modules.md": modules_page}


def main(argv: Sequence[str]) -> None:
    """Take in a record if one is named, then write everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, help="A comparison's folder, or the JSON file of a benchmark.")
    parser.add_argument("--name", help="Name of the record; <!-- table: NAME --> in a page shows it.")
    arguments = parser.parse_args(argv)
    if (arguments.record is None) != (arguments.name is None):
        parser.error("--record and --name belong together")
    if arguments.record:
        path = tables.add(arguments.record, arguments.name)
        print(f"{path}: say in it how many trials chose the options, and put the table into a page:")
        print(f"<!-- table: {arguments.name} -->\n<!-- /table -->")
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
    for path in tables.pages():
        path.write_text(tables.filled(path), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
