"""RecBole's datasets get the frames that they had with pandas 2, and refuse tables that they would get wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.config.intervals import parse_intervals
from recbole_lcrec.data.ids import check_histories, check_same_ids
from recbole_lcrec.experiment.factory import dataset_class
from recbole_lcrec.utils.errors import UserError

INTER = [
    "user_id:token\titem_id:token\ttimestamp:float\trating:float\tplace:token\ttags:token_seq\tsizes:float_seq",
    "u1\ti1\t1\t3\thome\ta b\t1 2.5",
    "u1\ti2\t2\t\t\t\t",
    "u2\ti1\t3\t5\tNA\tb\t4",
    "u2\ti3\t4\t1\tshop\tNA\t",
    "u2\ti2\t5\t3\thome\tc\t1",
]
ITEM = ["item_id:token\tmaker:token\tprice:float\twords:token_seq", "i1\tx\t10\tred saw", "i2\t\t\t", "i9\ty\t20\told"]
USER = ["user_id:token\tage:float\ttown:token\tpets:token_seq", "u1\t30\t\tcat dog"]


def write(folder: Path, inter: list[str] = INTER, item: list[str] = ITEM, user: list[str] = USER) -> dict[str, Any]:
    (folder / "toy").mkdir(exist_ok=True)
    for suffix, lines in {"inter": inter, "item": item, "user": user}.items():
        (folder / "toy" / f"toy.{suffix}").write_text("\n".join(lines) + "\n")
    return {"data_path": str(folder), "use_gpu": False, "filter_inter_by_user_or_item": False}


def load(given: dict[str, Any], model: str = "BPR", **changes: Any) -> Any:
    config = LCRecConfig(model, "toy", config_dict={**given, **changes})
    return dataset_class(config)(config)


def test_missing_values_are_filled_as_pandas_2_had_recbole_fill_them(tmp_path: Path) -> None:
    data = load(write(tmp_path), load_col=None)
    inter, item, user = data.inter_feat, data.item_feat, data.user_feat
    place = data.field2token_id["place"]
    assert inter["place"].tolist() == [place["home"], 0, 0, place["shop"], place["home"]]
    assert inter["rating"].tolist() == [3.0, 3.0, 5.0, 1.0, 3.0] and inter["rating"].dtype == np.float64
    tags = data.field2token_id["tags"]
    assert [one.tolist() for one in inter["tags"]] == [[tags["a"], tags["b"]], [], [tags["b"]], [], [tags["c"]]]
    assert [one.tolist() for one in inter["sizes"]] == [[1.0, 2.5], [], [4.0], [], [1.0]]
    assert (data.field2seqlen["tags"], data.field2seqlen["sizes"], data.field2seqlen["place"]) == (2, 2, 1)
    # rows are RecBole's ids: padding, i1, i2, i3 (without a line in .item), i9
    maker = data.field2token_id["maker"]
    assert item["maker"].tolist() == [0, maker["x"], 0, 0, maker["y"]]
    assert item["price"].tolist() == [15.0, 10.0, 15.0, 15.0, 20.0]
    assert [len(one) for one in item["words"]] == [0, 2, 0, 0, 1]
    assert user["age"].tolist() == [30.0, 30.0, 30.0] and user["town"].tolist() == [0, 0, 0]
    assert [len(one) for one in user["pets"]] == [0, 2, 0]
    train, *_ = data.build()
    assert not any(np.isnan(train.inter_feat[name].numpy()).any() for name in ("rating", "sizes"))


def test_sequences_are_cut_normalised_and_discretised(tmp_path: Path) -> None:
    given = write(tmp_path)
    data = load(given, load_col=None, seq_len={"tags": 1}, normalize_field=["sizes", "rating"])
    assert data.field2seqlen["tags"] == 1 and max(map(len, data.inter_feat["tags"])) == 1
    assert [one.tolist() for one in data.inter_feat["sizes"]] == [[0.0, 0.5], [], [1.0], [], [0.0]]
    assert data.inter_feat["rating"].tolist() == [0.5, 0.5, 1.0, 0.0, 0.5]
    data = load(
        given, load_col=None, numerical_features=["sizes"], discretization={"sizes": {"method": "ED", "bucket": 3}}
    )
    assert [one[1].tolist() for one in data.inter_feat["sizes"]] == [[1.0, 2.0], [], [3.0], [], [1.0]]


@pytest.mark.parametrize("explicit", [True, False])
def test_a_filter_loads_its_columns_and_leaves_no_trace(tmp_path: Path, explicit: bool) -> None:
    given = write(tmp_path)
    columns = {"inter": ["user_id", "item_id", "timestamp", "rating", "place"]}
    changes = {"load_col": columns} if explicit else {}
    data = load(given, val_interval={"rating": "[3,inf)", "place": ["home"]}, **changes)
    assert len(data.inter_feat) == 2 and data.inter_feat["timestamp"].tolist() == [1.0, 5.0]
    assert ("rating" in data.inter_feat) is explicit and ("place" in data.field2type) is explicit


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_interval": {"rating": "3-5"}}, "'3-5' is not an interval"),
        ({"val_interval": {"stars": "[3,5]"}}, "names column stars"),
        ({"val_interval": {"rating": "[90,inf)"}}, "no interaction of toy is left"),
        ({"val_interval": {"place": "[3,5]"}}, "place of type token; expected a list"),
        ({"val_interval": {3: "[1,2]"}}, "3 is not a column; expected"),
        ({"user_inter_num_interval": "[100,inf)"}, "no interaction of toy is left"),
        ({"item_inter_num_interval": "5"}, "item_inter_num_interval is 5"),
        ({"threshold": {"rating": "four"}}, "option threshold"),
        ({"normalize_field": ["nothing"]}, "RecBole refuses data set toy.*nothing"),
        ({"train_neg_sample_args": None}, "BPR learns from pairs"),
        ({"eval_args": {"mode": "labeled"}}, "mode is labeled, but metrics has Hit, NDCG"),
    ],
)
def test_options_that_do_not_fit_the_table_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(write(tmp_path), **changes)


def test_models_that_learn_from_labels_say_so_or_find_them(tmp_path: Path) -> None:
    given = {**write(tmp_path), "eval_args": {"mode": "labeled"}}
    with pytest.raises(UserError, match=r"toy\.inter: no column label:float"):
        load(given, "FM")
    assert load(given, "FM", threshold={"rating": 3}).inter_feat["label"].tolist() == [1, 1, 1, 0, 1]
    assert load(given, "FM", LABEL_FIELD="rating").inter_feat["rating"].notna().all()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("item_id:token", "item_id:float", "column item_id has type float; expected item_id:token"),
        ("item_id:token", "item_id:token_seq", "column item_id has type token_seq"),
        ("timestamp:float", "timestamp:token", "column timestamp has type token.*convert table"),
        ("u1\ti2\t2", "u1\ti2\t", r"toy\.inter, line 3: no timestamp"),
        ("u1\ti2\t2", "u1\t[PAD]\t2", r"toy\.inter, line 3: '\[PAD\]' as item_id"),
        ("u1\ti2\t2", "\ti2\t2", r"toy\.inter, line 3: no user_id"),
        ("1 2.5", "1 x", r"toy\.inter, line 2: 'x' in column sizes:float_seq"),
        ("place:token", "price:float", "price is in .inter too|column price"),
    ],
)
def test_wrong_interactions_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    inter = [line.replace(old, new) for line in INTER]
    if "price" in new:
        inter = [line.replace("home", "1").replace("shop", "2").replace("NA\tb", "3\tb") for line in inter]
    with pytest.raises(UserError, match=message):
        load(write(tmp_path, inter), load_col=None)


def test_ids_have_to_be_the_same_in_both_files() -> None:
    items = [str(n) for n in range(100)]
    check_same_ids("item", items, "a", items[:3], "b")  # a file of a part of the items
    check_same_ids("item", items[:3], "a", items, "b")  # and of many more
    check_same_ids("item", [*items, "x1"], "a", [*items, "X1"], "b")  # one that looks alike is no rule
    wrong = ([f"{n}.0" for n in items], [f'"{n}"' for n in items], [f"0{n}" for n in items])
    for other in wrong:
        with pytest.raises(UserError, match="0 of 100 items of a are in b: .* there, .* here"):
            check_same_ids("item", other, "a", items, "b")
    half = [f"B{n}" if n % 2 else str(n) for n in range(100)]
    with pytest.raises(UserError, match="50 of 100 items of a are in b: 'B1' and 'B11' there, 'b1' and 'b11' here"):
        check_same_ids("item", half, "a", [one.lower() for one in half], "b")


def test_histories_have_to_be_of_the_targets() -> None:
    targets = [f"i{n}" for n in range(30)]
    check_histories([*targets, "first"], targets, "item_id_list", "x")
    check_histories(["a,b", "c"], ["a,b", "c"], "item_id_list", "x")
    for wrong in (["['i1',", "'i2']"], ["i1", "i1,i2", "i1,i2,i3"], [f"j{n}" for n in range(30)]):
        with pytest.raises(UserError, match="never a target.*separated by blanks"):
            check_histories(wrong, targets, "item_id_list", "x")


def test_intervals() -> None:
    assert parse_intervals("[3, inf);(0,1]") == [("[", 3.0, float("inf"), ")"), ("(", 0.0, 1.0, "]")]
    for wrong in ("", ";", "3", "[3", "[3,]", "[a,b]", "[5,3]", "(3,3)", "[nan,3]", "[1,2,3]"):
        with pytest.raises(ValueError, match="is not an interval|has no number inside"):
            parse_intervals(wrong)
