"""The model card of an export: where it comes from, how well it did, how it is used, and under which licence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recbole_lcrec.export.checking import PLACES
from recbole_lcrec.pages import render
from recbole_lcrec.version import __version__

SHOWN = (
    *("model", "base_model", "tuning", "lora_r", "lora_alpha", "tasks", "eval_task", "eval_prompts", "p5_tasks"),
    *("embedding", "text_encoder", "quantizer", "index_mapping", "index_file", "num_levels", "codebook_size"),
    *("history_input", "item_prefixes", "item_features", "item_loss_weight", "item_score_weight"),
    *("loss_normalization", "score_normalization", "num_beams", "exclude_history", "MAX_ITEM_LIST_LENGTH"),
    *("max_length", "lm_hidden_size", "lm_layers", "lm_heads", "t5_d_model", "t5_layers", "t5_heads", "user_buckets"),
    *("epochs", "learning_rate", "train_batch_size", "seed"),
    *("user_inter_num_interval", "item_inter_num_interval", "rating_threshold", "eval_args"),
)
"""Options that a reader of the card may want to know, if the model has them."""


@dataclass(frozen=True)
class Licence:
    """What a base model says about its licence.

    Attributes:
        name: From its card, such as ``apache-2.0``; "" for none.
        link: Address of the text; "" for none.
        files: Files with the text.
    """

    name: str = ""
    link: str = ""
    files: tuple[str, ...] = ()


def licence_of(base_model: str | None) -> Licence | None:
    """Return the licence of a base model by its model card or the files next to it; None without a base model.

    Nothing is downloaded: the card of a model on the hub is only known if it is in the cache.
    """
    if not base_model:
        return None
    from transformers.utils import cached_file

    folder = Path(base_model).expanduser()
    try:
        found = cached_file(str(folder) if folder.is_dir() else base_model, "README.md", local_files_only=True)
    except (OSError, ValueError):
        found = None
    values: Any = {}
    if found:
        parts = Path(found).read_text(encoding="utf-8", errors="replace").split("---\n", 2)
        try:
            values = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0].strip() else {}
        except yaml.YAMLError:
            values = {}
    values = values if isinstance(values, dict) else {}
    says = str(values.get("license") or "")
    if says == "other":
        says = str(values.get("license_name") or "other")
    files = sorted(path.name for path in folder.glob("LICEN[CS]E*")) if folder.is_dir() else []
    return Licence(says, str(values.get("license_link") or ""), tuple(files))


def card(
    *,
    options: Mapping[str, Any],
    changes: Mapping[str, Any],
    result: Mapping[str, Any],
    about: Mapping[str, Any],
    licence: Licence | None,
    prompt: str,
    encoder_decoder: bool,
    adapter: str | None,
    n_items: int,
    levels: list[int],
    agreement: float,
    users: int,
) -> str:
    """Return the text of the card.

    Args:
        options: Options of the run, with those that were changed for the export.
        changes: The changed options alone.
        result: Contents of the run's result.json.
        about: Contents of recommender.json.
        licence: Licence of the base model; None for weights from scratch.
        prompt: A history put into words; "" if there are none.
        encoder_decoder: Whether the model has an encoder.
        adapter: Folder of the adapter; None for none.
        n_items: Number of items.
        levels: Number of codes of each level.
        agreement: Share of the places in which the script had the run's items.
        users: Number of users for whom this was checked.
    """
    base_model = options.get("base_model")
    phases = {"validation": result.get("best_valid_result"), "test": result.get("test_result")}
    results = {phase: values for phase, values in phases.items() if values}
    return render(
        "model_card.md",
        model=str(options["model"]),
        dataset=str(options["dataset"]),
        version=__version__,
        split=result.get("split_sha256"),
        results=results,
        metrics=list(dict.fromkeys(metric for values in results.values() for metric in values)),
        options=_shown(options),
        changes={name: value for name, value in changes.items() if name in SHOWN},
        about=about,
        num_beams=about["num_beams"],
        prompt=prompt,
        licence=licence,
        base_model=base_model,
        hub_model=base_model if base_model and not Path(base_model).expanduser().is_dir() else None,
        auto_class="AutoModelForSeq2SeqLM" if encoder_decoder else "AutoModelForCausalLM",
        encoder_decoder=encoder_decoder,
        users_known="user_buckets" in options,
        adapter=adapter,
        n_items=n_items,
        levels=levels,
        agreement=agreement,
        users=users,
        places=PLACES,
    )


def _shown(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the table, without those that had no effect."""
    adapters = () if options.get("tuning") == "lora" else ("lora_",)
    idle = (*adapters, *(("lm_", "t5_") if options.get("base_model") else ()))
    found = {name: options.get(name) for name in SHOWN if not name.startswith(idle)}
    return {name: value for name, value in found.items() if value not in (None, "[0,inf)")}
