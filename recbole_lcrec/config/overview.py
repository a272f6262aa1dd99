"""The text of ``--help``, made of the YAMLs and their comments so that it cannot fall behind them."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_lcrec.config.declared import defaults_of, read_comments
from recbole_lcrec.config.loader import load_values
from recbole_lcrec.config.names import described_datasets, known_datasets, recbole_models
from recbole_lcrec.config.options import COMMANDS, known_options
from recbole_lcrec.config.paths import properties_dir, recbole_dir
from recbole_lcrec.config.registry import MODELS, Component, components_with_options, is_ours
from recbole_lcrec.config.sources import downloadable_datasets

USAGE = """\
usage: python run_recbole_lcrec.py --model=NAME --dataset=NAME [--config_files="a.yaml b.yaml"] [--option=value ...]
       python run_recbole_lcrec.py --model="A,B(option=value) as LABEL,..." --dataset=NAME [--seeds=1,2,3] [--jobs=N]
       python run_recbole_lcrec.py --ablation=index|tasks --dataset=NAME [--seeds=1,2,3] [--option=value ...]
       python run_recbole_lcrec.py --model=NAME --dataset=NAME --tune[=space.yaml] [--option=value ...]
       python run_recbole_lcrec.py --evaluate=RUN_DIR [--option=value ...]
       python run_recbole_lcrec.py --serve=RUN_DIR[,RUN_DIR] [--serve_port=8000 ...]
       python run_recbole_lcrec.py --resume=RUN_DIR [--show_progress=False ...]
       python run_recbole_lcrec.py --resume_tune=SEARCH_DIR
       python run_recbole_lcrec.py --recommend=RUN_DIR --users=all|FILE --output=recs.csv [--topk=N ...]
       python run_recbole_lcrec.py --recommend=RUN_DIR --histories=FILE --output=recs.csv [--among=FILE ...]
       python run_recbole_lcrec.py --export=RUN_DIR --output=DIR [--export_lora=merged|beside] [--option=value ...]"""

_EXAMPLES = """\
Examples:
  python run_recbole_lcrec.py --model=LCRec --dataset=ml-100k
  python run_recbole_lcrec.py --model=SASRec --dataset=Games --data_path=../data --epochs=50 --topk=[5,10]
  python run_recbole_lcrec.py --model="ExactPop,SASRec(loss_type=BPR),SASRec,LCRec" --dataset=ml-100k --seeds=1,2,3
  python run_recbole_lcrec.py --evaluate=saved/my-run --valid_users=500
  python run_recbole_lcrec.py --config_files="[my options.yaml, b.yaml]"    (a list: paths with blanks)"""

_OF_RECBOLE = (
    "epochs",
    "train_batch_size",
    "eval_batch_size",
    "learning_rate",
    "weight_decay",
    "clip_grad_norm",
    "eval_step",
    "stopping_step",
    "use_gpu",
    "gpu_id",
    "USER_ID_FIELD",
    "ITEM_ID_FIELD",
    "TIME_FIELD",
    "load_col",
    "train_neg_sample_args",
)


_OF_MODELS = {
    "embedding.yaml": "that read the items' embeddings",
    "index.yaml": "with an item index",
    "generative.yaml": "that generate paths of the index",
    "t5.yaml": "that train a T5 (TIGER, P5CID)",
    "language_model.yaml": "that tune a language model (LCRec, LIGER, TALLRec, InstructRec)",
    "user_texts.yaml": "that learn from what users say (LCRec, InstructRec)",
    "candidates.yaml": "that rank candidates",
}


def help_text() -> str:
    """Return the whole help: usage, models, data sets, options with types and defaults, examples."""
    ours = properties_dir()
    recbole = recbole_dir() / "properties"
    overall = load_values(ours / "overall.yaml")
    found = [name for name in known_datasets(overall["data_path"]) if name != "ml-100k"]
    sections = [
        USAGE,
        "Trains a model, then reports validation and test metrics; several models are compared side by side.\n"
        "`python -m recbole_lcrec` is the same command.\n"
        "Values are YAML. Later wins: RecBole's YAMLs, properties/ (overall, model, data set), files, command line.",
        _wrapped("Models of this package", (name for name in MODELS.names if is_ours(name))),
        _wrapped("Models of plugins", plugins) if (plugins := [n for n in MODELS.names if not is_ours(n)]) else "",
        _wrapped("Models of RecBole", (name for name in recbole_models() if name not in MODELS)),
        _wrapped("Data sets with settings here (ml-100k comes with RecBole)", described_datasets()),
        _wrapped(f"Data sets found in data_path={overall['data_path']}", found or ["none"]),
        _wrapped("Data sets downloaded when they are not there", downloadable_datasets()),
        "\n".join(["Commands:", *(f"  --{name}: {text}" for name, text in COMMANDS.items())]),
        _section("Options of every run", [ours / "overall.yaml"]),
        _section(
            "Some options of RecBole (all of them work)",
            [recbole / "dataset" / "sample.yaml", recbole / "overall.yaml"],
            _OF_RECBOLE,
        ),
        *(_section(f"Options of models {what}", [ours / name]) for name, what in _OF_MODELS.items()),
        _section("Options of a search for hyper-parameters (--tune)", [ours / "tune.yaml"]),
        _section("Options of a server of one saved run, or of two side by side (--serve)", [ours / "serve.yaml"]),
        _section("Options of recommending (--recommend)", [ours / "recommend.yaml"]),
        *(_section(f"Options of {name}", [ours / "model" / f"{name}.yaml"]) for name in MODELS.names),
        *(_own_section(component) for component in components_with_options()),
        _EXAMPLES,
    ]
    return "\n\n".join(section for section in sections if section)


def _wrapped(title: str, names: Iterable[str]) -> str:
    return textwrap.fill(f"{title}: {', '.join(names)}", width=119, subsequent_indent="  ", break_on_hyphens=False)


def _section(title: str, files: Sequence[Path], names: Iterable[str] | None = None) -> str:
    """Return the options of YAML files with types, defaults and texts; empty when no file is there."""
    files = [path for path in files if path.is_file()]
    defaults = {name: value for path in files for name, value in load_values(path).items()}
    comments = {name: comment for path in files for name, comment in read_comments(path).items()}
    return _listed(title, defaults, comments, names)


def _own_section(component: Component) -> str:
    """Return the options of a component of a plugin."""
    return _listed(f"Options of {component.name} ({component.where})", *defaults_of(component))


def _listed(
    title: str,
    defaults: Mapping[str, Any],
    comments: Mapping[str, tuple[str | None, str]],
    names: Iterable[str] | None = None,
) -> str:
    lines = []
    for name in defaults if names is None else names:
        text = comments.get(name, (None, ""))[1]
        about = f"({known_options()[name].type_text}) {text}"
        lines.append(f"  --{name}={_shown(defaults[name])}")
        lines.append(
            textwrap.fill(about, 119, initial_indent=" " * 6, subsequent_indent=" " * 6, break_on_hyphens=False)
        )
    return "\n".join([f"{title}:", *lines]) if lines else ""


def _shown(value: Any) -> str:
    if value is None:
        return "None"
    return f"'{json.dumps(value)}'" if isinstance(value, (dict, list)) else str(value)
