"""Where a training stands, written down and taken up again: a resumed training takes the course it would have taken.

A state is a checkpoint folder (see ``recbole_lcrec.training.checkpoint``) with everything that the next step depends
on: weights, optimizers, scaler, counters, the place in the epoch, and the random generators both as they were when the
pass over the data began and as they are. To continue within a pass, the loader is started as it was then and the
batches that are done are dropped; then the generators get their later states.

Some of RecBole's trainers pass over the data several times an epoch (RecVAE, KGAT, MKR), so a place is an epoch, a
pass of it, and an optimizer step of the pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.distributed import group
from recbole_lcrec.training import interruption
from recbole_lcrec.training.attributes import ModelAttributes
from recbole_lcrec.training.checkpoint import load_checkpoint, pack, save_checkpoint, unpack
from recbole_lcrec.training.randomness import random_states, set_random_states
from recbole_lcrec.training.states import StateFolder
from recbole_lcrec.utils.errors import UserError

_COUNTERS = ("cur_step", "best_valid_score", "best_valid_result", "best_epoch", "train_loss_dict")
_VERSION = 3
"""Version of what a state holds; losses are means since 3."""


def advice(rate_option: str) -> str:
    """Return what to do about numbers that are not finite, by the option of the learning rate."""
    return f"Lower {rate_option}, or set clip_grad_norm, e.g. --clip_grad_norm=\"{{'max_norm': 1.0}}\"."


class Course:
    """The course of one training.

    Attributes:
        step: Optimizer steps done in the current pass.
        steps_done: Optimizer steps done since the training began.

    Args:
        trainer: The trainer, whose model is as it was built.
    """

    def __init__(self, trainer: Any) -> None:
        self._states: StateFolder | None = None
        self._facts: Callable[[], dict[str, Any]] = dict
        self.step = 0
        self.steps_done = 0
        self._trainer = trainer
        self._attributes = ModelAttributes(trainer.model)
        self._epoch = -1
        self._pass = 0  # number of the current pass of the epoch
        self._losses: list[Any] = []  # of the passes that are done
        self._total: tuple[float, ...] | None = None
        self._is_tuple = False
        self._at_start: dict[str, Any] = {}  # random states when the pass began
        self._loader: Any = None
        self._batch_size = 1  # batches per optimizer step
        self._pending: dict[str, Any] | None = None  # a state that has not been reached yet
        self._folder = Path()

    # ---- the training's side: passes and steps ----------------------------------------------------------------

    def begin(self, epoch: int, loader: Any) -> Any:
        """Begin a pass over the data; return its loss if the state that is taken up has completed it, else None."""
        if epoch != self._epoch:
            self._epoch, self._pass, self._losses = epoch, 0, []
        self._loader, self.step, self._total = loader, 0, None
        state, self._batch_size = self._pending, self._trainer.settings.gradient_accumulation_steps
        if state is not None:
            losses, number = state["losses"], self._pass
            if number < len(losses):
                self._pass += 1
                self._losses.append(losses[number])
                if self._pass == len(losses) and not state["step"]:
                    self._arrive(state, number)
                return losses[number]
            if state["step"]:
                self.step, self._total, self._is_tuple = state["step"], tuple(state["total"]), state["is_tuple"]
                set_random_states(state["random_at_start"], loader)
            else:
                self._arrive(state, number)
        self._at_start = random_states(loader)
        return None

    def batches(self) -> Iterator[Any]:
        """Yield the batches of the pass that are still to be trained on."""
        batches, state = iter(self._loader), self._pending
        if state is not None:
            for _ in range(state["step"] * self._batch_size):
                next(batches)
            self._arrive(state, self._pass)
        end = object()
        # RecBole's loader for graphs is its own iterator and would start again if it were asked for one twice
        while (batch := next(batches, end)) is not end:
            yield batch

    def add(self, parts: tuple[float, ...], is_tuple: bool) -> None:
        """Count an optimizer step whose loss had these parts."""
        self._is_tuple = is_tuple
        self._total = parts if self._total is None else tuple(a + b for a, b in zip(self._total, parts, strict=True))
        self.step += 1
        self.steps_done += 1
        if self._states is not None and (interruption.asked() or self._states.is_due(self.steps_done)):
            self._write()
        interruption.check()

    @property
    def mean(self) -> tuple[float, ...]:
        """The parts of the loss, each the mean over the steps that the current pass has done."""
        assert self._total is not None, "the train loader yielded no batch"
        return tuple(part / self.step for part in self._total)

    def end(self) -> Any:
        """End the pass; return its loss, the mean over its steps."""
        loss = self.mean if self._is_tuple else self.mean[0]
        self._losses.append(loss)
        self._pass, self.step, self._total = self._pass + 1, 0, None
        _check_weights(self._trainer, self._epoch)
        if self._states is not None:
            self._write()
        interruption.check()
        return loss

    def postponed(self) -> AbstractContextManager[None]:
        """Return a context in which a signal waits for the end of the optimizer step."""
        return interruption.postponed()

    # ---- states -----------------------------------------------------------------------------------------------

    def keep(self, states: StateFolder, facts: Callable[[], dict[str, Any]]) -> None:
        """Write states during the training.

        Args:
            states: Where to write them.
            facts: Returns what else goes into each, such as the seconds so far.
        """
        self._states, self._facts = states, facts

    def save(self, folder: Path, *, after_validation: bool = True) -> None:
        """Write the state to a folder, whole or not at all.

        Args:
            folder: The state's folder.
            after_validation: Whether the epoch is over, its validation counted, and the next one follows.

        Raises:
            TypeError: If the model keeps state that cannot be stored safely.
            StorageError: If the disk is full or refuses.
        """
        trainer, over = self._trainer, after_validation
        attributes = self._attributes.changed()
        state = {
            "version": _VERSION,
            "model": RunOptions(trainer.config).model,
            "epoch": self._epoch + 1 if over else self._epoch,
            "losses": [] if over else list(self._losses),
            "step": 0 if over else self.step,
            "total": None if over or self._total is None else list(self._total),
            "is_tuple": self._is_tuple,
            "steps_done": self.steps_done,
            "counters": {name: _plain(vars(trainer)[name]) for name in _COUNTERS},
            "processes": group.place().world_size,
            "optimizers": {
                name: trainer.team.optimizer_state(optimizer) for name, optimizer in self._optimizers().items()
            },
            "scaler": trainer._scaler.state_dict(),
            "stage": trainer.stage_state(),
            "average": trainer.average.state(),
            "curve": _plain(trainer.chronicle.curve.points),
            "attributes": {name: pack(f"attribute '{name}'", value) for name, value in attributes.items()},
            "facts": self._facts(),
        }
        mine = {"random": random_states(self._loader), "random_at_start": {} if over else self._at_start}
        random = group.gathered(mine) or [mine]
        state |= {**random[0], "random_of_others": random[1:]}
        trainer.announce()
        save_checkpoint(folder, trainer.model, state)

    def take_up(self, folder: Path) -> dict[str, Any]:
        """Load a state; the trainer's next ``fit`` goes on from there.

        Returns:
            The facts that were stored with it.

        Raises:
            UserError: If the folder holds no whole state, or one of another model or version.
        """
        state = self._loaded(folder)
        self._pending, self._folder = state, folder
        trainer, counters = self._trainer, state["counters"]
        for name in _COUNTERS:
            setattr(trainer, name, counters[name])
        trainer.chronicle.curve.take_up(state["curve"])
        trainer.start_epoch = state["epoch"]
        self._epoch, self._pass, self.steps_done = -1, 0, state["steps_done"]
        return state["facts"]

    @property
    def place(self) -> tuple[int, int]:
        """Epoch and optimizer step of its pass that the training goes on from."""
        state = self._pending or {"epoch": self._epoch, "step": self.step}
        return state["epoch"], state["step"]

    @property
    def is_within_epoch(self) -> bool:
        """Whether the state that was taken up lies within an epoch."""
        return self._pending is not None and bool(self._pending["step"] or self._pending["losses"])

    @property
    def is_over(self) -> bool:
        """Whether the state that was taken up is that of a training with nothing left to do."""
        trainer = self._trainer
        ended = trainer.start_epoch >= trainer.epochs or trainer.cur_step > trainer.stopping_step
        return self._pending is not None and not self._pending["losses"] and ended

    def finish_stage(self) -> None:
        """End the training that was taken up, if it had nothing left to do, so that a later stage can begin."""
        if self._pending is not None:
            self._arrive(self._pending, 0)

    def _loaded(self, folder: Path) -> dict[str, Any]:
        """Load weights, optimizers, scaler and attributes; return the whole state."""
        trainer = self._trainer
        model = RunOptions(trainer.config).model
        state = load_checkpoint(folder, trainer.model, trainer.device)
        if state.get("version") != _VERSION or state["model"] != model:
            found = f"a state of {state.get('model')}" if "version" in state else "weights alone"
            raise UserError(
                f"{folder}: expected the state of a training of {model}, found {found}. Give a "
                "folder that a run of this version wrote while it trained (RUN_DIR/resume/step-...)."
            )
        self._check_processes(state, folder)
        self._attributes.take_up({name: unpack(value, trainer.device) for name, value in state["attributes"].items()})
        trainer.take_up_stage(state.get("stage", {}))  # those of earlier versions have none
        for name, optimizer in self._optimizers(state["optimizers"]).items():
            trainer.team.load_optimizer(optimizer, state["optimizers"][name])
        trainer._scaler.load_state_dict(state["scaler"])
        trainer.average.load(state["average"])
        return state

    @staticmethod
    def _check_processes(state: dict[str, Any], folder: Path) -> None:
        """Take this process's random generators; refuse a state of more or fewer processes."""
        place, found = group.place(), state.get("processes", 1)
        if found != place.world_size:
            raise UserError(
                f"{folder}: the state of a training by {found} process(es), but there are {place.world_size}: each "
                f"goes on with random generators of its own. Resume with --nproc={found} (in all)."
            )
        if place.rank:
            state |= state["random_of_others"][place.rank - 1]

    def _optimizers(self, names: Any = None) -> dict[str, Any]:
        """Return the trainer's optimizers by attribute name; one that occurs twice is not named ``optimizer``."""
        found = {n: o for n, o in sorted(vars(self._trainer).items()) if isinstance(o, torch.optim.Optimizer)}
        if names is not None:
            return {name: found[name] for name in names}
        others = {id(optimizer) for name, optimizer in found.items() if name != "optimizer"}
        return {name: o for name, o in found.items() if name != "optimizer" or id(o) not in others}

    def _arrive(self, state: dict[str, Any], number: int) -> None:
        """Put everything into the state that was reached; what skipped passes did to the model is undone."""
        if number:
            self._loaded(self._folder)
        set_random_states(state["random"], None if state["step"] else self._loader)
        self._pending = None

    def _write(self) -> None:
        assert self._states is not None
        try:
            self._states.write(self.steps_done, lambda folder: self.save(folder, after_validation=False))
        except TypeError as error:
            self._trainer.logger.warning(
                "No training state can be kept (%s): if this run is stopped, --resume starts from the beginning.",
                error,
            )
            self._states = None


def _plain(value: Any) -> Any:
    """Return a counter in a form that a checkpoint can hold."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return float(value) if isinstance(value, float) else value


def _check_weights(trainer: Any, epoch: int) -> None:
    """Refuse to go on, and to keep a state, with weights that are not finite.

    Raises:
        FloatingPointError: Naming the first such parameter.
    """
    for name, parameter in trainer.model.named_parameters():
        own = parameter.to_local() if hasattr(parameter, "to_local") else parameter  # under FSDP
        if not torch.isfinite(own).all():
            raise FloatingPointError(
                f"parameter {name} is no longer finite in epoch {epoch + 1}. {advice(trainer.rate_option)}"
            )
