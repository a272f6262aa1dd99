"""One split for every model: RecBole's sequential leave-one-out, in true time order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recbole.data.dataset import SequentialDataset

from recbole_lcrec.data.split import SequentialSplitDataset, sample_users, split_records, split_sha256
from recbole_lcrec.experiment import build
from recbole_lcrec.experiment.factory import dataset_class
from recbole_lcrec.utils.errors import UserError


def write_inter(folder: Path, name: str, rows: list[tuple[str, str, float]]) -> Path:
    """Write an atomic file of (user, item, timestamp) and return the data path."""
    target = folder / name
    target.mkdir(parents=True)
    lines = ["user_id:token\titem_id:token\ttimestamp:float"] + [f"{u}\t{i}\t{t}" for u, i, t in rows]
    (target / f"{name}.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


# users of 1, 2, 3, 5 and 25 interactions
ROWS = (
    [("one", "a", 0)]
    + [("two", i, t) for t, i in enumerate("ab")]
    + [("three", i, t) for t, i in enumerate("abc")]
    + [("five", i, t) for t, i in enumerate("abcde")]
    + [("many", f"m{t}", t) for t in range(25)]
)


def parts_of(model: str, data_path: Path, **options: object) -> tuple:
    config = {"data_path": str(data_path), "epochs": 1, "show_progress": False, "use_gpu": False, **options}
    from recbole_lcrec.config import LCRecConfig

    config = LCRecConfig(model, "toy", config_dict=config)
    dataset = dataset_class(config)(config)
    return dataset, *dataset.build()


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return write_inter(tmp_path, "toy", ROWS)


def test_split_is_the_same_for_general_sequential_and_generative_models(toy: Path) -> None:
    names, records = set(), {}
    for model in ("Pop", "BPR", "SASRec", "LCRec"):
        _, train, valid, test = parts_of(model, toy)
        names.add(split_sha256(train, valid, test))
        records[model] = sorted(split_records(train, valid, test))
    assert len(names) == 1
    assert records["Pop"] == records["SASRec"] == records["LCRec"]
    by_user = {(phase, user): (history, item) for phase, user, history, item in records["SASRec"]}
    assert set(by_user) == {
        ("test", "three"),
        ("valid", "five"),
        ("test", "five"),
        ("valid", "many"),
        ("test", "many"),
    }
    assert by_user["test", "three"] == (["a", "b"], "c")
    assert by_user["valid", "five"] == (["a", "b", "c"], "d")
    assert by_user["test", "many"] == ([f"m{t}" for t in range(4, 24)], "m24")


def test_general_models_train_on_what_sequential_models_see(toy: Path) -> None:
    _, general, _, _ = parts_of("Pop", toy)
    _, sequential, _, _ = parts_of("SASRec", toy)
    pairs = set(zip(general.inter_feat["user_id"].tolist(), general.inter_feat["item_id"].tolist(), strict=True))
    seen = set()
    rows = sequential.inter_feat
    for user, item, items in zip(
        rows["user_id"].tolist(), rows["item_id"].tolist(), rows["item_id_list"].tolist(), strict=True
    ):
        seen |= {(user, item)} | {(user, i) for i in items if i}
    assert pairs == seen


def test_augmentation_equals_recboles(toy: Path) -> None:
    config_source, *_ = parts_of("SASRec", toy)
    config = config_source.config
    ours, theirs = SequentialSplitDataset(config), SequentialDataset(config)
    ours._change_feat_format()
    theirs._change_feat_format()
    assert set(ours.inter_feat.interaction) == set(theirs.inter_feat.interaction)
    for field, values in theirs.inter_feat.interaction.items():
        np.testing.assert_array_equal(ours.inter_feat[field].numpy(), values.numpy(), err_msg=field)


def test_equal_timestamps_keep_file_order_and_close_ones_true_order(tmp_path: Path) -> None:
    # float32 cannot tell 1e9 from 1e9 + 1: sorting after RecBole's conversion would swap these
    rows = [("u", "late", 1_000_000_001.0), ("u", "early", 1_000_000_000.0)]
    rows += [("u", f"same{n}", 1_000_000_002.0) for n in (3, 1, 2)]
    _, _, _, test = parts_of("SASRec", write_inter(tmp_path, "toy", rows))
    _, train, valid, _ = parts_of("SASRec", tmp_path)
    (record,) = [r for r in split_records(train, valid, test) if r[0] == "test"]
    assert record[2:] == (["early", "late", "same3", "same1"], "same2")


def test_duplicate_removal_keeps_the_first_in_time(tmp_path: Path) -> None:
    rows = [("u", "x", 5), ("u", "y", 2), ("u", "x", 1), ("u", "z", 3), ("u", "w", 4)]
    _, train, valid, test = parts_of("SASRec", write_inter(tmp_path, "toy", rows), rm_dup_inter="first")
    assert [r[2:] for r in split_records(train, valid, test)] == [(["x", "y"], "z"), (["x", "y", "z"], "w")]


def test_sampled_users_are_the_same_for_every_model(toy: Path) -> None:
    chosen = []
    for model in ("Pop", "SASRec"):
        dataset, _, valid, _ = parts_of(model, toy)
        ids = sample_users(valid, 1, seed=3).inter_feat["user_id"].tolist()
        chosen.append([dataset.field2id_token["user_id"][i] for i in ids])
        assert len(sample_users(valid, 10, seed=3).inter_feat) == len(valid.inter_feat)
    assert chosen[0] == chosen[1] and len(chosen[0]) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("user_id:token\titem_id:token\nu\ti\n", "timestamp"),
        ("user:token\titem_id:token\ttimestamp:float\nu\ti\t1\n", "user_id"),
        ("user_id:token\titem_id:token\ttimestamp:float\n", "no interaction"),
        ("user_id\titem_id\ttimestamp\nu\ti\t1\n", "header"),
        ("user_id:token\titem_id:token\ttimestamp:float\nu\ti\tsoon\n", "soon"),
    ],
)
def test_broken_inter_files_get_a_message(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "toy.inter").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=expected):
        parts_of("SASRec", tmp_path)


def test_no_test_user_is_a_clear_error(tmp_path: Path) -> None:
    write_inter(tmp_path, "toy", [("u", "a", 1), ("u", "b", 2)])
    with pytest.raises(UserError, match="at least 3 interactions"):
        build("SASRec", "toy", {"data_path": str(tmp_path), "output_dir": str(tmp_path / "o"), "use_gpu": False})


def test_a_stale_pickle_is_never_loaded(toy: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "toy-SequentialDataset.pth").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    build("SASRec", "toy", {"data_path": str(toy), "output_dir": str(output), "use_gpu": False})
    assert not Path("pwned").exists()
