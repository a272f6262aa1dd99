"""A configuration with its data, model and trainer, and what can be done with it: train, evaluate, recommend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import ModelType

from recbole_lcrec.config import LCRecConfig, registry
from recbole_lcrec.evaluation.ranks import RankCollector, Ranks
from recbole_lcrec.experiment.refusals import refusals_of_recbole
from recbole_lcrec.experiment.saving import write_config
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
        split_sha256: Names the split (see ``recbole_lcrec.data.split.split_sha256``).
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

    def fit(self, callback: Callable[[int, float, dict[str, float]], None] | None = None) -> dict[str, float] | None:
        """Train the model; return the best validation result (None without validation users).

        Args:
            callback: Called after every validation with epoch, score (of ``valid_metric``) and result. It may write
                the training's state with ``trainer.save_state(folder)``; ``trainer.resume_checkpoint(folder)`` before
                ``fit`` goes on from it.

        Raises:
            FloatingPointError: If the training diverges.
            UserError: If a package is missing, or the model has no epochs to call back after.
        """
        show = bool(self.config["show_progress"])
        options: dict[str, Any] = {"saved": True, "show_progress": show}
        if callback is not None:
            if not hasattr(self.trainer, "last_valid_result"):
                raise UserError(f"{self.config['model']} trains without epochs: there is nothing to call back after.")
            options["callback_fn"] = lambda epoch, score: callback(epoch, score, dict(self.trainer.last_valid_result))
        try:
            with self.timer("train"), quiet(), refusals_of_recbole(f"model {self.config['model']}"):
                if hasattr(self.trainer, "curve"):
                    self.trainer.curve.start()
                _, best = self.trainer.fit(self.train_data, self.valid_data, **options)
        except ImportError as error:  # NCL imports faiss only when it needs it
            raise registry.missing_package(self.config["model"], error) from error
        return None if best is None else dict(best)

    def describe(self) -> None:
        """Write what makes the output folder loadable later, beside the checkpoint: options, index, tokenizer."""
        write_config(self.config, self.output_dir)
        if hasattr(self.model, "save_assets"):
            self.model.save_assets(self.output_dir)
        seal(self.output_dir)

    def evaluate(self, phase: str = "test", *, load_best: bool = False) -> dict[str, float] | None:
        """Return the metrics of the "valid" or "test" phase; with ``load_best`` those of the best checkpoint.

        With several ``eval_prompts`` they are the mean over the wordings; ``by_prompt`` has those of each.
        """
        data = {"valid": self.valid_data, "test": self.test_data}[phase]
        if data is None:
            return None
        self.trainer.eval_collector.data_collect(self.train_data)
        show = bool(self.config["show_progress"])
        rounds = self.model.evaluation.rounds if registry.is_generative(self.config["model"]) else (None,)
        results = []
        self.trainer.ranks = collector = self._rank_collector() if phase == "test" else None
        with self.timer(phase), quiet():
            for number, prompts in enumerate(rounds):
                if prompts is not None:
                    self.model.prompts = prompts
                    if collector is not None:
                        collector.round = number
                        collector.wording = "+".join(map(str, prompts))
                best = load_best and number == 0
                results.append(dict(self.trainer.evaluate(data, load_best_model=best, show_progress=show)))
        if collector is not None:
            self.trainer.ranks, self.ranks = None, collector.collected()
        if len(results) == 1:
            return results[0]
        numbers = [prompts[0] for prompts in self.model.evaluation.rounds]
        self.model.prompts = (numbers[0],)
        self.by_prompt[phase] = {str(number): result for number, result in zip(numbers, results, strict=True)}
        return {name: sum(result[name] for result in results) / len(results) for name in results[0]}

    def _rank_collector(self) -> RankCollector:
        full = self.config["eval_args"]["mode"]["test"] == "full"  # sampled candidates are all scored
        found = getattr(self.model, "list_length", None) if full else None
        return RankCollector(max(self.config["topk"]), found)

    def recommend(
        self, histories: Sequence[Sequence[str]], k: int = 10, *, among: Sequence[str] | None = None
    ) -> tuple[list[list[str]], list[list[float]]]:
        """Recommend items for histories of item tokens; with ``exclude_history`` no item of a history.

        Args:
            histories: Item tokens (raw ids, as strings), oldest first; only the last MAX_ITEM_LIST_LENGTH count.
            k: Items per history; fewer where there are not so many to choose from.
            among: Item tokens to choose from, such as new arrivals; None for the whole catalogue, which models that
                rank candidates (TALLRec, InstructRec) refuse.

        Returns:
            Item tokens and scores, best first, one list per history.

        Raises:
            UserError: For anything else than this, an empty history, an unknown item token, or a model that scores
                users and not histories.
        """
        k = arguments.whole_number("recommend: k", k)
        asked = arguments.item_lists("recommend: histories", histories)
        expected = "recommend: among: expected a non-empty list of item tokens"
        chosen = None if among is None else list(dict.fromkeys(arguments.item_list(expected, among)))
        self.model.eval()
        items: list[list[str]] = []
        scores: list[list[float]] = []
        step = max(int(self.config["eval_batch_size"]), 1) if registry.is_generative(self.config["model"]) else 256
        team = getattr(self.trainer, "team", None)
        with torch.no_grad(), team.evaluation() if team is not None else nullcontext():
            for start in range(0, len(asked), step):
                tokens, values = self._recommend_batch(asked[start : start + step], k, chosen)
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
            descriptions: Their descriptions, where they have any.
            embeddings: float32 [len(titles), d], made as those of the index, in place of texts.

        Raises:
            UserError: For a model without an item index, or items that cannot be placed in it.
        """
        if not registry.has_index(self.config["model"]):
            raise UserError(f"add_items: {self.config['model']} has no item index. Use a model that has one.")
        titles = arguments.texts("add_items: titles", titles)
        descriptions = None if descriptions is None else arguments.texts("add_items: descriptions", descriptions)
        if not titles:
            return
        catalogue = self.model.catalogue
        device = str(self.config["device"])
        indexed = catalogue.indexed.add(titles, descriptions, embeddings, device=device)
        self.model.use_catalogue(catalogue.extended(indexed))

    def _recommend_batch(
        self, histories: list[list[str]], k: int, among: list[str] | None
    ) -> tuple[list[list[str]], list[list[float]]]:
        if hasattr(self.model, "recommend_rows"):
            from recbole_lcrec.index.catalogue import rows_of_items

            catalogue = self.model.catalogue
            chosen = None if among is None else rows_of_items(catalogue, among)
            rows, values = self.model.recommend_rows([rows_of_items(catalogue, h) for h in histories], k, chosen)
            return _lists(catalogue.text.items, rows, values)
        tokens = self.dataset.field2id_token[self.dataset.iid_field]
        scores = self.model.full_sort_predict(self._interaction(histories)).view(len(histories), -1).float()
        allowed = torch.zeros(scores.shape[1], dtype=torch.bool)
        allowed[slice(1, None) if among is None else self._item_ids(among)] = True
        scores[:, ~allowed] = -torch.inf
        if self.config["exclude_history"]:
            for row, history in zip(scores, histories, strict=True):
                row[self._item_ids(history)] = -torch.inf
        best, ids = scores.topk(min(k, int(allowed.sum())), dim=1)
        return _lists(tokens, ids.cpu().numpy(), best.cpu().numpy())

    def _item_ids(self, items: Sequence[str]) -> list[int]:
        known = self.dataset.field2token_id[self.dataset.iid_field]
        unknown = [item for item in items if item not in known]
        if unknown:
            raise UserError(f"recommend: {len(unknown)} item(s) are not in the data set, e.g. {unknown[0]!r}.")
        return [int(known[item]) for item in items]

    def _interaction(self, histories: list[list[str]]) -> Interaction:
        """Return RecBole's form of histories of item tokens for its sequential models."""
        if self.config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
            raise UserError(
                f"recommend: {self.config['model']} scores users of the data set and has no use for histories. "
                "Use a sequential or generative model."
            )
        dataset, width = self.dataset, int(self.config["MAX_ITEM_LIST_LENGTH"])
        ids = torch.zeros(len(histories), width, dtype=torch.int64)
        lengths = torch.zeros(len(histories), dtype=torch.int64)
        for row, history in enumerate(histories):
            kept = self._item_ids(history)[-width:]
            ids[row, : len(kept)] = torch.tensor(kept)
            lengths[row] = len(kept)
        fields = {
            dataset.uid_field: torch.zeros(len(histories), dtype=torch.int64),
            dataset.iid_field + self.config["LIST_SUFFIX"]: ids,
            self.config["ITEM_LIST_LENGTH_FIELD"]: lengths,
        }
        return Interaction(fields).to(self.config["device"])


def _lists(
    tokens: Sequence[str] | np.ndarray, numbers: np.ndarray, scores: np.ndarray
) -> tuple[list[list[str]], list[list[float]]]:
    """Return tokens and scores of the places [B, k] that have an item, that is, a score above -inf."""
    found = [line > -np.inf for line in scores]
    kept = [line[is_one].tolist() for line, is_one in zip(numbers, found, strict=True)]
    values = [line[is_one].tolist() for line, is_one in zip(scores, found, strict=True)]
    return [[str(tokens[number]) for number in line] for line in kept], values
