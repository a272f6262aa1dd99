import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_lcrec.config.declared import read_comments
from recbole_lcrec.config.domain import parse_declaration
from recbole_lcrec.config.loader import Given, load_values
from recbole_lcrec.config.options import check, find_option, yaml_options
from recbole_lcrec.config.paths import properties_dir
from recbole_lcrec.config.reading import Reading, read_arguments, read_files
from recbole_lcrec.config.recbole_options import INSTEAD, recbole_declarations
from recbole_lcrec.utils.errors import UserError


def read(*argv: str) -> dict[str, Any]:
    reading = Reading()
    values = reading.checked(read_arguments(argv, reading))
    reading.finish()
    return values


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("--gpu_id=0", "0"),
        ("--gpu_id=0,1", "0,1"),
        ("--topk=10", 10),
        ("--topk=[5,10]", [5, 10]),
        ("--metrics=['Hit','NDCG']", ["Hit", "NDCG"]),
        ("--metrics=Hit", "Hit"),
        (
            "--eval_args={'split': {'RS':[0.8,0.1,0.1]}, 'order':'TO','mode':'full'}",
            {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "mode": "full"},
        ),
        ("--eval_args={'group_by': None}", {"group_by": None}),
        ("--load_col=None", None),
        ("--train_neg_sample_args=None", None),
        ("--train_neg_sample_args=~", None),
        ("--clip_grad_norm={'max_norm': 5}", {"max_norm": 5}),
        ("--user_inter_num_interval=[5,inf)", "[5,inf)"),
        ("--user_inter_num_interval=[5,10]", "[5,10]"),
        ("--val_interval={'rating': '[3,inf)'}", {"rating": "[3,inf)"}),
        ("--learning_rate=1e-3", 1e-3),
        ("--learning_rate=1", 1.0),
        ("--loss_type=BPR", "BPR"),
        ("--selected_features=['class']", ["class"]),
        ("--use_gpu=False", False),
        ("--output_dir=None", None),
        ("--wandb_project=a: b=c", "a: b=c"),
        ("--pre_model_path=", ""),
        ("--fields={0: ['a']}", {0: ["a"]}),
        ("--encoding=latin-1", "latin-1"),  # no YAML of RecBole has it, its source reads it
        ("--fredom_type=us_x", "us_x"),
        ("--additional_feat_suffix=ent", "ent"),
        ("--w_max=0.5", 0.5),
        ("--topk=[]", []),
    ],
)
def test_what_recbole_documents_is_accepted(argument: str, value: Any) -> None:
    (found,) = read(argument).values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "--epochs=many",
            r"option epochs is many \(str\); expected a whole number from 0 to 1,000,000 or None \(The",
        ),
        ("--epochs=1.5", r"1.5 \(float\); expected a whole number"),
        ("--epochs=True", r"True \(bool\); expected a whole number"),
        ("--train_batch_size=None", r"None \(None\); expected a whole number"),
        ("--epochs=[1,2", "not valid YAML"),
        ("--use_gpu=1", r"1 \(int\); expected True or False"),
        ("--learning_rate=fast", "expected a number above 0"),
        ("--clip_grad_norm=5", "expected a mapping or None"),
        ("--val_interval={rating:3}", "a blank is missing after ':'"),
        ("--epoch=3", "unknown option epoch. Did you mean 'epochs'?"),
        ("--zzzzzz=3", "unknown option zzzzzz.$"),
        ("--device=cpu", "option device cannot be set: use use_gpu and gpu_id"),
        ("--epochs", "cannot read '--epochs'; expected --name=value"),
        ("epochs=3", "cannot read 'epochs=3'; expected --name=value"),
        ("--=3", "expected --name=value"),
        ("-epochs=3", "expected --name=value"),
        ("--USER_ID_FIELD=None", "expected non-empty text"),
        ("--loss_type={a: 1}", "expected CE, BPR, BCE, MSE or NLL"),
    ],
)
def test_mistakes_are_refused(argument: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(argument)


def test_an_option_given_twice_is_refused() -> None:
    with pytest.raises(UserError, match="option epochs is given twice"):
        read("--epochs=1", "--epochs=1")


def test_all_mistakes_are_reported_together(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("topk: x\nepochs: 3\nsed: 3\n")
    reading = Reading()
    read_files([path, tmp_path / "none.yaml"], reading)
    reading.checked(read_arguments(["--epochs=many"], reading))
    with pytest.raises(UserError) as error:
        reading.finish()
    assert "4 mistakes" in str(error.value)
    for part in (f"{path}, line 1: option topk", f"{path}, line 3: unknown option sed.", "none.yaml", "option epochs"):
        assert part in str(error.value)


def test_python_values_are_made_plain() -> None:
    assert check("topk", Given((5, 10), None, "config_dict")) == [5, 10]
    assert check("mlp_hidden_size", Given("[64, 32]", None, "config_dict")) == [64, 32]
    learning_rate = check("learning_rate", Given(np.float32(0.5), None, "config_dict"))
    assert learning_rate == 0.5 and type(learning_rate) is float
    assert check("train_neg_sample_args", Given("None", None, "config_dict")) is None
    assert check("loss_type", Given("BPR", None, "config_dict")) == "BPR"
    with pytest.raises(UserError, match="option q is"):
        check("q", Given(object(), None, "config_dict"))


def test_checking_twice_changes_nothing() -> None:
    values = read("--gpu_id=0", "--learning_rate=1", "--user_inter_num_interval=[5,inf)", "--output_dir=None")
    assert {name: check(name, Given(value, None, "again")) for name, value in values.items()} == values


def test_every_default_in_a_yaml_is_of_its_own_types() -> None:
    for name, option in yaml_options().items():
        if option.default is not None and name not in INSTEAD:
            assert check(name, Given(option.default, None, "test")) in (option.default, None)
    assert find_option("train_batch_size").types == {"int"}
    assert find_option("topk").type_text == "list of int in [1, 10000] or int in [1, 10000]"


def test_options_of_ours_are_documented_and_declared_once() -> None:
    declared: dict[str, Path] = {}
    for path in properties_dir().rglob("*.yaml"):
        if path.parent.name == "hyper":  # search spaces: options of other files
            continue
        comments = read_comments(path)
        assert max(map(len, path.read_text(encoding="utf-8").splitlines())) <= 119
        for name in load_values(path):
            declaration, text = comments.get(name, (None, ""))
            assert len(text) >= 8, f"{path}: {name} has no text"
            if declaration is not None:
                assert parse_declaration(declaration) and declared.setdefault(name, path) == path, f"{path}: {name}"
    assert all(option.domain for name, option in yaml_options().items() if name in declared)
    assert set(recbole_declarations()).isdisjoint(declared)


def test_options_are_known_without_torch() -> None:
    code = (
        "import sys; from recbole_lcrec.config import options; options.find_option('encoding');"
        "print([m for m in ('torch', 'recbole', 'ray', 'transformers', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
