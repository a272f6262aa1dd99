"""What a trainer does differently when several processes train one model.

The gradient of a step is that of one process with the whole batch: each process weights its loss by its share of the
batch's weight (rows, or the tokens that carry loss), and the gradients are summed. Every process knows the whole
batch, so the shares need no communication. The engine is torch's DistributedDataParallel, or FSDP (see
``recbole_lcrec.training.sharded``).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from signal import SIGINT, SIGTERM
from typing import Any

from torch import nn

from recbole_lcrec.distributed import group
from recbole_lcrec.distributed.data import fingerprint_of, share_of
from recbole_lcrec.training import interruption

Weigh = Callable[[Any], float]


class Alone:
    """One process: everything is its own."""

    scale = 1.0
    """Factor of a loss, by which the engine's reduction of the gradients becomes their sum."""

    def share(self, batch: Any, weigh: Weigh) -> tuple[Any, float]:
        """Return this process's part of a batch, and its weight."""
        return batch, float(weigh(batch))

    def loss(self, loss_func: Callable, batch: Any) -> Any:
        """Return what ``loss_func`` returns for this process's part of a batch."""
        return loss_func(batch)

    def holding_back(self, more: bool) -> AbstractContextManager[Any]:
        """Return a context for a batch's forward and backward; ``more`` says whether the step has further batches."""
        return nullcontext()

    def finish_step(self, parts: tuple[float, ...], batches: list[Any]) -> tuple[float, ...]:
        """Return the parts of the loss of the whole step, and hear of signals that other processes received."""
        return parts

    def finish_pass(self) -> None:
        """Hear of signals at the end of a pass."""

    def before_evaluation(self) -> None:
        """Make the models of all processes equal."""

    def evaluates(self, number: int) -> bool:
        """Return whether this process evaluates the batch with this number."""
        return True

    def evaluation(self) -> AbstractContextManager[Any]:
        """Return a context for an evaluation."""
        return nullcontext()

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """Return an optimizer's state, to be stored by rank 0."""
        return optimizer.state_dict()

    def load_optimizer(self, optimizer: Any, state: dict[str, Any]) -> None:
        """Load what ``optimizer_state`` returned."""
        optimizer.load_state_dict(state)


class _Loss(nn.Module):
    """A forward for DistributedDataParallel, which watches forwards: the loss that the trainer asks for."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, loss_func: Callable, batch: Any) -> Any:
        return loss_func(batch)


class Several(Alone):
    """What all engines have in common.

    Args:
        model: The model to train.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._place = group.place()
        self.scale = float(self._place.world_size)  # the engines take means

    def share(self, batch: Any, weigh: Weigh) -> tuple[Any, float]:
        """See the base class."""
        mine, counts = share_of(batch)
        return mine, float(weigh(mine)) if counts else 0.0

    def finish_step(self, parts: tuple[float, ...], batches: list[Any]) -> tuple[float, ...]:
        """See the base class.

        Raises:
            RuntimeError: If the processes have not drawn the same batches.
        """
        seen = sum(map(fingerprint_of, batches))  # whole numbers, which float64 sums exactly
        *sums, sightings = self._heard(*parts, seen)
        if sightings != seen * self._place.world_size:
            raise RuntimeError("the processes have drawn different batches: the model or its data draw at random")
        return tuple(sums)

    def finish_pass(self) -> None:
        """See the base class."""
        self._heard()

    def _heard(self, *numbers: float) -> list[float]:
        """Return the sums of the numbers over the processes; note a signal that any of them received."""
        pending = interruption.pending()
        *sums, terms, interrupts = group.summed([*numbers, float(pending == SIGTERM), float(pending == SIGINT)])
        interruption.agree(SIGTERM if terms else SIGINT if interrupts else None)
        return sums

    def before_evaluation(self) -> None:
        """Take rank 0's buffers: running statistics, which each process has of its own rows only."""
        from torch import distributed

        for buffer in self._model.buffers():
            if buffer.numel() and not buffer.is_sparse:
                distributed.broadcast(buffer, src=0)

    def evaluates(self, number: int) -> bool:
        """See the base class."""
        return number % self._place.world_size == self._place.rank


class Replicated(Several):
    """Each process holds the whole model; DistributedDataParallel sums the gradients while they are computed."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self._made: Any = None

    @property
    def _engine(self) -> Any:
        """The engine, which an evaluation does not need."""
        if self._made is None:
            # RecBole's trainers alternate between losses, each of which uses some of the parameters
            self._made = nn.parallel.DistributedDataParallel(
                _Loss(self._model), broadcast_buffers=False, find_unused_parameters=True
            )
        return self._made

    def loss(self, loss_func: Callable, batch: Any) -> Any:
        """See the base class."""
        return self._engine(loss_func, batch)

    def holding_back(self, more: bool) -> AbstractContextManager[Any]:
        """See the base class."""
        return self._engine.no_sync() if more else nullcontext()


class MainEvaluator:
    """RecBole's evaluator on rank 0, where everything was gathered; the others get its metrics.

    Args:
        evaluator: RecBole's evaluator.
    """

    def __init__(self, evaluator: Any) -> None:
        self._evaluator = evaluator

    def evaluate(self, collected: Any) -> Any:
        """Return the metrics of what was collected by all processes."""
        return group.from_main(self._evaluator.evaluate(collected) if group.is_main() else None)
