"""The text of ``--help`` and its topics, made from the YAMLs and their comments, so it cannot fall behind them."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_lcrec.config.declared import defaults_of, read_comments
from recbole_lcrec.config.layers import defaults, kinds_of
from recbole_lcrec.config.loader import load_values
from recbole_lcrec.config.names import described_datasets, known_datasets, known_models, recbole_models
from recbole_lcrec.config.options import COMMANDS, known_options
from recbole_lcrec.config.paths import properties_dir, recbole_dir
from recbole_lcrec.config.registry import (
    ENCODERS,
    MODELS,
    QUANTIZERS,
    Component,
    base_of,
    components_with_options,
    is_ours,
    reads_embeddings,
)
from recbole_lcrec.config.saved_run import CHANGEABLE, EVALUATION_ONLY
from recbole_lcrec.config.sources import downloadable_datasets
from recbole_lcrec.utils.errors import UserError, clipped, nearest
from recbole_lcrec.utils.program import program

WIDTH = 100
"""Width of all help, in columns."""

_MOST = """\
usage: {program} --model=NAME --dataset=NAME [--option=value ...]

Generative recommendation with language models, and all of RecBole's models, on one split with one
set of metrics. Values are YAML: --topk='[5, 10]'. Later wins: defaults, files, the command line.

Common commands:
  --model=LCRec --dataset=ml-100k                             train, validate, test; see saved/
  --model=LCRec --dataset=shop --data_path=data               own data: data/shop/shop.inter, .item
  --model="LCRec,SASRec" --dataset=ml-100k --seeds=1,2,3      compare models, with significance
  --model=SASRec --dataset=ml-100k --tune --num_samples=20    search hyper-parameters
  --resume=RUN_DIR                                            go on with an interrupted run
  --evaluate=RUN_DIR                                          evaluate a finished run again
  --recommend=RUN_DIR --users=all --output=recs.csv           recommend, for users or histories
  --serve=RUN_DIR                                             answer over HTTP, with a page
  --export=RUN_DIR --output=DIR                               write it for plain transformers

Common options:
  --config_files="a.yaml b.yaml"                              options from files
  --output_dir=DIR                                            where everything is written
  --epochs=N --train_batch_size=N --learning_rate=X --seed=N  training
  --topk='[5, 10]' --metrics='[Hit, MRR]' --valid_metric=MRR@10   evaluation
  --base_model=NAME --tuning=lora --precision=bf16            LCRec on a pretrained model
  --nproc=4 --use_gpu=False                                   processes of one run; no GPU
  --logger=tensorboard,wandb,mlflow                           where metrics are written

Topics, each as --help=TOPIC:
"""

_TOPICS = {
    "models": "all models",
    "datasets": "data sets on this machine, and those that can be downloaded",
    "options": "all options, with what they take and their defaults",
    "compare": "several models, options or seeds side by side, and ablations",
    "tune": "searches for hyper-parameters, here or on a Ray cluster",
    "resume": "interrupted runs",
    "evaluate": "finished runs, evaluated again with other metrics or data",
    "recommend": "lists for users, as CSV, JSON lines or Parquet",
    "serve": "a server of one finished run, or of two side by side",
    "export": "a finished run for plain transformers",
    "processes": "one run on several GPUs or machines",
    "logger": "tensorboard, Weights & Biases, MLflow, and the log",
}
"""Topic -> what it is about. The names of models and of options are topics, too."""

_COMMANDS = {
    "compare": """\
{program} --model="A,B(option=value) as LABEL,..." --dataset=NAME [--seeds=1,2,3] [--jobs=N]
{program} --ablation=index|tasks --dataset=NAME [--seeds=1,2,3] [--option=value ...]

Every model is run with each seed on the same split; then a leaderboard, tests of every pair and a report are
written. The same command again goes on where it was stopped and keeps what is finished.""",
    "tune": """\
{program} --model=NAME --dataset=NAME --tune[=space.yaml] [--option=value ...]
{program} --resume_tune=SEARCH_DIR

