"""Trainings that are compared between one process and two: run as a script in each of two processes, or imported."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from fakes import TINY
from safetensors.torch import load_file

from recbole_lcrec.distributed import group
from recbole_lcrec.experiment import Experiment, build

SMALL: dict[str, Any] = {
    "learner": "adamw",
    "learning_rate": 0.01,
    "lr_scheduler": "cosine",
    "clip_grad_norm": {"max_norm": 0.5},
    "t5_d_model": 16,
    "t5_head_dim": 4,
    "t5_heads": 2,
    "t5_d_ff": 32,
    "t5_layers": 1,
    "t5_dropout": 0.0,
    "user_buckets": 7,
    "rpg_hidden_size": 16,
    "rpg_layers": 1,
    "rpg_heads": 2,
    "rpg_intermediate_size": 16,
    "rpg_dropout": 0.0,
    "hidden_size": 16,
    "inner_size": 16,
    "hidden_dropout_prob": 0.0,
    "attn_dropout_prob": 0.0,
    "embedding_size": 16,
}
SHARDED = {"model": "LCRec", "parallel": "fsdp", "lm_layers": 2, "train_batch_size": 7, "learning_rate": 0.003}
CASES: dict[str, dict[str, Any]] = {
    "LCRec": {"model": "LCRec", "train_batch_size": 5, "gradient_accumulation_steps": 3, "eval_prompts": [0, 1]},
    "preferences": {
        "model": "LCRec",
        "epochs": 1,
        "train_batch_size": 7,
        "preference_stage": "dpo",
        "preference_epochs": 1,
        "preference_samples": 120,
        "preference_learning_rate": 0.003,
    },
    "TIGER": {"model": "TIGER", "train_batch_size": 31, "learning_rate": 1e-3},
    "P5CID": {"model": "P5CID", "train_batch_size": 16, "train_samples": 33, "max_length": 200},
    "SASRec": {"model": "SASRec", "train_batch_size": 64, "eval_batch_size": 5},
    "lonely": {"model": "SASRec", "metrics": ["Hit", "NDCG", "ItemCoverage", "AveragePopularity"]},
    "negatives": {"model": "BPR", "train_batch_size": 50},
    "candidates": {"model": "SASRec", "loss_type": "BPR", "eval_args": {"mode": "uni10"}, "eval_batch_size": 50},
    "sharded": {
        **SHARDED,
        "gradient_accumulation_steps": 2,
        "history_input": "item",
        "history_loss_weight": 1.0,
        "loss_normalization": "children",
        "item_prefixes": True,
        "item_features": True,
        "item_loss_weight": 0.5,
        "item_score_weight": 0.5,
    },
    "recomputed": {**SHARDED, "gradient_checkpointing": True, "packing": True, "num_beams": 12},
    "RPG": {"model": "RPG", "train_batch_size": 5},
    "LIGER": {"model": "LIGER", "lm_layer_dropout": 0.0, "train_batch_size": 7, "ema_decay": 0.9},
    "SASRecText": {"model": "SASRecText", "train_batch_size": 64},
    "judge": {
        **SHARDED,
        "model": "TALLRec",
        "learning_rate": 3e-4,
        "max_length": 300,
        "eval_args": {"mode": "uni9"},
        "task_samples": None,
    },
}
"""``lonely``: its epochs end with a batch of one row."""


def experiment_of(case: str, folder: Path, **changes: Any) -> Experiment:
    options = {**TINY, **SMALL, "data_path": str(folder), "cache_dir": str(folder / "cache"), **CASES[case]}
    options["output_dir"] = str(folder / f"{case}-{group.place().world_size}")
    return build(dataset="toy", config_dict={**options, **changes})


def outcome(experiment: Experiment) -> dict[str, Any]:
    """Train and test; return everything that must not depend on the number of processes."""
    valid = experiment.fit()
    test = experiment.evaluate("test", load_best=True)
    ranks = experiment.ranks
    return {
        "losses": list(experiment.trainer.train_loss_dict.values()),
        "valid": valid,
        "test": test,
        "by_prompt": experiment.by_prompt,
        "users": [] if ranks is None else ranks.users.tolist(),
        "ranks": [] if ranks is None else ranks.ranks.tolist(),
        "top": [] if ranks is None else ranks.top.tolist(),
        "wording": [] if ranks is None else list(ranks.wording),
    }


def weights(experiment: Experiment) -> dict[str, Any]:
    return load_file(experiment.output_dir / "checkpoint" / "model.safetensors")


def resumed(folder: Path, parallel: str) -> bool:
    """Return whether a training that goes on from a state of two processes ends as the one that wrote it."""
    changes = {"lm_dropout": 0.3, "parallel": parallel, "output_dir": str(folder / f"state-{parallel}")}
    whole = experiment_of("sharded", folder, **changes)
    state = folder / f"state-of-{parallel}"
    whole.fit(callback=lambda epoch, score, result: None if epoch else whole.trainer.save_state(state))
    group.barrier()  # the main process may still be writing
    expected, losses = weights(whole), whole.trainer.train_loss_dict
    group.barrier()
    again = experiment_of("sharded", folder, **changes)
    again.trainer.resume_checkpoint(state)
    again.fit()
    group.barrier()
    found = weights(again)
    return losses == again.trainer.train_loss_dict and all((found[name] == expected[name]).all() for name in expected)


def all_cases(folder: Path, cases: dict[str, dict[str, Any]]) -> None:
    """Run the cases in this process of a group; rank 0 writes what came out, and every rank its metrics."""
    for case, changes in cases.items():
        result = outcome(experiment_of(case, folder, **changes))
        path = folder / f"{case}.rank{group.place().rank}.json"
        path.write_text(json.dumps(result))
    for parallel in ("ddp", "fsdp") if "sharded" in cases else ():
        (folder / f"resumed-{parallel}.rank{group.place().rank}.json").write_text(str(resumed(folder, parallel)))


if __name__ == "__main__":
    with group.joined(group.place_of(os.environ)):
        all_cases(Path(sys.argv[1]), json.loads(sys.argv[2]))
    group.end_process(0)
