"""Indexes made from interactions are made from training interactions: nothing held out may change them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.data.split import training_sequences
from recbole_lcrec.experiment.factory import dataset_class
from recbole_lcrec.index import ItemIndex
from recbole_lcrec.utils.timer import StageTimer

N_ITEMS = 30


def write(folder: Path, *, held_out: int) -> None:
    """Write 40 users whose last two items are drawn with seed ``held_out``."""
    rng, last = np.random.default_rng(0), np.random.default_rng(held_out)
    (folder / "toy").mkdir(parents=True, exist_ok=True)
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(40):
        start, length = int(rng.integers(N_ITEMS)), int(rng.integers(3, 9))
        items = [(start + step) % N_ITEMS for step in range(length)] + last.integers(N_ITEMS, size=2).tolist()
        lines += [f"u{user}\ti{item}\t{time}" for time, item in enumerate(items)]
    (folder / "toy" / "toy.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = [f"i{n}\tgadget {n // 5} number {n}" for n in range(N_ITEMS)]
    text = "\n".join(["item_id:token\ttitle:token_seq", *rows]) + "\n"
    (folder / "toy" / "toy.item").write_text(text, encoding="utf-8")


def index_of(folder: Path, **options: object) -> tuple[ItemIndex, list[list[int]]]:
    given = {
        "data_path": str(folder), "cache_dir": str(folder / "cache"), "show_progress": False, "use_gpu": False,
        "codebook_size": 8, "num_levels": 3, "latent_dim": 4, "cid_clusters": 4, "lsa_dim": 8, "cf_dim": 8,
        "vocab_size": 300, **options,
    }  # fmt: skip
    config = LCRecConfig("LCRec", "toy", config_dict=given)
    dataset = dataset_class(config)(config)
    parts = dataset.build()
    indexed = dataset.index_items(StageTimer(), parts)
    tokens = dataset.field2id_token[dataset.iid_field]
    sequences = [[indexed.text.rows[tokens[i]] for i in items] for items in training_sequences(parts[0]).values()]
    return indexed.index, sequences


OPTIONS = [
    {"quantizer": "cid"},
    {"quantizer": "rkmeans", "embedding": "cf"},
    {"quantizer": "rkmeans", "embedding": "text+cf"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=["cid", "cf", "text+cf"])
def test_held_out_interactions_change_nothing(options: dict, tmp_path: Path) -> None:
    write(tmp_path / "a", held_out=1)
    write(tmp_path / "b", held_out=2)
    (first, sequences), (second, _) = index_of(tmp_path / "a", **options), index_of(tmp_path / "b", **options)
    assert first == second
    n_interactions = len((tmp_path / "a/toy/toy.inter").read_text().splitlines()) - 1
    assert len(sequences) == 40 and sum(map(len, sequences)) == n_interactions - 2 * 40


def test_without_text_an_index_from_interactions_can_be_built(tmp_path: Path) -> None:
    write(tmp_path, held_out=1)
    (tmp_path / "toy" / "toy.item").unlink()
    for options in ({"quantizer": "cid"}, {"embedding": "cf"}, {"quantizer": "random"}):
        index, _ = index_of(tmp_path, tasks=["seqrec"], rqvae_epochs=2, **options)
        assert len(index) == N_ITEMS


def test_training_sequences_are_whole_and_in_time_order(tmp_path: Path) -> None:
    write(tmp_path, held_out=1)
    index, sequences = index_of(tmp_path, quantizer="random", MAX_ITEM_LIST_LENGTH=3)
    rows = [line.split("\t") for line in (tmp_path / "toy/toy.inter").read_text().splitlines()[1:]]
    expected = []
    for user in range(40):
        items = [item for name, item, _ in rows if name == f"u{user}"][:-2]
        expected.append(index.positions(items).tolist())
    assert sorted(sequences) == sorted(expected)
