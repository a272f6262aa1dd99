"""What a loaded run answers, held against the data and against its own scores."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fakes import TINY, write_dataset

from recbole_lcrec import Recommender
from recbole_lcrec.experiment import run
from recbole_lcrec.recommending.output import encoded
from recbole_lcrec.utils.errors import UserError

HISTORY = ["i1", "i2", "i3"]


def histories_of(folder: Path) -> dict[str, list[str]]:
    lines = (folder / "toy" / "toy.inter").read_text(encoding="utf-8").splitlines()[1:]
    found: dict[str, list[str]] = {}
    for user, item, _ in (line.split("\t") for line in lines):
        found.setdefault(user, []).append(item)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of several models on one data set; histories are shorter than what some users have."""
    folder = write_dataset(tmp_path_factory.mktemp("runs"))
    given = {**TINY, "data_path": str(folder), "cache_dir": str(folder / "cache"), "epochs": 1}
    given |= {"MAX_ITEM_LIST_LENGTH": 5, "num_beams": 30}
    run("LCRec", "toy", {**given, "output_dir": str(folder / "LCRec")})
    for model in ("TIGER", "SASRec", "BPR", "Pop"):
        own = {name: value for name, value in given.items() if name in ("data_path", "cache_dir", "show_progress")}
        own |= {"epochs": 1, "MAX_ITEM_LIST_LENGTH": 5, "use_gpu": False}
        if model == "TIGER":
            own |= {
                name: TINY[name] for name in ("codebook_size", "latent_dim", "rqvae_layers", "rqvae_epochs", "lsa_dim")
            }
            own |= {"num_beams": 30, "t5_d_model": 16, "t5_layers": 1, "t5_d_ff": 16, "train_samples": 64}
        run(model, "toy", {**own, "output_dir": str(folder / model)})
    return folder


@pytest.fixture(scope="module")
def lcrec(folder: Path) -> Recommender:
    return Recommender.load(folder / "LCRec")


@pytest.mark.parametrize("model", ["LCRec", "SASRec"])
def test_users_get_what_their_whole_history_gets(folder: Path, model: str) -> None:
    recommender = Recommender.load(folder / model)
    histories = histories_of(folder)
    assert max(map(len, histories.values())) > 5
    users = list(histories)[:12]
    of_users = recommender.recommend_users(users, 30)
    of_histories = recommender.recommend([histories[user] for user in users], 30)
    for one, other in zip(of_users, of_histories, strict=True):
        assert [entry.item for entry in one] == [entry.item for entry in other]
        assert [entry.score for entry in one] == pytest.approx([entry.score for entry in other], abs=1e-5)
    assert of_users[0][0].title is not None and of_users[0].source == "model"
    new = Recommender.load(folder / model, exclude_history=True).recommend_users(users, 30)
    for user, one in zip(users, new, strict=True):
        assert not {entry.item for entry in one} & set(histories[user])


@pytest.mark.parametrize("model", ["BPR", "Pop"])
def test_models_of_users_answer_what_they_can(folder: Path, model: str) -> None:
    recommender = Recommender.load(folder / model)
    found = recommender.recommend_users(["u3", "u1"], 4, among=["i1", "i2"])
    assert found.users == ("u3", "u1") and {entry.item for entry in found[0]} == {"i1", "i2"}
    assert not recommender.reads_histories and recommender.known_parts([[]]) == ([[]], 0)
    refused: dict[str, Any] = {
        "no use for histories": lambda: recommender.recommend([HISTORY]),
        "task itemsearch. Use LCRec": lambda: recommender.search("a gadget"),
        "task preferenceobtain. Use LCRec": lambda: recommender.preferences(HISTORY),
        "no item index": lambda: recommender.path_of("i1"),
        "Name users of the data set instead": lambda: recommender.known_parts([[], HISTORY]),
        "scores users": lambda: recommender.explain(HISTORY, "i4"),
        "not in the data set, e.g. 'nobody'": lambda: recommender.recommend_users(["u1", "nobody"]),
    }
    for message, call in refused.items():
        with pytest.raises(UserError, match=message):
            call()
    if model == "BPR":
        assert "i1" not in [entry.item for entry in recommender.similar_items("i1", 40)]
    else:
        with pytest.raises(UserError, match="no vector"):
            recommender.similar_items("i1")


