"""Ray's schedulers as this package uses them: what asha remembers after a resume, and what pbt may change."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from recbole_lcrec.tuning.journal import OVER, Journal
from recbole_lcrec.tuning.search_settings import SearchSettings
from recbole_lcrec.tuning.space import Space
from recbole_lcrec.utils.errors import UserError

CHANGEABLE = frozenset(
    {
        *("learning_rate", "weight_decay", "train_batch_size", "gradient_accumulation_steps"),
        *("lm_dropout", "lora_dropout", "t5_dropout", "history_loss_weight", "task_samples", "task_weights"),
        *("hidden_dropout_prob", "attn_dropout_prob", "dropout_prob", "dropout_ratio", "dropout", "mask_ratio"),
        *("reg_weight", "clip_grad_norm", "temperature", "label_smoothing"),
    }
)
"""Options that may change when a training continues from a copy: no weight changes its shape or meaning."""


def changeable_mistakes(space: Space) -> list[str]:
    """Return what pbt cannot use of a space: options that cannot change during training, and conditions."""
    mistakes = []
    fixed = [name for name in space.names if name not in CHANGEABLE]
    if fixed:
        mistakes.append(
            f"{space.source}: scheduler pbt changes options while a model trains, and {', '.join(fixed)} cannot "
            f"change then. Take them out of the space, or use scheduler asha. pbt can change: "
            f"{', '.join(sorted(CHANGEABLE))}"
        )
    if space.conditional:
        mistakes.append(
            f"{space.source}: scheduler pbt does not go with conditions (when): a change would switch options on and "
            "off. Take them out, or use scheduler asha"
        )
    return mistakes


def check_population(settings: SearchSettings, trainer_class: type, stage: str | None) -> None:
    """Refuse pbt for a model whose training cannot continue from a copy.

    Args:
        settings: Options of the search.
        trainer_class: The trainer of its trials.
        stage: Option ``preference_stage``; None for a model without it.

    Raises:
        UserError: For trainers of RecBole with loops of their own, and for a stage after the training.
    """
    from recbole_lcrec.training.preference_stage import PreferenceTrainer
    from recbole_lcrec.training.trainer import FeatureTrainer

    if settings.scheduler != "pbt":
        return
    if stage not in (None, "none"):
        raise UserError(
            f"preference_stage={stage} begins when a training has ended, and scheduler pbt lets none end before the "
            "others. Use scheduler asha or fifo, or leave preference_stage out."
        )
    if trainer_class not in (FeatureTrainer, PreferenceTrainer):
        raise UserError(
            f"scheduler pbt needs a training that goes on from a checkpoint, but the trainer of this model, "
            f"{trainer_class.__name__}, has a loop of its own. Use scheduler asha or fifo."
        )


def make_scheduler(
    settings: SearchSettings, space: Space, journal: Journal, *, bigger: bool, epochs: int, eval_step: int, seed: int,
    done: int = 0,
) -> Any:  # fmt: skip
    """Return Ray's scheduler.

    Args:
        settings: Options of the search.
        space: What is varied.
        journal: What happened so far: asha compares with the trials of an interrupted search too.
        bigger: Whether a greater score is better.
        epochs: Most epochs of a trial.
        eval_step: Epochs between validations.
        seed: For what pbt draws.
        done: Epochs that every trial of a population has completed when it starts (continues from a checkpoint).
    """
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

    mode = "max" if bigger else "min"
    if settings.scheduler == "fifo":
        return FIFOScheduler()
    if settings.scheduler == "pbt":
        from recbole_lcrec.tuning.generations import Generations

        every = settings.pbt_interval * eval_step
        return Generations(every, epochs, Explorer(space, seed), mode=mode, done=done)
    # trials end by themselves (stop_last_trials): at their last epoch, not at the first report that reaches it
    scheduler = ASHAScheduler(
        time_attr="epoch", metric="best_score", mode=mode, max_t=epochs,
        grace_period=min(settings.asha_grace or eval_step, epochs), reduction_factor=settings.asha_reduction,
        stop_last_trials=False,
    )  # fmt: skip
    _remember(scheduler, journal, bigger)
    return scheduler


def _remember(scheduler: Any, journal: Journal, bigger: bool) -> None:
    """Give asha the results of trials that are over, in the order in which they came."""
    best: dict[str, float] = {}
    for event in journal.events:
        name = event["trial"]
        if event["event"] != "reported" or journal.trials[name].status not in OVER:
            continue
        trial = SimpleNamespace(trial_id=name)
        if name not in best:
            scheduler.on_trial_add(None, trial)
        best[name] = (max if bigger else min)(best.get(name, event["score"]), event["score"])
        scheduler.on_trial_result(None, trial, {"epoch": event["epoch"], "best_score": best[name]})


class Explorer:
    """Changes the configuration of a good trial a little, for the poor one that is replaced by its copy.

    Args:
        space: What is varied.
        seed: Seed of the changes.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._generator = space, np.random.default_rng([seed, 1])

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return ``config`` with every value moved to a neighbour (see ``Dimension.perturb``)."""
        before = config["trial"]["values"]
        values = {d.name: d.perturb(before[d.name], self._generator) for d in self._space.dimensions}
        return {**config, "trial": {**config["trial"], "values": values}}


def seed_ray(seed: int) -> None:
    """Seed the module-level generators from which Ray's schedulers draw."""
    import random

    random.seed(seed)
    np.random.seed(seed)