Trials are validated, and the best one is tested once. Without a file the space is the model's own.""",
    "resume": """\
{program} --resume=RUN_DIR [--show_progress=False ...]

Model, data set and options are those of the run. These may be given anew: {changeable}.""",
    "evaluate": """\
{program} --evaluate=RUN_DIR [--option=value ...]

Model, data set and options are those of the run; evaluation.json is written into its folder, or into --output_dir.
These may be given anew: {evaluation}.""",
    "recommend": """\
{program} --recommend=RUN_DIR --users=all|FILE --output=recs.csv [--topk=N ...]
{program} --recommend=RUN_DIR --histories=FILE --output=recs.csv [--among=FILE ...]

For example, ten films for every user of ml-100k:

{program} --recommend=saved/films --users=all --topk=10 --output=films.csv""",
    "serve": """\
{program} --serve=RUN_DIR[,RUN_DIR] [--serve_port=8000 ...]

For example, two runs on ml-100k side by side, and what to watch after Star Wars and Blade Runner:

{program} --serve=saved/films,saved/films-sasrec
curl localhost:8000/recommend -H "content-type: application/json" \\
    -d '{{"histories": [["50", "89"]], "k": 3}}'""",
    "export": """\
{program} --export=RUN_DIR --output=DIR [--export_lora=merged|beside ...]

The folder has weights and tokenizer as transformers loads them, the item index, and a script that recommends.

For example, a run on ml-100k, and what to watch after Star Wars and Blade Runner, without this package:

{program} --export=saved/films --output=films
python films/recommend.py 50 89""",
    "processes": """\
{program} --model=NAME --dataset=NAME --nproc=4 [--option=value ...]
torchrun --nproc_per_node=4 -m recbole_lcrec --model=NAME --dataset=NAME [--option=value ...]""",
    "logger": """\
{program} --model=NAME --dataset=NAME --logger=tensorboard,wandb,mlflow

Files lie in the run's folder: tensorboard/, wandb/ and mlruns/. Weights & Biases stays offline without a key.""",
}

_OPTIONS_OF_TOPICS = {
    "compare": ("ablation", "seeds", "jobs", "address", "cpus_per_run", "gpus_per_run"),
    "resume": ("checkpoint_every_n_steps", "keep_last", "keep_states"),
    "processes": ("nproc", "world_size", "ip", "port", "group_offset", "parallel"),
    "logger": ("logger", "log_wandb", "wandb_project", "state", "show_progress"),
}
_FILES_OF_TOPICS = {"tune": "tune.yaml", "recommend": "recommend.yaml", "serve": "serve.yaml"}

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
    "user_texts.yaml": "that learn from users' texts (LCRec, InstructRec)",
    "candidates.yaml": "that rank candidates",
}


def usage() -> str:
    """Return the usage in one line."""
    return _MOST.splitlines()[0].format(program=program())


def help_text(topic: str = "") -> str:
    """Return the help on a topic.

    Args:
        topic: A topic, or the name of a model or of an option; empty for the common commands and the topics.

    Raises:
        UserError: If there is no such topic; it lists the topics.
    """
    if not topic:
        names = [*(f"  {name:<11} {about}" for name, about in _TOPICS.items()), "  LCRec       any model: its options",
                 "  topk        any option: what it does, takes and has as default"]  # fmt: skip
        return _MOST.format(program=program()) + "\n".join(names)
    texts = {"models": _models, "datasets": _datasets, "options": _all_options}
    if topic in texts:
        return texts[topic]()
    if topic in _TOPICS:
        return _command(topic)
    if topic in known_models():
        return _model(topic)
    if topic in known_options():
        return (
            _listed("", {topic: known_options()[topic].default}) + "\n\nModels and data sets may have other defaults."
        )
    hint = nearest(topic, [*_TOPICS, *known_models()]) or nearest(topic, known_options())
    raise UserError(
        f"--help={clipped(topic)}: unknown topic.{hint} Topics: {', '.join(_TOPICS)}, the name of any "
        "model, or of any option."
    )


def _models() -> str:
    plugins = [name for name in MODELS.names if not is_ours(name)]
    parts = [
        _wrapped("Models of this package", (name for name in MODELS.names if is_ours(name))),
        _wrapped("Models of plugins", plugins) if plugins else "",
        _wrapped("Models of RecBole", (name for name in recbole_models() if name not in MODELS)),
        _described("Quantizers of item indices (--quantizer)", QUANTIZERS.components),
        _described("Encoders of item texts (--text_encoder)", ENCODERS.components),
        f"{program()} --help=LCRec shows the options of a model.",
    ]
    return "\n\n".join(part for part in parts if part)


def _datasets() -> str:
    data_path = load_values(properties_dir() / "overall.yaml")["data_path"]
    found = [name for name in known_datasets(data_path) if name != "ml-100k"]
    parts = [
        _wrapped(f"Data sets found in data_path={data_path}", found or ["none"]),
        _wrapped("Data sets with settings here (ml-100k comes with RecBole)", described_datasets()),
        _wrapped("Data sets that are downloaded when they are not there", downloadable_datasets()),
        "Own data: python -m recbole_lcrec.convert --help",
    ]
    return "\n\n".join(parts)