@pytest.mark.parametrize("model", ["LCRec", "TIGER", "SASRec"])
def test_explanations_add_up(folder: Path, model: str) -> None:
    recommender = Recommender.load(folder / model)
    item = recommender.recommend([HISTORY], 30)[0][3].item
    explained = recommender.explain(HISTORY, item)
    shorter = [HISTORY, HISTORY[1:], [HISTORY[0], HISTORY[2]], HISTORY[:2]]
    scores = [{e.item: e.score for e in one}[item] for one in recommender.recommend(shorter, 30)]
    assert [explained.score, *(one.score_without for one in explained.influences)] == pytest.approx(scores, abs=1e-4)
    assert [one.change for one in explained.influences] == pytest.approx([scores[0] - s for s in scores[1:]], abs=1e-4)
    if model == "SASRec":
        assert explained.steps == ()
    else:
        assert [step.meaning.code for step in explained.steps] == list(recommender.path_of(item))
        assert sum(step.log_prob for step in explained.steps) == pytest.approx(explained.score, abs=1e-4)
        assert explained.steps[0].alternative and explained.steps[0].alternative.items > 0
        assert explained.steps[-1].meaning.items == 1 and explained.steps[-1].meaning.examples
    alone = recommender.explain(HISTORY[:1], item)
    assert alone.influences[0].score_without is None


def test_nothing_known_gets_popular_items_and_unknown_items_are_counted(folder: Path, lcrec: Recommender) -> None:
    with pytest.raises(UserError, match="1 item.s. of the histories are not known to the model, e.g. 'nope'"):
        lcrec.recommend([["i1"], ["nope"]])
    found = lcrec.recommend([["i1", "nope"], ["nope"], []], 3, unknown="skip", titles=False)
    assert found.skipped == 2 and [one.source for one in found] == ["model", "popularity", "popularity"]
    assert found[0] == lcrec.recommend([["i1"]], 3, titles=False)[0] and found[0][0].title is None
    counts = Counter(item for history in histories_of(folder).values() for item in history[: max(len(history) - 2, 2)])
    assert [entry.score for entry in found[1]] == sorted(counts.values(), reverse=True)[:3]
    assert lcrec.recommend([[]], 9, among=["i7", "i5"])[0].to_pandas()["item"].tolist() in (["i7", "i5"], ["i5", "i7"])


def test_words_find_items(lcrec: Recommender, folder: Path) -> None:
    assert len(lcrec.search("a gadget of group 3", 7)) == 7
    with_history = lcrec.search("a gadget of group 3", 7, history=HISTORY)
    assert with_history != lcrec.search("a gadget of group 3", 7) != lcrec.search("number 25", 7)
    assert isinstance(lcrec.preferences(HISTORY), str) and "<a_" not in lcrec.preferences(HISTORY)
    found = lcrec.find_items("NUMBER gadget 29")
    assert [entry.title for entry in found] == ["gadget 5 number 29"] and found.source == "titles"
    assert lcrec.find_items("") == lcrec.find_items("nothing") and not lcrec.find_items("")
    with pytest.raises(UserError, match="some words"):
        lcrec.search(" ")
    with pytest.raises(UserError, match="has not learned task itemsearch"):
        Recommender(lcrec.experiment).search.__func__(_without_task(lcrec), "words")  # type: ignore[attr-defined]


def _without_task(recommender: Recommender) -> Recommender:
    from types import SimpleNamespace

    config = {"tasks": ["seqrec"], "model": "LCRec"}
    experiment = SimpleNamespace(config=config, model=recommender.experiment.model, dataset=None)
    return Recommender(experiment)  # type: ignore[arg-type]


def test_added_items_are_saved(folder: Path, tmp_path: Path) -> None:
    recommender = Recommender.load(folder / "LCRec")
    recommender.add_items({"new": "gadget 3 number 99"}, {"new": "group 3 colour 1"})
    assert recommender.title_of("new") == "gadget 3 number 99" and len(recommender.path_of("new")) == 3
    assert recommender.similar_items("new", 1)[0].title.startswith("gadget 3"), "texts tell"  # type: ignore[union-attr]
    assert [entry.item for entry in recommender.find_items("99")] == ["new"]
    before = recommender.recommend([["i1", "new"]], 31)
    assert "new" in {entry.item for entry in before[0]}
    saved = recommender.save(tmp_path / "saved")
    again = Recommender.load(saved)
    assert again.recommend([["i1", "new"]], 31) == before
    again.add_items({"newer": "gadget 1 number 98"})
    third = Recommender.load(again.save(tmp_path / "third"))
    assert {"new", "newer"} <= {entry.item for entry in third.recommend([["i1"]], 32)[0]}
    with pytest.raises(UserError, match="holds files"):
        again.save(tmp_path / "saved")


def test_answers_read_well(lcrec: Recommender) -> None:
    found = lcrec.recommend([["i1"], ["i2"]], 2)
    assert "history 1: 2 items (model)" in repr(found) and "gadget" in repr(found[0])
    frame = found.to_pandas()
    assert list(frame.columns) == ["history", "rank", "item", "title", "score", "source"] and len(frame) == 4
    assert "<table>" in found._repr_html_() and found[0][:1].source == "model"
    explained = lcrec.explain(HISTORY, "i4")
    assert "&lt;a_" in explained._repr_html_() and len(explained.to_pandas()) == 3 and "Its codes" in repr(explained)
    assert encoded(found, ["a", "b"], ".csv", titles=False).decode().startswith("a,1,i")
