"""New items: free paths near their neighbours, nothing moved, the same from a saved folder, and recommended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import TINY, write_dataset
from quantizer.quantizer_helpers import clustered, small_settings

from recbole_lcrec.config.settings import restored
from recbole_lcrec.embedding import EmbeddingSettings, embed_items
from recbole_lcrec.embedding.new_items import ItemEncoder
from recbole_lcrec.experiment import load_experiment, run
from recbole_lcrec.index import build_index
from recbole_lcrec.index.adding import IndexMaker
from recbole_lcrec.quantizer import load_quantizer
from recbole_lcrec.utils.errors import UserError

KINDS = ["rqvae", "rkmeans", "opq"]


def built(folder: Path, kind: str = "rkmeans", mapping: str = "optimal") -> tuple[Any, IndexMaker, np.ndarray]:
    embeddings = clustered()
    settings = small_settings(quantizer=kind, rqvae_epochs=10, codebook_size=32)
    made = build_index(
        [f"i{n}" for n in range(280)], embeddings[:280], settings, cache_dir=folder, seed=1, mapping=mapping
    )
    return made.index, IndexMaker(load_quantizer(made.folder), None), embeddings


@pytest.mark.parametrize("mapping", ["optimal", "digit"])
@pytest.mark.parametrize("kind", KINDS)
def test_new_items_join_their_neighbours_and_nobody_moves(tmp_path: Path, kind: str, mapping: str) -> None:
    index, maker, embeddings = built(tmp_path, kind, mapping)
    new = [f"n{n}" for n in range(20)]
    extended, vectors = maker.add(index, new, embeddings=embeddings[280:])
    assert (vectors == embeddings[280:]).all()
    assert extended.items == (*index.items, *new) and extended.level_sizes == index.level_sizes
    np.testing.assert_array_equal(extended.codes[:280], index.codes)
    # the item right beside an old one shares its path as far as there is room
    twin, _ = maker.add(index, ["twin"], embeddings=embeddings[7:8])
    assert (twin.codes[-1, :-1] == index.codes[7, :-1]).all() and (twin.codes[-1] != index.codes[7]).any()
    maker.save(tmp_path)
    loaded = IndexMaker.load(tmp_path)
    assert loaded is not None and loaded.add(index, new, embeddings=embeddings[280:])[0] == extended


def test_what_cannot_be_added(tmp_path: Path) -> None:
    index, maker, embeddings = built(tmp_path)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"items": ["i3"], "embeddings": embeddings[:1]}, "'i3' is in the item index already"),
        ({"items": ["x", "x"], "embeddings": embeddings[:2]}, "'x' is in the item index already, or given twice"),
        ({"items": ["x"]}, "texts or embeddings"),
        ({"items": ["x"], "embeddings": embeddings[:1, :5]}, r"expected \[1, 12\]"),
        ({"items": ["x"], "embeddings": np.full((1, 12), np.nan)}, "NaN"),
    ]
    for arguments, message in cases:
        with pytest.raises(UserError, match=message):
            maker.add(index, **arguments)
    other = build_index(["a"], embeddings[:1], small_settings(quantizer="rkmeans"), cache_dir=tmp_path, seed=1)
    with pytest.raises(UserError, match="do not belong together"):
        maker.add(other.index, ["x"], embeddings=embeddings[:1])
    random = build_index(["a", "b"], None, small_settings(quantizer="random"), cache_dir=tmp_path, seed=1)
    with pytest.raises(UserError, match="quantizer=random"):
        IndexMaker(load_quantizer(random.folder), None).add(random.index, ["x"], embeddings=embeddings[:1])
    assert IndexMaker.load(tmp_path / "nowhere") is None
    maker.save(tmp_path)
    (tmp_path / "quantizer" / "quantizer.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match="cannot be read"):
        IndexMaker.load(tmp_path)


@pytest.mark.parametrize("embedding", ["text", "text+cf"])
def test_texts_are_embedded_in_the_space_of_the_index(tmp_path: Path, embedding: str) -> None:
    settings = restored(EmbeddingSettings, {"lsa_dim": 8, "embedding": embedding, "cf_dim": 4})
    texts = [f"gadget {n // 5} number {n % 7}" for n in range(60)]
    sequences = [np.arange(n, n + 5) for n in range(0, 50, 5)]
    shared: dict[str, Any] = {"cache_dir": tmp_path, "seed": 1}
    vectors = embed_items([str(n) for n in range(60)], texts, settings, sequences=sequences, **shared)
    encoder = ItemEncoder.of_catalogue(texts, vectors, settings, **shared)
    encoder.save(tmp_path)
    again = ItemEncoder.load(tmp_path).embed(texts)
    n_text = vectors.shape[1] - encoder.n_collaborative
    np.testing.assert_allclose(again[:, :n_text], vectors[:, :n_text], atol=1e-6)
    assert again.shape == vectors.shape and not again[:, n_text:].any()
    for change in ({"embedding": "cf"}, {"text_encoder": f"file:{tmp_path / 'x.npy'}"}):
        other = ItemEncoder(EmbeddingSettings(**{**settings.__dict__, **change}), None)
        with pytest.raises(UserError, match="give their embeddings"):
            other.embed(texts)


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    return {**TINY, "cache_dir": str(folder / "cache"), "output_dir": str(folder / "out"), **changes}


def without_items(source: Path, target: Path, left_out: set[str]) -> None:
    """Copy a data set without some items: neither their interactions nor their text."""
    (target / "toy").mkdir(parents=True)
    for name in ("toy.inter", "toy.item"):
        lines = (source / "toy" / name).read_text().splitlines()
        column = lines[0].split("\t").index("item_id:token")
        kept = [line for line in lines[1:] if line.split("\t")[column] not in left_out]
        (target / "toy" / name).write_text("\n".join([lines[0], *kept]) + "\n")


def test_a_trained_model_recommends_items_that_came_later(tmp_path: Path) -> None:
    write_dataset(tmp_path / "whole")
    new = {"i3", "i17"}
    without_items(tmp_path / "whole", tmp_path / "part", new)
    run("LCRec", "toy", options(tmp_path, data_path=str(tmp_path / "part")))
    experiment = load_experiment(tmp_path / "out")
    before = experiment.model.catalogue.index
    histories = [["i1", "i2"], ["i16"]]
    assert not new & {item for line in experiment.recommend(histories, 28)[0] for item in line}
    experiment.add_items({"i3": "gadget 0 number 3", "i17": "gadget 3 number 17"}, {"i17": "group 3 colour 2"})
    after = experiment.model.catalogue.index
    assert after.items == (*before.items, "i3", "i17") and (after.codes[:28] == before.codes).all()
    assert new <= set(experiment.recommend(histories, 30)[0][0])
    shelf = experiment.recommend(histories, 10, among=["i17", "i3", "i17"])[0]
    assert [set(line) for line in shelf] == [new, new]
    with pytest.raises(UserError, match="'x'"):
        experiment.recommend(histories, among=["x"])
    with pytest.raises(UserError, match="already"):
        experiment.add_items({"i3": "again"})
    # the same through the data: the grown catalogue, loaded with the option
    with pytest.raises(UserError, match="2 of the data set's 30 items have no path"):
        load_experiment(tmp_path / "out", {"data_path": str(tmp_path / "whole")})
    grown = load_experiment(tmp_path / "out", {"data_path": str(tmp_path / "whole"), "index_missing": "add"})
    assert {item: grown.model.catalogue.index.path(item) for item in new} == {i: after.path(i) for i in new}
    assert grown.evaluate("test") is not None


SCIENTIFIC = Path(__file__).resolve().parents[3] / "shared" / "datasets" / "Scientific"


@pytest.mark.slow
@pytest.mark.skipif(not SCIENTIFIC.is_dir(), reason="the shared data sets are not here")
def test_items_added_to_scientific_are_ranked_beyond_chance_among_each_other(tmp_path: Path) -> None:
    lines = (SCIENTIFIC / "Scientific.item").read_text().splitlines()[1:]
    items = sorted(line.split("\t")[0] for line in lines)
    new = set(np.random.default_rng(0).choice(items, size=len(items) // 20, replace=False).tolist())
    (tmp_path / "part" / "Scientific").mkdir(parents=True)
    for name in ("Scientific.inter", "Scientific.item"):
        head, *rows = (SCIENTIFIC / name).read_text().splitlines()
        column = [cell.split(":")[0] for cell in head.split("\t")].index("item_id")
        kept = [row for row in rows if row.split("\t")[column] not in new]
        (tmp_path / "part" / "Scientific" / name).write_text("\n".join([head, *kept]) + "\n")
    intervals = {"user_inter_num_interval": "[0,inf)", "item_inter_num_interval": "[0,inf)"}
    given = {"cache_dir": str(tmp_path / "c"), "output_dir": str(tmp_path / "out"), "show_progress": False}
    part = {"data_path": str(tmp_path / "part"), "epochs": 8, "valid_users": 100, "eval_step": 8}
    run("LCRec", "Scientific", {**given, **intervals, **part})
    whole = {"data_path": str(SCIENTIFIC.parent), "index_missing": "add"}
    grown = load_experiment(tmp_path / "out", whole)
    tokens, shelf = grown.dataset.field2id_token["item_id"], sorted(new)
    users, hits = 0, 0
    for batch, *_ in grown.test_data:
        for ids, length, target in zip(*(batch[f] for f in ("item_id_list", "item_length", "item_id")), strict=True):
            if str(tokens[target]) in new:
                history = [str(tokens[i]) for i in ids[:length]]
                users += 1
                hits += str(tokens[target]) in grown.recommend([history], 10, among=shelf)[0][0]
    print(f"{hits} of {users} new targets among the first 10 of {len(new)} new items; chance {10 / len(new):.3f}")
    assert hits / users > 2 * 10 / len(new)