def _all_options() -> str:
    ours, recbole = properties_dir(), recbole_dir() / "properties"
    sections = [
        _wrapped_text(
            "Values are YAML. Later wins: RecBole's YAMLs, properties/ (overall, model, data set), files, the command "
            "line."
        ),
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
    ]
    return "\n\n".join(section for section in sections if section)


def _command(topic: str) -> str:
    """Return the usage of a command, and its options."""
    text = _COMMANDS[topic].format(
        program=program(), changeable=", ".join(CHANGEABLE), evaluation=", ".join(EVALUATION_ONLY)
    )
    paragraphs = text.split("\n\n")
    parts = [part if part.startswith(program()) else _wrapped_text(" ".join(part.split())) for part in paragraphs]
    if topic in _FILES_OF_TOPICS:
        parts.append(_section("Options", [properties_dir() / _FILES_OF_TOPICS[topic]]))
    if names := _OPTIONS_OF_TOPICS.get(topic):
        parts.append(_listed("Options:", {name: known_options()[name].default for name in names}))
    return "\n\n".join(part for part in parts if part)


def _model(model: str) -> str:
    """Return the options that a model has in addition to those of every run, with its own defaults."""
    ours, recbole, base = properties_dir(), recbole_dir() / "properties" / "model", base_of(model)
    own = [recbole / f"{base}.yaml", recbole / f"{base.lower()}.yaml", ours / "model" / f"{base}.yaml"]
    files = [*own, ours / "model" / f"{model}.yaml", *kinds_of(model)]
    names = dict.fromkeys(name for path in files if path.is_file() for name in load_values(path))
    components = [one for one in components_with_options() if one.name == model]
    if reads_embeddings(model):
        components += [one for one in components_with_options() if one.name not in MODELS]
    values = defaults(model, None, "", {})
    return "\n\n".join(
        [
            f"{program()} --model={model} --dataset=NAME [--option=value ...]",
            _listed(
                f"Options of {model}, in addition to those of every run (--help=options):",
                {n: values[n] for n in names},
            )
            if names
            else f"{model} has no options other than those of every run (--help=options).",
            *(_own_section(component) for component in components),
        ]
    )


def _described(title: str, components: Mapping[str, Component]) -> str:
    """Return components with their texts, one per line."""
    longest = max(map(len, components))
    return "\n".join([f"{title}:", *(f"  {name:<{longest}}  {one.text}" for name, one in components.items())])


def _wrapped(title: str, names: Iterable[str]) -> str:
    return _wrapped_text(f"{title}: {', '.join(names)}", others="  ")


def _wrapped_text(text: str, first: str = "", others: str = "") -> str:
    """Return a text in lines of at most ``WIDTH``; ``first`` and ``others`` indent the first and the other lines."""
    return textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=others, break_on_hyphens=False, break_long_words=False
    )


def _section(title: str, files: Sequence[Path], names: Iterable[str] | None = None) -> str:
    """Return the options of YAML files with types, defaults and texts; empty if no file exists."""
    files = [path for path in files if path.is_file()]
    values = {name: value for path in files for name, value in load_values(path).items()}
    comments = {name: comment for path in files for name, comment in read_comments(path).items()}
    return _listed(f"{title}:", values if names is None else {name: values[name] for name in names}, comments)


def _own_section(component: Component) -> str:
    """Return the options of a component of a plugin."""
    values, comments = defaults_of(component)
    return _listed(f"Options of {component.name} ({component.where}):", values, comments)


def _listed(
    title: str, values: Mapping[str, Any], comments: Mapping[str, tuple[str | None, str]] | None = None
) -> str:
    """Return options with what they take and do; without ``comments``, their texts in the table of options."""
    lines = [title] if title else []
    for name, value in values.items():
        option = known_options()[name]
        text = option.text if comments is None else comments.get(name, (None, ""))[1]
        lines.append(f"  --{name}={_shown(value)}")
        indent = " " * 6
        lines.append(_wrapped_text(f"({option.type_text}) {text}".strip(), indent, indent))
    return "\n".join(lines) if values else ""


def _shown(value: Any) -> str:
    if value is None:
        return "None"
    return f"'{json.dumps(value)}'" if isinstance(value, (dict, list)) else str(value)
