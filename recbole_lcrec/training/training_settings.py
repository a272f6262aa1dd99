"""Options of the training."""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_

from recbole_lcrec.config import StageSettings
from recbole_lcrec.config.registry import model_class
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.model.interface import HasPrecisions
from recbole_lcrec.utils.bfloat16 import native_bfloat16
from recbole_lcrec.utils.errors import Mistakes, UserError, nearest

logger = logging.getLogger(__name__)

AUTO, HALF_WEIGHTS = "auto", "bf16_weights"
_WITHOUT_HALF = ("gradient_checkpointing", "torch_compile")
"""Options under which parts of the model run where the rounded weights are not available."""


@dataclass(frozen=True)
class TrainingSettings(StageSettings):
    """Options that our trainer features add to RecBole's; each is explained in properties/overall.yaml."""

    learner: str
    lr_scheduler: str
    warmup_ratio: float
    gradient_accumulation_steps: int
    precision: str
    clip_grad_norm: dict[str, Any] | None
    ema_decay: float

    def beyond_recbole(self) -> list[str]:
        """Return the options that ask for something that RecBole's trainers do not do by themselves."""
        plain: dict[str, Any] = {"lr_scheduler": "constant", "warmup_ratio": 0, "ema_decay": 0}
        plain |= {"gradient_accumulation_steps": 1, "precision": "fp32"}
        return [name for name, value in plain.items() if vars(self)[name] != value]

    def check(self, mistakes: Mistakes) -> None:
        """See the base class."""
        known = tuple(inspect.signature(clip_grad_norm_).parameters)[1:]
        expected = f"clip_grad_norm: expected arguments of clip_grad_norm_ ({', '.join(known)}), as {{max_norm: 1.0}}"
        for name, value in (self.clip_grad_norm or {}).items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if name not in known:
                mistakes.add(f"{expected}; found {name!r}.{nearest(str(name), known)}")
            elif name in ("max_norm", "norm_type") and not (is_number and value > 0):
                mistakes.add(f"{expected}; found {name}: {value!r}, which is not a number above 0.")
            elif name not in ("max_norm", "norm_type") and not isinstance(value, bool | None):
                mistakes.add(f"{expected}; found {name}: {value!r}, which is not True or False.")
        if self.clip_grad_norm and "max_norm" not in self.clip_grad_norm:
            mistakes.add(f"{expected}; max_norm is missing.")


def check_precision(settings: TrainingSettings, config: Any) -> None:
    """Refuse a precision that the device or the model does not have.

    Raises:
        UserError: For fp16 on a CPU; for a precision that only language models have, or other options rule out.
    """
    run, precision = RunOptions(config), settings.precision
    device = torch.device(run.device)
    if precision == "fp16" and device.type == "cpu":
        raise UserError("precision: fp16 needs a GPU; use fp32 (or bf16) on a CPU.")
    if precision.startswith("bf16") and not native_bfloat16(device):
        logger.warning(
            "precision=%s: this %s has no bfloat16 arithmetic; emulated products were seen to take 35 to 80 times as "
            "long as in float32. Use fp32.", precision, "GPU" if device.type == "cuda" else "processor",
        )  # fmt: skip
    known = precisions_of(config)
    if precision == AUTO and not known:
        raise UserError(f"precision=auto: {run.model} has no language model to measure. Use fp32 or bf16.")
    if precision == HALF_WEIGHTS and HALF_WEIGHTS not in known:
        others = [f"{name}={config[name]}" for name in _WITHOUT_HALF if name in config and config[name]]
        reason = f"it does not go with {', '.join(others)}" if others else f"{run.model} has no causal language model"
        raise UserError(f"precision=bf16_weights: {reason}. Use bf16.")


def precisions_of(config: Any) -> tuple[str, ...]:
    """Return what ``precision: auto`` chooses among, the plainest first; () where it has no meaning."""
    run = RunOptions(config)
    model = model_class(run.model)
    known = model.precisions if isinstance(model, HasPrecisions) else ()
    plain_masters = config["tuning"] != "lora" if "tuning" in config else True
    redone = plain_masters and any(name in config and config[name] for name in _WITHOUT_HALF)
    return tuple(one for one in known if one != HALF_WEIGHTS or not (redone or run.parallel == "fsdp"))
