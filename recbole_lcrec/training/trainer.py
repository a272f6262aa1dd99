"""The features that every model's training has, put under the trainer class that RecBole picks for the model.

``with_features(KGTrainer)`` is a class whose method resolution order is KGTrainer, FeatureTrainer, Trainer: RecBole's
special trainers keep what they do differently, and what they inherit from Trainer becomes ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from recbole.trainer import Trainer
from recbole.trainer.trainer import NCLTrainer, PretrainTrainer
from torch.nn.utils import clip_grad_norm_

from recbole_lcrec.config import settings_from
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.data.batches import on_device
from recbole_lcrec.model.interface import CountsEpochs, DescribesBatches, WeighsBatches
from recbole_lcrec.model.lm import store_frozen_in_half
from recbole_lcrec.training.averaging import WeightAverage
from recbole_lcrec.training.checkpoint import save_checkpoint
from recbole_lcrec.training.course import Course, advice
from recbole_lcrec.training.evaluation import EvaluatingTrainer
from recbole_lcrec.training.half_weights import HalfWeights
from recbole_lcrec.training.optimization import fuse, grouped, learning_rate_factor
from recbole_lcrec.training.pretraining import PretrainFeatures
from recbole_lcrec.training.sharded import team_for
from recbole_lcrec.training.states import StateFolder
from recbole_lcrec.training.training_settings import HALF_WEIGHTS, TrainingSettings, check_precision
from recbole_lcrec.training.trees import TreeFeatures
from recbole_lcrec.utils.allocator import give_back_gaps
from recbole_lcrec.utils.progress import progress


class FeatureTrainer(EvaluatingTrainer):
    """RecBole's Trainer with schedules, accumulation, autocast, safe checkpoints and one output folder.

    Attributes:
        first_epoch: Epoch that the schedule of the learning rate begins with.
        rate_option: The option that sets the learning rate.

    Args:
        config: The experiment's configuration; ``checkpoint_dir`` is the run's output folder.
        model: The model to train.
    """

    first_epoch = 0
    rate_option = "learning_rate"

    def __init__(self, config: Any, model: Any) -> None:
        output_dir = Path(RunOptions(config).checkpoint_dir)
        self.settings = settings_from(TrainingSettings, config)
        check_precision(self.settings, config)
        self.team = team_for(model, config)
        output_dir.mkdir(parents=True, exist_ok=True)  # RecBole's own way fails if another process is faster
        super().__init__(config, model)
        self._warn_of_ignored_options()
        self._weigh: Callable[[Any], float] = model.loss_weight if isinstance(model, WeighsBatches) else len
        self.saved_model_file = str(output_dir / "checkpoint")
        self._before_writing: Callable[[], None] | None = None
        self._scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.settings.precision == "fp16" or bool(self.enable_scaler)
        )
        self._half: HalfWeights | None = None
        self.use_precision(self.settings.precision)
        self.course = Course(self)

    def starting(self, before_writing: Callable[[], None] | None = None, *, validates: bool = True) -> None:
        """Begin a training, which ``fit`` carries out, or the ``fit`` of RecBole's trainers with a loop of their own.

        Args:
            before_writing: Called once, before the first file is written (``announce``).
            validates: Whether there are users to validate with.
        """
        self._before_writing = before_writing
        if before_writing is None:
            self.announce()
        within = self.course.is_within_epoch
        self.chronicle.start(self.start_epoch, validates=validates, within_epoch=within)

    def announce(self) -> None:
        """Announce that a file is about to be written: the first time, what ``starting`` was given is called, and the
        loggers are opened, whose files are the run's too."""
        call, self._before_writing = self._before_writing, None
        if call is not None:
            call()
        self.chronicle.loggers.open(self.start_epoch)

    def _warn_of_ignored_options(self) -> None:
        """Warn of options that RecBole's trainer with an epoch loop of its own does not read."""
        if not isinstance(self, NCLTrainer):
            return
        ignored = self.settings.beyond_recbole()
        if ignored:
            names = ", ".join(ignored)
            self.logger.warning("RecBole's %s has a loop of its own and ignores %s.", type(self).__name__, names)

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

    @cached_property
    def average(self) -> WeightAverage:
        """The averaged weights, which are validated and saved."""
        return WeightAverage(self.model, self.settings.ema_decay)

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
        """Train one epoch; return its loss, the mean over optimizer steps (RecBole's is the sum over batches)."""
        if (passed := self.course.begin(epoch_idx, train_data)) is not None:
            return passed
        self.model.train()
        size = self.settings.gradient_accumulation_steps
        steps = math.ceil(len(train_data) / size)
        done, total = (epoch_idx - self.first_epoch) * steps, (self.epochs - self.first_epoch) * steps
        if isinstance(train_data, CountsEpochs):
            train_data.set_epoch(epoch_idx)
        loss_func = loss_func or self.model.calculate_loss
        with self.course.postponed():
            batches = self.course.batches()
            options = {"total": len(train_data), "initial": self.course.step * size, "unit": "batch"}
            bar = progress(batches, description=f"Epoch {epoch_idx + 1}/{self.epochs}", show=show_progress, **options)
            for together in grouped(bar, size):
                step = self.course.step
                self._set_learning_rate(done + step, max(total, 1))
                parts, is_tuple = self._train_step(together, loss_func, epoch_idx, step)
                self.course.add(parts, is_tuple)
                bar.set_postfix_str(f"loss {sum(self.course.mean):.4f}", refresh=False)
                give_back_gaps()
            self.team.finish_pass()
            return self.course.end()

    def _train_step(
        self, batches: list[Any], loss_func: Callable, epoch_idx: int, step: int
    ) -> tuple[tuple[float, ...], bool]:
        """Do one optimizer step on some batches as if they were one; return the parts of the loss."""
        total = sum(float(self._weigh(batch)) for batch in batches)
        parts: tuple[float, ...] | None = None
        is_tuple = False
        self.optimizer.zero_grad()
        for batch in batches:
            mine, weight = self.team.share(batch, self._weigh)
            share = weight / total
            with self.team.holding_back(batch is not batches[-1]):
                losses = self.losses_of(on_device(mine, self.device), loss_func)
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
        self.average.update()
        assert parts is not None
        return self.team.finish_step(parts, batches), is_tuple

    def _diverged(self, loss: Any, batches: list[Any], batch: Any, epoch: int, step: int) -> FloatingPointError:
        """Return the error that names the batch whose loss is not finite, and says what is left of the training."""
        place = next(number for number, other in enumerate(batches) if other is batch)
        number = step * self.settings.gradient_accumulation_steps + place
        best = Path(self.saved_model_file)
        kept = "There is no checkpoint yet"
        if self.best_epoch is not None and best.is_dir():
            kept = f"The best checkpoint, of epoch {self.best_epoch + 1}, is kept in {best}"
        return FloatingPointError(
            f"the training loss is {loss.item()} in epoch {epoch + 1}, step {step + 1}, batch {number + 1} "
            f"({self._describe(batch)}). {kept}. {advice(self.rate_option)}"
        )

    def _describe(self, batch: Any) -> str:
        """Return what identifies a training batch in messages."""
        if isinstance(self.model, DescribesBatches):
            return self.model.describe_batch(batch)
        users = batch[self._run.user_field] if self._run.user_field in batch.columns else []
        names = [f"{len(batch)} rows", *([f"the first of RecBole's user id {int(users[0])}"] if len(users) else [])]
        return ", ".join(names)

    def use_precision(self, precision: str) -> None:
        """Train and evaluate in this precision from now on."""
        self.settings = replace(self.settings, precision=precision)
        # under LoRA autocast stays: what it would round anew at every step is stored rounded
        half = precision == HALF_WEIGHTS and not store_frozen_in_half(self.model)
        self._half = HalfWeights(self.model) if half else None

    def losses_of(self, batch: Any, loss_func: Callable) -> Any:
        """Return the loss of a batch, or its parts, from a forward in the option's precision."""
        if self._half is not None:
            return self.team.loss(partial(self._half.loss, loss_func), batch)
        with self.autocast():
            return self.team.loss(loss_func, batch)

    def autocast(self) -> Any:
        """Return a context for forward passes in the option's precision."""
        types = {"bf16": torch.bfloat16, "fp16": torch.float16, HALF_WEIGHTS: torch.bfloat16}
        enabled = self.settings.precision in types or bool(self.enable_amp)
        return torch.autocast(self.device.type, dtype=types.get(self.settings.precision), enabled=enabled)

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """Train as RecBole does, unless the state that is resumed from has nothing left to do."""
        if self.course.is_over:
            self.logger.info("Nothing is left to train.")
            return self.best_valid_score, self.best_valid_result
        return super().fit(*args, **kwargs)

    def _valid_epoch(self, valid_data: Any, show_progress: bool = False) -> Any:
        with self.average.in_use():
            return super()._valid_epoch(valid_data, show_progress)

    def _add_train_loss_to_tensorboard(self, epoch_idx: int, losses: Any, tag: str = "Loss/Train") -> None:
        """Report an epoch; RecBole's loops, which differ otherwise, all call this once per epoch."""
        self.announce()
        self.chronicle.trained(epoch_idx, self.epochs, losses, float(self.optimizer.param_groups[0]["lr"]))

    # ---- checkpoints -------------------------------------------------------------------------------------------

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        folder = Path(kwargs.pop("saved_model_file", self.saved_model_file))
        score = float(self.best_valid_score)
        state = {
            "model": self._run.model,
            "epoch": epoch,
            "cur_step": self.cur_step,
            "best_valid_score": score,
        }
        self.announce()
        with self.average.in_use():
            save_checkpoint(folder, self.model, state)
        self.best_epoch = epoch

    @property
    def epochs_done(self) -> int:
        """Epochs that were trained."""
        return len(self.train_loss_dict)

    @property
    def later_stages(self) -> dict[str, Any]:
        """What result.json says of stages after the training; nothing, as there are none."""
        return {}

    def stage_state(self) -> dict[str, Any]:
        """Return what a training state holds of a later stage."""
        return {}

    def take_up_stage(self, state: dict[str, Any]) -> None:
        """Enter the stage of a training state, whose weights are loaded, before its optimizers are."""

    @property
    def keeps_states(self) -> bool:
        """Whether training states are written, for ``keep_states`` to choose where."""
        return not isinstance(self, NCLTrainer)

    def keep_states(self, folder: StateFolder, facts: Callable[[], dict[str, Any]]) -> None:
        """Have training states written.

        Args:
            folder: Where to write them.
            facts: Returns what else goes into each, such as the seconds so far.
        """
        self.course.keep(folder, facts)

    def save_state(self, folder: str | Path) -> None:
        """Write all that training resumes from to a folder; to be called from a callback after a validation.

        Raises:
            TypeError: If the model keeps state that cannot be stored safely.
            StorageError: If the disk is full or refuses.
        """
        self.course.save(Path(folder))

    def resume_checkpoint(self, resume_file: Any) -> dict[str, Any]:
        """Load a training state; the next ``fit`` continues as the training that wrote it would have.

        Args:
            resume_file: A folder that ``save_state`` wrote, or RUN_DIR/resume/step-... of a run.

        Returns:
            The facts that were stored with it, e.g. ``seconds`` per stage.

        Raises:
            UserError: If the folder holds no whole state, or that of another model.
        """
        facts = self.course.take_up(Path(resume_file))
        epoch, step = self.course.place
        steps = f", after {step} steps" if step else ""
        self.logger.info("Training state of epoch %d%s: %s", epoch + 1, steps, resume_file)
        return facts


class MeanLosses(NCLTrainer):
    """RecBole's trainer with an epoch loop of its own, with the losses of the others: means, not sums."""

    def _train_epoch(self, train_data: Any, *args: Any, **kwargs: Any) -> Any:
        losses = super()._train_epoch(train_data, *args, **kwargs)
        count = len(train_data)
        return tuple(loss / count for loss in losses) if isinstance(losses, tuple) else losses / count


def with_features(trainer_class: type) -> type:
    """Return ``trainer_class`` (RecBole's choice for a model) with our features under it."""
    if trainer_class is Trainer:
        return FeatureTrainer
    if issubclass(trainer_class, (FeatureTrainer, TreeFeatures)):
        return trainer_class
    if not issubclass(trainer_class, Trainer):
        return type(trainer_class.__name__, (TreeFeatures, trainer_class), {})
    bases: tuple[type, ...] = (trainer_class, FeatureTrainer)
    if issubclass(trainer_class, NCLTrainer):
        bases = (MeanLosses, *bases)
    if issubclass(trainer_class, PretrainTrainer):
        bases = (PretrainFeatures, *bases)
    return type(trainer_class.__name__, bases, {})
