"""How a trainer evaluates: generated items, what users must not be given, ranks, and a process's share of the batches.

RecBole's ``Trainer.evaluate`` loops over the batches and calls one of two methods for each; both are replaced here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.evaluator import Evaluator
from recbole.trainer import Trainer
from torch.nn import functional

from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.data.batches import on_device
from recbole_lcrec.data.seen import SeenItems, WithSeen
from recbole_lcrec.distributed import group as processes
from recbole_lcrec.evaluation.collecting import ItemCollector, best_items
from recbole_lcrec.evaluation.ranks import RankCollector
from recbole_lcrec.model.interface import RecommendsTopItems
from recbole_lcrec.training.checkpoint import load_checkpoint
from recbole_lcrec.training.chronicle import Chronicle
from recbole_lcrec.training.loggers import RecBoleWriter
from recbole_lcrec.training.team import Alone, MainEvaluator
from recbole_lcrec.utils.allocator import give_back_gaps
from recbole_lcrec.utils.progress import progress
from recbole_lcrec.utils.recbole_patches import no_tensorboard, seeded


@dataclass(frozen=True)
class Evaluation:
    """The settings of one evaluation.

    Attributes:
        seen: Items that each user must not be given; None excludes nothing.
        prompts: Numbers of the wordings that a generative model is asked in; None for its first choice.
        ranks: Collects the rank of every target; None drops them.
    """

    seen: SeenItems | None = None
    prompts: tuple[int, ...] | None = None
    ranks: RankCollector | None = None


class EvaluatingTrainer(Trainer):
    """The evaluation of every trainer that ``recbole_lcrec.training.trainer`` makes.

    Args:
        config: The experiment's configuration.
        model: The model.

    Attributes:
        last_valid_result: Metrics of the last validation.
        best_epoch: Number of the epoch, from 0, of the best checkpoint; None without one.
        users_per_second: Speed of the last evaluation.
        chronicle: Reports the course of the training.
    """

    has_epochs = True
    team: Alone

    def __init__(self, config: Any, model: Any) -> None:
        with no_tensorboard():
            super().__init__(config, model)
        self._run = RunOptions(config)
        self.last_valid_result: dict[str, float] | None = None
        self.best_epoch: int | None = None
        self.users_per_second: float | None = None
        self.chronicle = Chronicle(config, Path(self._run.checkpoint_dir))
        self.tensorboard = RecBoleWriter(self.chronicle.loggers)
        self.eval_collector = ItemCollector(config)
        if processes.several():
            self.evaluator = MainEvaluator(Evaluator(config))
        self._evaluation = Evaluation()
        self._bar = progress(description="Evaluate", show=False)
        self._batch = -1
        self._longest_list = max(self._run.topk)

    def autocast(self) -> Any:
        raise NotImplementedError

    def _valid_epoch(self, valid_data: Any, show_progress: bool = False) -> Any:
        score, self.last_valid_result = super()._valid_epoch(valid_data, show_progress)
        best = self.best_valid_score
        is_best = score >= best if self.valid_metric_bigger else score <= best  # as RecBole's early stopping has it
        self.chronicle.validated(self.last_valid_result, is_best=bool(is_best), best_epoch=self.best_epoch)
        return score, self.last_valid_result

    @torch.no_grad()
    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: Any = None,
        show_progress: bool = False,
        *,
        prompts: tuple[int, ...] | None = None,
        ranks: RankCollector | None = None,
    ) -> Any:
        """Evaluate as RecBole does, with the best checkpoint loaded from our format; note users per second.

        Args:
            eval_data: A loader of validation or test; a ``WithSeen`` names what its users must not be given.
            load_best_model: Whether to load the best checkpoint first.
            model_file: The folder of the checkpoint; None for that of the training.
            show_progress: Whether to show a progress bar.
            prompts: Numbers of the wordings that a generative model is asked in; None for its first choice.
            ranks: Collects the rank of every target.
        """
        if load_best_model:
            folder = Path(model_file or self.saved_model_file)
            processes.barrier()  # the main process may still be writing it
            load_checkpoint(folder, self.model, self.device)
            about = "" if model_file or self.best_epoch is None else f", of epoch {self.best_epoch + 1},"
            self.logger.info("The best checkpoint%s is evaluated: %s", about, folder)
        start = time.perf_counter()
        self._bar = progress(total=len(eval_data), description="Evaluate  ", show=show_progress, unit="batch")
        self.team.before_evaluation()
        seen = eval_data.seen if isinstance(eval_data, WithSeen) else None
        # sampled candidates are the same for every model, and when a saved run is evaluated again
        seed = self._run.seed
        with self.autocast(), self._bar, seeded(seed), self.team.evaluation(), self._about(seen, prompts, ranks):
            result = super().evaluate(eval_data, load_best_model=False, show_progress=False)
        if result is None:
            return None
        users = len(set(eval_data._dataset.inter_feat[eval_data._dataset.uid_field].tolist()))
        self.users_per_second = round(users / max(time.perf_counter() - start, 1e-9), 2)
        # JSON has no numpy scalars, and they would print as np.float64(...)
        return type(result)((key, float(value)) for key, value in result.items())

    @contextmanager
    def _about(
        self, seen: SeenItems | None, prompts: tuple[int, ...] | None, ranks: RankCollector | None
    ) -> Iterator[None]:
        """Keep what RecBole's loop over the batches does not pass on."""
        self._evaluation, self._batch = Evaluation(seen, prompts, ranks), -1
        try:
            yield
        finally:
            self._evaluation = Evaluation()

    def _full_sort_batch_eval(self, batched_data: Any) -> Any:
        if not self._begin_batch():
            return None, None, None, None
        if isinstance(self.model, RecommendsTopItems) and self.model.list_length is not None:
            return self._top_of(self.model, batched_data)
        batch = self._wide_enough(super()._full_sort_batch_eval(batched_data))
        return self._noted(batch, batch[0][self._run.user_field])

    def _top_of(self, model: RecommendsTopItems, batched_data: Any) -> Any:
        """Return a batch with the items that a model generates, or with dense scores if a metric asks for them."""
        interaction, _, positive_u, positive_i = batched_data
        about, users = self._evaluation, interaction[self._run.user_field]
        top = model.full_sort_top(on_device(interaction, self.device), about.seen, about.prompts)
        if not self.eval_collector.reads_top_items_only():
            scores = top.dense(self.tot_item_num)
            scores[:, 0] = -torch.inf
            return self._noted(self._wide_enough((interaction, scores, positive_u, positive_i)), users)
        self._bar.update()
        top = top.widened(self._longest_list)
        if about.ranks is not None:
            candidates = self.tot_item_num - 1
            about.ranks.add_top(users, top.items, positive_u, positive_i, candidates, about.seen, batch=self._batch)
        return interaction, top, positive_u, positive_i

    def _neg_sample_batch_eval(self, batched_data: Any) -> Any:
        if not self._begin_batch():
            return None, None, None, None
        batch = self._wide_enough(self._candidate_scores(batched_data))
        row_of_candidate = batched_data[1]
        if row_of_candidate is None or batch[1].dim() != 2:
            return batch
        _, first = np.unique(row_of_candidate.numpy(), return_index=True)
        return self._noted(batch, batch[0][self._run.user_field].cpu()[torch.from_numpy(first)])

    def _candidate_scores(self, batched_data: Any) -> Any:
        """Return a batch with scores of its candidates, asked for in this evaluation's wordings."""
        prompts = self._evaluation.prompts
        if prompts is None or not isinstance(self.model, RecommendsTopItems):
            return super()._neg_sample_batch_eval(batched_data)
        interaction, row_of_candidate, positive_u, positive_i = batched_data
        pieces = [
            self.model.predict(interaction[start : start + self.test_batch_size].to(self.device), prompts)
            for start in range(0, len(interaction), self.test_batch_size)
        ]
        scores = torch.full((int(positive_u[-1]) + 1, self.tot_item_num), -torch.inf, device=self.device)
        scores[row_of_candidate, interaction[self._run.item_field]] = torch.cat(pieces)
        return interaction, scores, positive_u, positive_i

    def _noted(self, batch: Any, users: torch.Tensor) -> Any:
        """Note the ranks of a batch of dense scores [B, n_items], without what its users [B] must not be given.

        Returns:
            The batch with its best items instead of the scores, unless a metric asks for more: if too few items are
            left, its last places stay empty, while RecBole fills them with any item, even the target.
        """
        interaction, scores, positive_u, positive_i = batch
        about = self._evaluation
        if about.seen is not None:
            scores[about.seen.of_users(users.to(scores.device))] = -torch.inf
        if about.ranks is not None:
            about.ranks.add(users, scores, positive_u, positive_i, batch=self._batch)
        if not self.eval_collector.reads_top_items_only():
            return batch
        return interaction, best_items(scores, self._longest_list), positive_u, positive_i

    def _begin_batch(self) -> bool:
        """Begin the next batch of an evaluation; return whether it is this process's."""
        give_back_gaps()
        self._batch += 1
        if self.team.evaluates(self._batch):
            self.eval_collector.begin_batch(self._batch)
            return True
        self._bar.update()
        return False

    def _wide_enough(self, batch: Any) -> Any:
        """Add empty columns if the catalogue is smaller than max(topk).

        RecBole's collector asks torch.topk for max(topk) columns and fails if there are fewer.
        """
        self._bar.update()
        interaction, scores, positive_u, positive_i = batch
        missing = self._longest_list - scores.shape[-1]
        if scores.dim() == 2 and missing > 0:
            scores = functional.pad(scores, (0, missing), value=-torch.inf)
        return interaction, scores, positive_u, positive_i

    def ended(self, best: dict[str, float] | None) -> None:
        """Report that ``fit`` is over, with the metrics of the best validation (None without one)."""
        stopped = self.cur_step > self.stopping_step and best is not None
        bad = self.cur_step if stopped else None
        self.chronicle.ended(best, best_epoch=self.best_epoch, bad_validations=bad)
