"""All models of RecBole on one small data set: how each is run here, and the table of what came of it.

    WRITE_TABLE=docs/recbole_models.md pytest -m slow tests/test_recbole_models.py

runs every model and writes the table; a quick test holds the committed one against the list of models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = Path(__file__).resolve().parents[1] / "docs" / "recbole_models.md"

NEEDS = {
    "KGAT": "dgl", "KGIN": "torch_scatter", "MCCLK": "torch_scatter",
    "LightGBM": "lightgbm", "XGBoost": "lightgbm", "NCL": "faiss",
}  # fmt: skip
"""Models that need a package which this one does not install -> the one that RecBole asks for first."""

BROKEN = {"KSR": "the same dtype"}
"""Models that RecBole 1.2.1 itself breaks off, on any stack -> words of its error (KSR mixes float32 and float64)."""

_TOKENS = {"inter": ["user_id", "item_id", "rating"], "user": ["user_id", "gender"], "item": ["item_id", "maker"]}
_VECTORS: dict[str, Any] = {
    "load_col": {
        "inter": ["user_id", "item_id", "timestamp"],
        "kg": ["head_id", "relation_id", "tail_id"],
        "link": ["item_id", "entity_id"],
        "ent": ["ent_id", "ent_emb"],
    },
    "preload_weight": {"ent_id": "ent_emb"},
    "alias_of_entity_id": ["ent_id"],
    "kg_embedding_size": 8, "embedding_size": 8,
}  # fmt: skip

EXTRA: dict[str, dict[str, Any]] = {
    "S3Rec": {"train_stage": "pretrain", "pretrain_epochs": 2, "save_step": 1, "item_attribute": "class"},
    "RaCT": {"train_stage": "actor_pretrain", "pretrain_epochs": 2, "save_step": 1},
    # it counts float columns among its features, and does not embed them
    "DSSM": {"load_col": _TOKENS},
    # its predictions are columns, which LogLoss cannot take
    "KD_DAGFM": {"load_col": _TOKENS, "metrics": ["AUC"], "valid_metric": "AUC"},
    # the best 100 items of a catalogue of 30 are more than there are
    "SASRecCPR": {"reranker_CAN_NUM": "20"},
    "GRU4RecCPR": {"reranker_CAN_NUM": "20"},
    "GRU4RecKG": _VECTORS,
    "KSR": {
        **_VECTORS,
        "additional_feat_suffix": ["ent", "rel"],
        "load_col": {**_VECTORS["load_col"], "rel": ["rel_id", "rel_emb"]},
        "preload_weight": {"ent_id": "ent_emb", "rel_id": "rel_emb"},
        "alias_of_relation_id": ["rel_id"],
    },
}
"""Options without which a model would take long, or not run on this data set."""

_HEAD = """# RecBole's models in this package

Written by `WRITE_TABLE=docs/recbole_models.md pytest -m slow tests/test_recbole_models.py`; do not edit by hand.

Each of RecBole {recbole}'s {total} models, on a toy data set with item and user features and a knowledge graph, one
thread, torch {torch}, numpy {numpy}, pandas {pandas}. *trains*: two epochs, evaluated by validation and test, and
evaluated again from its folder with the same numbers. *resumes*: killed within the training (kill -9) and resumed with
`--resume`, it ends with the metrics and the weights of the uninterrupted run, bit for bit; "from the beginning": it
trains in a loop of its own that keeps no states, and starts again. {passed} of {total} run; the others name the
package that they need, or fail in RecBole's own code on any stack.

| model | kind | trains | resumes |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    """What came of a model.

    Attributes:
        model: Its name.
        kind: RecBole's type of model, in lower case.
        trains: "yes", "failed", "fails in RecBole", or the package that it needs.
        resumes: "yes", "from the beginning", "failed", or "" if it does not train.
    """

    model: str
    kind: str
    trains: str
    resumes: str


def write_everything(folder: Path, *, users: int = 40, items: int = 30) -> None:
    """Write data set "all": interactions with ratings, features of items and users, and a knowledge graph."""
    target = folder / "all"
    target.mkdir(parents=True)
    files = {
        "inter": ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
        + [
            f"u{user}\ti{(user * 7 + time * (1 + user % 3)) % items}\t{1 + (user + time) % 5}\t{time}"
            for user in range(users)
            for time in range(5 + user % 6)
        ],
        "item": ["item_id:token\ttitle:token_seq\tclass:token_seq\tmaker:token\tprice:float"]
        + [f"i{n}\tgadget number {n}\tkind{n % 4} kind{n % 3}\tmaker{n % 5}\t{n + 0.5}" for n in range(items)],
        "user": ["user_id:token\tage:float\tgender:token"] + [f"u{n}\t{20 + n}\t{'fm'[n % 2]}" for n in range(users)],
        "kg": ["head_id:token\trelation_id:token\ttail_id:token"]
        + [f"e{n}\thas_colour\tcolour{n % 5}" for n in range(items)]
        + [f"e{n}\tmade_by\tmaker{n % 4}" for n in range(items)],
        "ent": ["ent_id:token\tent_emb:float_seq"]
        + [f"e{n}\t" + " ".join(str((n * place) % 7 / 7) for place in range(8)) for n in range(items)],
        "rel": ["rel_id:token\trel_emb:float_seq"]
        + [f"{name}\t" + " ".join(["0.5", "0.1"] * 4) for name in ("has_colour", "made_by")],
        "link": ["item_id:token\tentity_id:token"] + [f"i{n}\te{n}" for n in range(items)],
    }
    for suffix, lines in files.items():
        (target / f"all.{suffix}").write_text("\n".join(lines) + "\n")


def kind_of(model: str) -> str:
    """Return RecBole's type of a model, read from where its module lies, for models that cannot be imported too."""
    from recbole_lcrec.config.paths import recbole_dir

    for path in (recbole_dir() / "model").glob("*_recommender/*.py"):
        if path.stem == model.lower():
            return path.parent.name.removesuffix("_recommender").replace("_", " ")
    return "external"


def options(model: str, folder: Path) -> dict[str, Any]:
    """Return the options of a run of a model on the data set "all"."""
    given: dict[str, Any] = {
        "data_path": str(folder), "cache_dir": str(folder / "cache"), "show_progress": False, "use_gpu": False,
        "epochs": 2, "train_batch_size": 64, "eval_batch_size": 64,
    }  # fmt: skip
    if kind_of(model) in ("context aware", "exlib") or model in ("DIN", "DIEN"):
        given |= {"threshold": {"rating": 3}, "load_col": None}
    return {**given, **EXTRA.get(model, {})}


def table(rows: Mapping[str, Row], models: list[str]) -> str:
    """Return the table; a model without a row has failed."""
    import numpy
    import pandas
    import recbole
    import torch

    lines = [rows.get(model) or Row(model, kind_of(model), "failed", "failed") for model in models]
    head = _HEAD.format(
        recbole=recbole.__version__, torch=torch.__version__.partition("+")[0], numpy=numpy.__version__,
        pandas=pandas.__version__, total=len(models), passed=sum(line.trains == "yes" for line in lines),
    )  # fmt: skip
    return head + "".join(f"| {row.model} | {row.kind} | {row.trains} | {row.resumes} |\n" for row in lines)


def read_table(path: Path = TABLE) -> list[Row]:
    """Return the rows of a written table."""
    lines = [line.strip("| ").split(" | ") for line in path.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip(" |") for cell in (*line, "")][:4] for line in lines[1:]]
    return [Row(*line) for line in cells]
