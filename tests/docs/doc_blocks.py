"""The fenced blocks of README and docs, and the place where their commands and programs are tried.

A comment in the line before a block says how it is tested:

- none: it is run.
- ``<!-- test: slow -->``: it is run among the slow tests; whatever trains gets tiny options.
- ``<!-- test: parse; REASON -->``: it is only read, options checked: it needs a GPU, a network, a cluster, ...
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from fakes import TINY

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TIME = "20260101-120000"
"""Stands for ``<time>``."""
FENCE = re.compile(
    r"^(?:<!-- (?P<kind>test|ci): (?P<mark>[^\n]*?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)
FILMS = {
    **{"1": "Toy Story", "50": "Star Wars", "71": "Lion King, The", "89": "Blade Runner", "127": "Godfather, The"},
    **{"172": "Empire Strikes Back, The", "174": "Raiders of the Lost Ark", "181": "Return of the Jedi"},
    **{"195": "Terminator, The", "222": "Star Trek: First Contact", "sku-4": "Garden chair", "sku-17": "Parasol"},
    "sku-8": "Garden bench",
}
OTHERS = [f"other-{number}" for number in range(107)]  # some models rank among 100 items that were not seen
OPTIONS = {**TINY, "task_samples": 16, "codebook_size": 32, "epochs": 1, "num_beams": 12, "topk": [1, 5, 10]}
UNFILTERED = {"user_inter_num_interval": "[0,inf)", "item_inter_num_interval": "[0,inf)"}
"""Games and Scientific are filtered otherwise."""
SHORT = {**UNFILTERED, "epochs": 1, "eval_step": 1, "show_progress": False}
"""For a search, whose space has the sizes."""
OF_OTHER_MODELS = {
    **{"t5_d_model": 16, "t5_layers": 1, "t5_heads": 2, "t5_head_dim": 8, "t5_d_ff": 16, "train_samples": 64},
    **{"rpg_hidden_size": 16, "rpg_layers": 1, "rpg_intermediate_size": 16, "pretrain_epochs": 1},
    **{"hidden_size": 16, "inner_size": 16, "n_layers": 1, "n_heads": 2, "embedding_size": 16},
}


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: Where it stands, from the root of the repository.
        line: Line of its fence.
        language: What the fence says.
        how: run, slow or parse.
        reason: Why it is only parsed.
        text: What is in it, ``<time>`` filled in.
    """

    page: str
    line: int
    language: str
    how: str
    reason: str
    text: str

    def commands(self) -> list[list[str]]:
        """Return the commands of a bash block, or those behind ``$`` of a console's, as lists of arguments."""
        found: list[list[str]] = []
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        for line in lines:
            words: list[str] = []
            for word in [*shlex.split(line, comments=True), "&&"]:
                if word != "&&":
                    words.append(word)
                elif words:
                    found.append(words)
                    words = []
        return found


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    found, text = [], page.read_text(encoding="utf-8")
    assert len(re.findall(r"^ *```", text, re.M)) == 2 * len(FENCE.findall(text)), (
        f"{page}: a fence is indented or open"
    )
    for match in FENCE.finditer(text):
        how, _, reason = (match["mark"] or "run").partition("; ")
        if match["kind"] == "ci":
            how, reason = "parse", "CI runs it"
        content = match["text"].replace("<time>", TIME)
        line = text[: match.start()].count("\n") + 1
        name = str(page.relative_to(ROOT))
        found.append(Block(name, line, match["language"], how, reason, content))
    return found


def write_films(folder: Path, name: str) -> None:
    """Write a data set of films and garden furniture, in which an item is followed by the next one."""
    titles = {**FILMS, **{item: f"A film called {item}" for item in OTHERS}}
    items = list(titles)
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    for number, user in enumerate(["196", "186", *(f"u{n}" for n in range(38))]):
        lines += [f"{user}\t{items[(3 * number + time) % len(items)]}\t{time}" for time in range(5 + number % 4)]
    (folder / name).mkdir(parents=True)
    (folder / name / f"{name}.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")
    # the columns of ml-100k and of the Amazon data, so that the options for either fit
    lines = [
        "item_id:token\ttitle:token_seq\tmovie_title:token_seq\tdescription:token_seq\trelease_year:token"
        "\tclass:token_seq\tbrand:token\tcategories:token_seq"
    ]
    for n, (item, title) in enumerate(titles.items()):
        kind = f"kind {n % 3}"
        lines.append(f"{item}\t{title}\t{title}\tof colour {n % 4}\t{1990 + n % 5}\t{kind}\tmaker {n % 2}\t{kind}")
    (folder / name / f"{name}.item").write_text("\n".join(lines) + "\n", encoding="utf-8")


def furnish(place: Path, run: Path, texts: Sequence[str]) -> None:
    """Put into an empty folder what the blocks of a page speak of.

    Args:
        place: The folder.
        run: A finished run, copied to every ``saved/NAME`` that no block makes.
        texts: The blocks.
    """
    for folder, names in {"dataset": ("ml-100k", "Games", "Scientific"), "data": ("shop", "Games")}.items():
        for name in names:
            write_films(place / folder, name)
    text = "\n".join(texts)
    made = set(re.findall(r"output_dir=(saved/[\w.-]+)", text)) | set(re.findall(r'save\("(saved/[\w.-]+)', text))
    for name in set(re.findall(r"saved/[\w.-]*\w", text)) - made:
        if "/tune-" in name:
            (place / name).mkdir(parents=True)
            (place / name / "search.json").write_text("{}")
            (place / name / "best.yaml").write_text("model: SASRec\ndataset: ml-100k\n")
        else:
            shutil.copytree(run, place / name)
    files: dict[str, Any] = {
        "users.txt": "196\n186\n",
        "new-users.jsonl": '{"user": "anna", "history": ["50", "172", "181"]}\n',
        "shelf.txt": "50\n181\nsku-4\n",
        "space.yaml": "learning_rate: {loguniform: [1.0e-4, 1.0e-2]}\n",
        "sales.csv": "customer,sku,when,stars\n" + "".join(f"c{n % 3},s{n % 4},2026-01-0{n},5\n" for n in range(1, 9)),
        "tiny.yaml": yaml.safe_dump({**OPTIONS, **OF_OTHER_MODELS, **UNFILTERED}),
        "short.yaml": yaml.safe_dump(SHORT),
    }
    for name, content in files.items():
        (place / name).write_text(content, encoding="utf-8")
    products = {"sku": [f"s{n}" for n in range(4)], "name": ["chair"] * 4, "details": ["foldable"] * 4}
    pd.DataFrame(products).to_parquet(place / "products.parquet")
    for name in ("docs", "examples", "properties", "requirements.txt", "pyproject.toml", "run_recbole_lcrec.py"):
        (place / name).symlink_to(ROOT / name)
