"""A training that learns from preferences when it has ended: the stage behind LCRec's tuning.

The stage begins with the best checkpoint, which is also its reference, has an optimizer and an average of weights of
its own, and consists of further epochs of the same training: validated, saved and resumed like all others. The
checkpoint is replaced only by a model that validates better than the tuned one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from recbole_lcrec.config import settings_from
from recbole_lcrec.distributed import group as processes
from recbole_lcrec.instruction.histories import HISTORY, LENGTH, TARGET, HistoryLoader
from recbole_lcrec.model.interface import LearnsPreferences
from recbole_lcrec.model.preferences import PreferenceSettings, advantages_of, grpo, rewards_of, rivals, softmax_dpo
from recbole_lcrec.training.averaging import WeightAverage, WeightCopy
from recbole_lcrec.training.checkpoint import load_checkpoint
from recbole_lcrec.training.trainer import FeatureTrainer
from recbole_lcrec.utils.errors import UserError


class PreferenceTrainer(FeatureTrainer):
    """The trainer of models that can learn from preferences, if ``preference_stage`` says so.

    Args:
        config: The experiment's configuration.
        model: The model.
    """

    best_valid_result: dict[str, float] | None

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)
        assert isinstance(model, LearnsPreferences)
        self._policy: LearnsPreferences = model
        self._preferences = settings_from(PreferenceSettings, config)
        self._reference: WeightCopy | None = None
        """The tuned weights; None before the stage."""
        self._tuned: dict[str, Any] = {}
        """Epoch, score and metrics of the tuned model."""
        self._beams = [0, 0]
        """Histories of the epoch so far whose beams ended at the target, and all."""

    def fit(
        self,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable | None = None,
    ) -> Any:
        """Train as RecBole does, then run the stage.

        Raises:
            UserError: If there is a stage, but no user to validate with.
        """
        options = (verbose, saved, show_progress, callback_fn)
        if not self._preferences.is_on:
            return super().fit(train_data, valid_data, *options)
        if not valid_data:
            raise UserError(
                f"preference_stage={self._preferences.preference_stage}: validation decides whether its model or the "
                "tuned one is kept, but no user has an item to validate with. Leave preference_stage out."
            )
        if self._reference is None:
            super().fit(train_data, valid_data, *options)
            self._begin(valid_data, show_progress)
        samples = self._preferences.preference_samples
        histories = HistoryLoader(self.config, train_data._dataset, samples, self.first_epoch)
        super().fit(histories, valid_data, *options)
        self._conclude()
        return self.best_valid_score, self.best_valid_result

    def _begin(self, valid_data: Any, show_progress: bool) -> None:
        """Begin the stage with the best checkpoint, whose score is the one to beat."""
        processes.barrier()  # the main process may still be writing it
        load_checkpoint(Path(self.saved_model_file), self.model, self.device)
        self.course.finish_stage()
        self._enter(1 + max(self.train_loss_dict, default=-1))
        self.start_epoch, self.cur_step = self.first_epoch, 0
        if self.best_valid_result is None:  # no epoch was validated
            self.best_valid_score, self.best_valid_result = self._valid_epoch(valid_data, show_progress)
        assert self.best_valid_result is not None
        self._tuned = {
            "epoch": self.best_epoch,
            "score": float(self.best_valid_score),
            "result": {name: float(value) for name, value in self.best_valid_result.items()},
        }
        # RecBole takes an equal score for a better one
        better = math.inf if self.valid_metric_bigger else -math.inf
        self.best_valid_score = math.nextafter(self._tuned["score"], better)
        self.logger.info(
            "Preferences (%s): up to %d epochs from the model of epoch %s, whose %s is %.4f on validation.",
            self._preferences.preference_stage, self._preferences.preference_epochs, _shown(self._tuned["epoch"]),
            self.valid_metric, self._tuned["score"],
        )  # fmt: skip

    def _enter(self, first_epoch: int) -> None:
        """Turn the trainer into that of the stage; the model has its weights already."""
        settings = self._preferences
        self.first_epoch, self.epochs = first_epoch, first_epoch + settings.preference_epochs
        self.eval_step, self.rate_option = 1, "preference_learning_rate"
        self.optimizer = self._build_optimizer(learning_rate=settings.preference_learning_rate)
        self.average = WeightAverage(self.model, self.settings.ema_decay)
        self._reference = WeightCopy(self.model)
        self._weigh = len

    def _conclude(self) -> None:
        """Say what the stage has gained on validation."""
        name, metric, tuned = self._preferences.preference_stage, self.valid_metric, self._tuned
        if self._gained:
            self.logger.info(
                "Preferences (%s): %s on validation went from %.4f to %.4f; the model of epoch %s is kept.",
                name, metric, tuned["score"], self.best_valid_score, _shown(self.best_epoch),
            )  # fmt: skip
            return
        self.best_valid_score = tuned["score"]
        scores = [
            point["valid"][metric] for point in self.chronicle.curve.points if point["epoch"] >= self.first_epoch
        ]
        best = (max if self.valid_metric_bigger else min)(scores)
        self.logger.info(
            "Preferences (%s): nothing gained, %s on validation was %.4f and is %.4f at best; the tuned model of "
            "epoch %s is kept as it was.", name, metric, tuned["score"], best, _shown(tuned["epoch"]),
        )  # fmt: skip

    @property
    def _gained(self) -> bool:
        return self.best_epoch != self._tuned["epoch"]

    @property
    def later_stages(self) -> dict[str, Any]:
        """See the base class."""
        if not self._tuned:
            return {}
        about = {
            "stage": self._preferences.preference_stage,
            "tuned_epoch": self._tuned["epoch"],
            "tuned_valid_result": self._tuned["result"],
            "gained": self._gained,
        }
        return {"preferences": about}

    # ---- the training ------------------------------------------------------------------------------------------

    def _train_epoch(
        self, train_data: Any, epoch_idx: int, loss_func: Callable | None = None, show_progress: bool = False
    ) -> Any:
        if self._reference is None:
            return super()._train_epoch(train_data, epoch_idx, loss_func, show_progress)
        self._beams = [0, 0]
        loss = super()._train_epoch(train_data, epoch_idx, self._preference_loss, show_progress)
        if self._beams[1]:  # not an epoch that a resumed training has completed
            self.logger.info("Preferences: beams ended at the target for %d of %d histories.", *self._beams)
        return loss

    def _preference_loss(self, batch: Any) -> torch.Tensor:
        """Return the mean loss of a batch of ``HistoryLoader``."""
        assert self._reference is not None
        settings, targets = self._preferences, batch[TARGET]
        lengths = batch[LENGTH].tolist()
        histories = [row[:n] for row, n in zip(batch[HISTORY].cpu().numpy(), lengths, strict=True)]
        compares, number = settings.preference_stage == "dpo", settings.preference_candidates
        beams = self._policy.beams(histories, number + 1 if compares else number)  # one may be the target
        self._beams[0] += int((beams == targets.unsqueeze(1)).sum())
        self._beams[1] += len(histories)
        rows = rivals(beams, targets, number) if compares else beams
        there, known = rows >= 0, rows.clamp(min=0)
        with self._reference.in_use(), torch.no_grad():  # before the graph of the policy is built on the weights
            reference = self._policy.log_probs(histories, known)
        policy = self._policy.log_probs(histories, known)
        if compares:
            return softmax_dpo(policy, reference, there, settings.preference_beta).mean()
        advantages = advantages_of(rewards_of(beams, targets, settings.preference_rank_reward), there)
        return grpo(policy, reference, advantages, there, settings.preference_kl_weight).mean()

    def _describe(self, batch: Any) -> str:
        return super()._describe(batch) if self._reference is None else f"{len(batch)} histories"

    def _add_hparam_to_tensorboard(self, best_valid_result: float) -> None:
        if self._reference is not None or not self._preferences.is_on:  # once, at the end
            super()._add_hparam_to_tensorboard(best_valid_result)

    # ---- training states ---------------------------------------------------------------------------------------

    def stage_state(self) -> dict[str, Any]:
        """See the base class."""
        if self._reference is None:
            return {}
        return {"first_epoch": self.first_epoch, "tuned": self._tuned, "reference": self._reference.state()}

    def take_up_stage(self, state: dict[str, Any]) -> None:
        """See the base class."""
        if not state:
            return
        self._enter(state["first_epoch"])
        self._tuned = state["tuned"]
        assert self._reference is not None
        self._reference.load(state["reference"])


def _shown(epoch: int | None) -> str:
    """Return an epoch's number as the log counts, from 1."""
    return "none" if epoch is None else str(epoch + 1)
