"""The features that every model's training has, put under the trainer class that RecBole picks for the model.

``with_features(KGTrainer)`` is a class whose method resolution order is KGTrainer, FeatureTrainer, Trainer: RecBole's
special trainers keep what they do differently, and what they inherit from Trainer becomes ours.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.evaluator import Evaluator
from recbole.trainer import Trainer
from recbole.trainer.trainer import NCLTrainer, PretrainTrainer
from recbole.utils import set_color
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from recbole_lcrec.config import settings_from
from recbole_lcrec.data.batches import on_device
from recbole_lcrec.data.seen import SeenItems
from recbole_lcrec.distributed import group as processes
from recbole_lcrec.evaluation.collecting import ItemCollector, best_items
from recbole_lcrec.evaluation.ranks import RankCollector
from recbole_lcrec.training.checkpoint import load_checkpoint, save_checkpoint
from recbole_lcrec.training.course import ADVICE, Course
from recbole_lcrec.training.curve import LearningCurve, NoWriter
from recbole_lcrec.training.optimization import fuse, grouped, learning_rate_factor
from recbole_lcrec.training.pretraining import PretrainFeatures
from recbole_lcrec.training.sharded import team_for
from recbole_lcrec.training.team import MainEvaluator
from recbole_lcrec.training.training_settings import TrainingSettings, check_precision
from recbole_lcrec.utils.progress import progress
from recbole_lcrec.utils.recbole_patches import no_tensorboard, seeded


class FeatureTrainer(Trainer):
    """RecBole's Trainer with schedules, accumulation, autocast, safe checkpoints and one output folder.

    Args:
        config: The experiment's configuration; ``checkpoint_dir`` is the run's output folder.
        model: The model to train.
    """

    def __init__(self, config: Any, model: Any) -> None:
        output_dir = Path(config["checkpoint_dir"])
        self.settings = settings_from(TrainingSettings, config)
        check_precision(self.settings, config)
        self._writer: Any = None
        self.team = team_for(model, config)
        self.tensorboard_dir = output_dir / "tensorboard"
        output_dir.mkdir(parents=True, exist_ok=True)  # RecBole's own way fails if another process is faster
        with no_tensorboard():
            super().__init__(config, model)
        self._warn_of_ignored_options()
        self.best_epoch: int | None = None
        self.last_valid_result: dict[str, float] | None = None
        self.eval_collector = ItemCollector(config)
        if processes.several():
            self.evaluator = MainEvaluator(Evaluator(config))
        self.saved_model_file = str(output_dir / "checkpoint")
        self.users_per_second: float | None = None
        self.curve = LearningCurve()
        self.ranks: RankCollector | None = None  # takes the ranks while a test is evaluated
        self._seen: SeenItems | None = None  # what must not be recommended to the users that are evaluated
        self._bar = progress(description="Evaluate", show=False)
        self._batch = -1
        self.before_writing: Callable[[], None] | None = None  # called once, before the first file of the training
        self._scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.settings.precision == "fp16" or bool(self.enable_scaler)
        )
        self.course = Course(self)

    def announce(self) -> None:
        """Call ``before_writing``, unless that has been done."""
        call, self.before_writing = self.before_writing, None
        if call is not None:
            call()

    def _warn_of_ignored_options(self) -> None:
        """Say which options RecBole's trainer with an epoch loop of its own does not read."""
        if not isinstance(self, NCLTrainer):
            return
        plain = {"lr_scheduler": "constant", "warmup_ratio": 0, "gradient_accumulation_steps": 1, "precision": "fp32"}
        ignored = [name for name, value in plain.items() if getattr(self.settings, name) != value]
        if ignored:
            names = ", ".join(ignored)
            self.logger.warning("RecBole's %s has a loop of its own and ignores %s.", type(self).__name__, names)

    @property
    def tensorboard(self) -> Any:
        """The tensorboard writer; its folder appears when the first value is written, that is, in training."""
        if not processes.is_main():
            return NoWriter()
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self.announce()
            # a resumed training draws its curves over what was done after the state it resumed from
            self._writer = SummaryWriter(str(self.tensorboard_dir), purge_step=self.start_epoch or None)
        return self._writer

    @tensorboard.setter
    def tensorboard(self, value: Any) -> None:
        """Ignore the writer of RecBole's constructor."""

    # ---- optimisation ------------------------------------------------------------------------------------------

    def _build_optimizer(self, **kwargs: Any) -> Any:
        """Build RecBole's optimizer; AdamW leaves biases and norms (1-D parameters) without weight decay."""
        params = list(kwargs.pop("params", self.model.parameters()))
        if self.learner.lower() == "adamw":
            trained = [p for p in params if isinstance(p, torch.nn.Parameter) and p.requires_grad]
            if len(trained) == len([p for p in params if not isinstance(p, torch.nn.Parameter) or p.requires_grad]):
                params = [
                    {"params": [p for p in trained if p.dim() > 1]},
                    {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
                ]
        optimizer = super()._build_optimizer(params=params, **kwargs)
        if isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)):
            fuse(optimizer)
        return optimizer

    def _set_learning_rate(self, position: int, total: int) -> None:
        """Set the rate of the optimizer in use for one step of the training.

        The position is counted from the epoch's number, not by a scheduler's memory: trainers that alternate between
        optimizers, and trainings that go on from a checkpoint, need nothing more.
        """
        warmup = round(self.settings.warmup_ratio * total)
        factor = learning_rate_factor(position, total, warmup, self.settings.lr_scheduler)
        for group in self.optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def _train_epoch(
        self, train_data: Any, epoch_idx: int, loss_func: Callable | None = None, show_progress: bool = False
    ) -> Any:
        """Train one epoch; the loss it returns is the sum over optimizer steps, as RecBole's is over batches."""
        if (passed := self.course.begin(epoch_idx, train_data)) is not None:
            return passed
        self.model.train()
        size = self.settings.gradient_accumulation_steps
        steps = math.ceil(len(train_data) / size)
        if hasattr(train_data, "set_epoch"):
            train_data.set_epoch(epoch_idx)
        loss_func = loss_func or self.model.calculate_loss
        with self.course.postponed():
            batches = self.course.batches()
            options = {"total": len(train_data), "initial": self.course.step * size, "unit": "batch"}
            bar = progress(batches, description=f"Train {epoch_idx:>4}", show=show_progress, **options)
            for together in grouped(bar, size):
                step = self.course.step
                self._set_learning_rate(epoch_idx * steps + step, max(steps * self.epochs, 1))
                parts, is_tuple = self._train_step(together, loss_func, epoch_idx, step)
                bar.set_postfix_str(f"loss {sum(parts):.3f}", refresh=False)
                self.course.add(parts, is_tuple)
            self.team.finish_pass()
            return self.course.end()

    def _train_step(
        self, batches: list[Any], loss_func: Callable, epoch_idx: int, step: int
    ) -> tuple[tuple[float, ...], bool]:
        """Do one optimizer step on some batches as if they were one; return the parts of the loss."""
        weigh = getattr(self.model, "loss_weight", len)
        total = sum(float(weigh(batch)) for batch in batches)
        parts: tuple[float, ...] | None = None
        is_tuple = False
        self.optimizer.zero_grad()
        for batch in batches:
            mine, weight = self.team.share(batch, weigh)
            share = weight / total
            with self.team.holding_back(batch is not batches[-1]):
                with self._autocast():
                    losses = self.team.loss(loss_func, on_device(mine, self.device))
                is_tuple = isinstance(losses, tuple)
                pieces = losses if is_tuple else (losses,)
                loss = sum(pieces)
                if not torch.isfinite(loss).all():
                    raise self._diverged(loss, batches, batch, epoch_idx, step)
                self._scaler.scale(loss * (share * self.team.scale)).backward()
            values = tuple(float(piece.detach()) * share for piece in pieces)
            parts = values if parts is None else tuple(a + b for a, b in zip(parts, values, strict=True))
        if self.clip_grad_norm:
            self._scaler.unscale_(self.optimizer)
            clip_grad_norm_(self.model.parameters(), **self.clip_grad_norm)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        assert parts is not None
        return self.team.finish_step(parts, batches), is_tuple

    def _diverged(self, loss: Any, batches: list[Any], batch: Any, epoch: int, step: int) -> FloatingPointError:
        """Return the error that names the batch whose loss is no number, and what is left of the training."""
        place = next(number for number, other in enumerate(batches) if other is batch)
        number = step * self.settings.gradient_accumulation_steps + place
        best = Path(self.saved_model_file)
        kept = "There is no checkpoint yet"
        if self.best_epoch is not None and best.is_dir():
            kept = f"The best checkpoint, of epoch {self.best_epoch}, is kept in {best}"
        users = batch[self.config["USER_ID_FIELD"]] if self.config["USER_ID_FIELD"] in batch.columns else []
        names = [f"{len(batch)} rows", *([f"the first of RecBole's user id {int(users[0])}"] if len(users) else [])]
        about = self.model.describe_batch(batch) if hasattr(self.model, "describe_batch") else ", ".join(names)
        return FloatingPointError(
            f"the training loss is {loss.item()} in epoch {epoch}, step {step}, batch {number} ({about}). "
            f"{kept}. {ADVICE}"
        )

    def _autocast(self) -> Any:
        types = {"bf16": torch.bfloat16, "fp16": torch.float16}
        enabled = self.settings.precision in types or bool(self.enable_amp)
        return torch.autocast(self.device.type, dtype=types.get(self.settings.precision), enabled=enabled)

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """Train as RecBole does, unless the state that is resumed from has nothing left to do."""
        if self.course.is_over:
            self.logger.info("Nothing is left to train.")
            return self.best_valid_score, self.best_valid_result
        return super().fit(*args, **kwargs)

    # ---- evaluation --------------------------------------------------------------------------------------------

    def _valid_epoch(self, valid_data: Any, show_progress: bool = False) -> Any:
        score, self.last_valid_result = super()._valid_epoch(valid_data, show_progress)
        self.curve.validated(self.last_valid_result)
        return score, self.last_valid_result

    @torch.no_grad()
    def evaluate(
        self, eval_data: Any, load_best_model: bool = True, model_file: Any = None, show_progress: bool = False
    ) -> Any:
        """Evaluate as RecBole does, with the best checkpoint loaded from our format; notes users per second."""
        if load_best_model:
            folder = Path(model_file or self.saved_model_file)
            processes.barrier()  # the main process may still be writing it
            load_checkpoint(folder, self.model, self.device)
            self.logger.info("Loading model structure and parameters from %s", folder)
        start = time.perf_counter()
        self._bar = progress(total=len(eval_data), description="Evaluate  ", show=show_progress, unit="batch")
        # sampled candidates are the same for every model, and when a saved run is evaluated again
        self._batch = -1
        self.team.before_evaluation()
        seed = int(self.config["seed"])
        with self._autocast(), self._bar, seeded(seed), self.team.evaluation(), self._excluding(eval_data):
            result = super().evaluate(eval_data, load_best_model=False, show_progress=False)
        if result is None:
            return None
        users = len(set(eval_data._dataset.inter_feat[eval_data._dataset.uid_field].tolist()))
        self.users_per_second = round(users / max(time.perf_counter() - start, 1e-9), 2)
        # numpy scalars would print as np.float64(...) and are no JSON
        return type(result)((key, float(value)) for key, value in result.items())

    @contextmanager
    def _excluding(self, eval_data: Any) -> Iterator[None]:
        """Keep the items that the loader's users had before out of their lists, under ``exclude_history``."""
        self._seen = getattr(eval_data, "seen", None)
        if self._finds_lists:
            self.model.seen = self._seen
        try:
            yield
        finally:
            self._seen = None
            if self._finds_lists:
                self.model.seen = None

    @property
    def _finds_lists(self) -> bool:
        """Whether the model finds so many items per user (its ``list_length``) and scores no others."""
        return getattr(self.model, "list_length", None) is not None

    def _full_sort_batch_eval(self, batched_data: Any) -> Any:
        users = self.config["USER_ID_FIELD"]
        if not self._is_mine():
            return None, None, None, None
        if self._finds_lists and self.eval_collector.reads_top_items_only():
            interaction, _, positive_u, positive_i = batched_data
            self._bar.update()
            top = self.model.full_sort_top(on_device(interaction, self.device)).widened(max(self.config["topk"]))
            if self.ranks is not None:
                candidates = self.tot_item_num - 1
                self.ranks.add_top(interaction[users], top.items, positive_u, positive_i, candidates, self._seen)
            return interaction, top, positive_u, positive_i
        batch = self._wide_enough(super()._full_sort_batch_eval(batched_data))
        return self._noted(batch, batch[0][users])

    def _noted(self, batch: Any, users: torch.Tensor) -> Any:
        """Note the ranks of a batch of dense scores [B, n_items], without what its users [B] must not get.

        Returns:
            The batch with its best items in place of the scores, if no metric asks for more: places that nothing is
            left for are empty then, where RecBole takes any item, even the target.
        """
        interaction, scores, positive_u, positive_i = batch
        if self._seen is not None:
            scores[self._seen.of_users(users.to(scores.device))] = -torch.inf
        if self.ranks is not None:
            self.ranks.add(users, scores, positive_u, positive_i)
        if not self.eval_collector.reads_top_items_only():
            return batch
        return interaction, best_items(scores, max(self.config["topk"])), positive_u, positive_i

    def _neg_sample_batch_eval(self, batched_data: Any) -> Any:
        if not self._is_mine():
            return None, None, None, None
        batch = self._wide_enough(super()._neg_sample_batch_eval(batched_data))
        row_of_candidate = batched_data[1]
        if row_of_candidate is None or batch[1].dim() != 2:
            return batch
        _, first = np.unique(row_of_candidate.numpy(), return_index=True)
        return self._noted(batch, batch[0][self.config["USER_ID_FIELD"]].cpu()[torch.from_numpy(first)])

    def _is_mine(self) -> bool:
        """Count the batches of an evaluation; return whether the next one is this process's."""
        self._batch += 1
        if self.team.evaluates(self._batch):
            self.eval_collector.number = self._batch
            if self.ranks is not None:
                self.ranks.number = self._batch
            return True
        self._bar.update()
        return False

    def _add_train_loss_to_tensorboard(self, epoch_idx: int, losses: Any, tag: str = "Loss/Train") -> None:
        """Note an epoch's loss; RecBole's loops, which differ otherwise, all call this once per epoch."""
        super()._add_train_loss_to_tensorboard(epoch_idx, losses, tag)
        self.curve.trained(epoch_idx, losses)

    def _wide_enough(self, batch: Any) -> Any:
        """Add columns that nothing can be found in when the catalogue is smaller than max(topk).

        RecBole's collector asks torch.topk for max(topk) columns and fails when there are fewer.
        """
        self._bar.update()
        interaction, scores, positive_u, positive_i = batch
        missing = max(self.config["topk"]) - scores.shape[-1]
        if scores.dim() == 2 and missing > 0:
            scores = functional.pad(scores, (0, missing), value=-torch.inf)
        return interaction, scores, positive_u, positive_i

    # ---- checkpoints -------------------------------------------------------------------------------------------

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        folder = Path(kwargs.pop("saved_model_file", self.saved_model_file))
        score = float(self.best_valid_score)
        state = {"model": self.config["model"], "epoch": epoch, "cur_step": self.cur_step, "best_valid_score": score}
        self.announce()
        save_checkpoint(folder, self.model, state)
        self.best_epoch = epoch
        if verbose:
            self.logger.info(set_color("Saving current", "blue") + f": {folder}")

    def save_state(self, folder: str | Path) -> None:
        """Write all that training goes on from to a folder; to be called from a callback after a validation.

        Raises:
            TypeError: If the model keeps state that cannot be stored safely.
            StorageError: If the disk is full or refuses.
        """
        self.course.save(Path(folder))

    def resume_checkpoint(self, resume_file: Any) -> dict[str, Any]:
        """Load a training state; the next ``fit`` goes on as the training that wrote it would have.

        Args:
            resume_file: A folder that ``save_state`` wrote, or RUN_DIR/resume/step-... of a run.

        Returns:
            The facts that were stored with it, e.g. ``seconds`` per stage.

        Raises:
            UserError: If the folder holds no whole state, or that of another model.
        """
        facts = self.course.take_up(Path(resume_file))
        self.logger.info("Training state of epoch %d, step %d: %s", *self.course.place, resume_file)
        return facts


def with_features(trainer_class: type) -> type:
    """Return ``trainer_class`` (RecBole's choice for a model) with our features under it."""
    if trainer_class is Trainer:
        return FeatureTrainer
    if issubclass(trainer_class, FeatureTrainer):
        return trainer_class
    if not issubclass(trainer_class, Trainer):
        # RecBole's tree models (xgboost, lightgbm) have no optimizer, no epochs and no tensors: their trainer stays
        return trainer_class
    bases: tuple[type, ...] = (trainer_class, FeatureTrainer)
    if issubclass(trainer_class, PretrainTrainer):
        bases = (PretrainFeatures, *bases)
    return type(trainer_class.__name__, bases, {})
