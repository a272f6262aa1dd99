"""A configuration with its data, model and trainer, and what can be done with it: train, evaluate, recommend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.config import LCRecConfig, registry
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.evaluation.ranks import RankCollector, Ranks
from recbole_lcrec.experiment.asking import Asking
from recbole_lcrec.experiment.refusals import refusals_of_recbole
from recbole_lcrec.experiment.saving import save_run, write_config
from recbole_lcrec.model.interface import RecommendsTopItems, SavesAssets, UsesCatalogue
from recbole_lcrec.utils import arguments
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.recbole_patches import quiet
from recbole_lcrec.utils.run_folder import seal
from recbole_lcrec.utils.timer import StageTimer


@dataclass
class Experiment:
    """A configuration with its data, model and trainer.

    Attributes:
        config: All options, resolved.
        dataset: The whole data set, filtered and remapped.
        train_data: Loader of the training phase; likewise ``valid_data`` (None without validation users) and
            ``test_data`` (None in the trials of a search, which must not see it).
        model: The model.
        trainer: The trainer; its files go to ``output_dir``.
        output_dir: Folder of the run.
        split_sha256: Identifies the split (see ``recbole_lcrec.data.split.split_sha256``).
        timer: Seconds per stage so far.
        by_prompt: Phase -> wording -> metrics, after an evaluation with several ``eval_prompts``.
        ranks: Rank of every test target, after an evaluation of the test phase that ranks.
    """

    config: LCRecConfig
    dataset: Any
    train_data: Any
    valid_data: Any
    test_data: Any
    model: Any
    trainer: Any
    output_dir: Path
    split_sha256: str
    timer: StageTimer = field(default_factory=StageTimer)
    by_prompt: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    ranks: Ranks | None = None

    @property
    def _run(self) -> RunOptions:
        return RunOptions(self.config)

    def fit(
        self,
        callback: Callable[[int, float, dict[str, float]], None] | None = None,
        *,
        before_writing: Callable[[], None] | None = None,
    ) -> dict[str, float] | None:
        """Train the model; return the best validation result (None without validation users).

        Args:
            callback: Called after every validation with epoch, score (of ``valid_metric``) and result. It may write
                the training's state with ``trainer.save_state(folder)``; ``trainer.resume_checkpoint(folder)`` before
                ``fit`` continues from it.
            before_writing: Called once: before the training writes its first file, or when it ends without any.

        Raises:
            FloatingPointError: If the training diverges.
            UserError: If a package is missing, or ``callback`` is given for a model without epochs.
        """
        show = self._run.show_progress
        options: dict[str, Any] = {"verbose": False, "saved": True, "show_progress": show}
        if callback is not None:
            if not self.trainer.has_epochs:
                raise UserError(f"{self._run.model} trains without epochs: there is nothing to call back after.")
            options["callback_fn"] = lambda epoch, score: callback(epoch, score, dict(self.trainer.last_valid_result))
        try:
            with self.timer("train"), quiet(), refusals_of_recbole(f"model {self._run.model}"):
                self.trainer.starting(before_writing, validates=self.valid_data is not None)
                _, best = self.trainer.fit(self.train_data, self.valid_data, **options)
                self.trainer.announce()
                self.trainer.ended(None if best is None else dict(best))
        except ImportError as error:  # NCL imports faiss only when it needs it
            raise registry.missing_package(self._run.model, error) from error
        return None if best is None else dict(best)

    def describe(self) -> None:
        """Write all that loading the run needs, except the checkpoint: options, index, tokenizer."""
        write_config(self.config, self.output_dir)
        if isinstance(self.model, SavesAssets):
            self.model.save_assets(self.output_dir)
        seal(self.output_dir)

    def evaluate(self, phase: str = "test", *, load_best: bool = False) -> dict[str, float] | None:
        """Return the metrics of the "valid" or "test" phase; with ``load_best``, those of the best checkpoint.

        With several ``eval_prompts``, they are the means over the wordings; ``by_prompt`` has those of each.
        """
        data = {"valid": self.valid_data, "test": self.test_data}[phase]
        if data is None:
            return None
        self.trainer.eval_collector.data_collect(self.train_data)
        show = self._run.show_progress
        rounds = self.model.evaluation.rounds if registry.is_generative(self._run.model) else (None,)
        results = []
        collector = self._rank_collector() if phase == "test" else None
        asking: dict[str, Any] = {"show_progress": show, "ranks": collector}
        with self.timer(phase), quiet():
            for number, prompts in enumerate(rounds):
                if prompts is not None and collector is not None:
                    collector.begin_round(number, "+".join(map(str, prompts)))
                best = load_best and number == 0
                results.append(dict(self.trainer.evaluate(data, load_best_model=best, prompts=prompts, **asking)))
        if collector is not None:
            self.ranks = collector.collected()
        if len(results) == 1:
            return results[0]
        numbers = [prompts[0] for prompts in self.model.evaluation.rounds]
        self.by_prompt[phase] = {str(number): result for number, result in zip(numbers, results, strict=True)}
        return {name: sum(result[name] for result in results) / len(results) for name in results[0]}

    def _rank_collector(self) -> RankCollector:
        full = self._run.eval_modes["test"] == "full"  # sampled candidates are all scored
        found = self.model.list_length if full and isinstance(self.model, RecommendsTopItems) else None
        return RankCollector(max(self._run.topk), found)

    def recommend(
        self, histories: Sequence[Sequence[str]], k: int = 10, *, among: Sequence[str] | None = None
    ) -> tuple[list[list[str]], list[list[float]]]:
        """Recommend items for histories of item tokens; with ``exclude_history``, no item of the history itself.

        Args:
            histories: Item tokens (raw ids, as strings), oldest first; only the last MAX_ITEM_LIST_LENGTH count.
            k: Items per history; fewer if there are not enough to choose from.
            among: Item tokens to choose from, such as new arrivals; None for the whole catalogue, which models that
                rank candidates (TALLRec, InstructRec) refuse.

        Returns:
            Item tokens and scores, best first, one list per history.

        Raises:
            UserError: For other arguments, an empty history, an unknown item token, or a model that scores users and
                not histories.
        """
        k = arguments.whole_number("recommend: k", k)
        asked = arguments.item_lists("recommend: histories", histories)
        expected = "recommend: among: expected a non-empty list of item tokens"
        chosen = None if among is None else arguments.item_list(expected, among)
        asking = Asking(self, k, chosen)
        items: list[list[str]] = []
        scores: list[list[float]] = []
        for start in range(0, len(asked), asking.step):
            tokens, values = asking.of_histories(asked[start : start + asking.step])
            items += tokens
            scores += values
        return items, scores

    def add_items(
        self,
        titles: Mapping[str, str],
        descriptions: Mapping[str, str] | None = None,
        embeddings: np.ndarray | None = None,
    ) -> None:
        """Give new items paths of their own, so that ``recommend`` can name them; nothing is trained.

        Args:
            titles: New item tokens and their titles, which may be empty.
            descriptions: The descriptions of those that have one.
            embeddings: float32 [len(titles), d], made like those of the index, instead of texts.

        Raises:
            UserError: For a model without an item index, or items that cannot be placed in it.
        """
        if not isinstance(self.model, UsesCatalogue):
            raise UserError(f"add_items: {self._run.model} has no item index. Use a model that has one.")
        titles = arguments.texts("add_items: titles", titles)
        descriptions = None if descriptions is None else arguments.texts("add_items: descriptions", descriptions)
        if not titles:
            return
        catalogue = self.model.catalogue
        device = str(self._run.device)
        indexed = catalogue.indexed.add(titles, descriptions, embeddings, device=device)
        self.model.use_catalogue(catalogue.extended(indexed))

    def save(self, folder: str | Path) -> Path:
        """Write the finished run, with the items added to it, into a new folder that can be loaded.

        Args:
            folder: A new or empty folder.

        Returns:
            Its absolute path.

        Raises:
            UserError: If the run has no checkpoint, or there are files in the new folder.
        """
        target = Path(folder).absolute()
        save_run(self.output_dir, self.model, target)
        return target
