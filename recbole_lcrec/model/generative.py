"""What all generative recommenders share: prompts in, paths out, and RecBole's prediction interface around it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType

from recbole_lcrec.config import settings_from
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.data.seen import SeenItems
from recbole_lcrec.decoding import ChildSoftmax, LevelSoftmax, PathStep, Softmax, TokenTrie
from recbole_lcrec.embedding import EmbeddingSettings
from recbole_lcrec.evaluation.queries import ONE_WORDING, EvaluationSettings, Queries, TopItems
from recbole_lcrec.index.build import IndexSettings, check_index_options
from recbole_lcrec.index.catalogue import Catalogue
from recbole_lcrec.quantizer import QuantizerSettings
from recbole_lcrec.utils.errors import Mistakes


@dataclass(frozen=True)
class Request:
    """What is known when recommendations are asked for.

    Attributes:
        history: Catalogue rows, oldest first, int64 [n].
        query: What the user looks for in words; "" outside search.
        user: RecBole's id of the user; 0 for a user who is not in the data set.
        excluded: Catalogue rows that must not be recommended, int64 [n].
        searching: Whether the query is in free words: it is then asked in a wording of itemsearch, regardless of the
            task of the evaluation.
    """

    history: np.ndarray
    query: str = ""
    user: int = 0
    excluded: np.ndarray | None = None
    searching: bool = False


@dataclass(frozen=True)
class HistoryFrame:
    """What a model reads around the items of the history of an unknown user.

    Attributes:
        before: Vocabulary ids before the first item; likewise ``between`` two items, and ``behind`` the last.
        max_length: Most tokens that it reads, beyond which the oldest items are left out; None for no limit.
    """

    before: list[int]
    between: list[int]
    behind: list[int]
    max_length: int | None = None


def excluded_rows(requests: Sequence[Request], device: torch.device) -> torch.Tensor | None:
    """Return the rows that must not be recommended, int64 [B, E] padded with -1; None if nothing is excluded."""
    lists = [np.zeros(0, np.int64) if request.excluded is None else request.excluded for request in requests]
    width = max(map(len, lists))
    if not width:
        return None
    padded = np.full((len(lists), width), -1, np.int64)
    for row, excluded in zip(padded, lists, strict=True):
        row[: len(excluded)] = excluded
    return torch.from_numpy(padded).to(device)


class GenerativeRecommender(SequentialRecommender):
    """Base class of models that recommend by generating an item's path.

    A subclass implements ``generate`` and ``score`` on requests; RecBole's ``full_sort_predict`` and ``predict`` and
    the catalogue-wide ``recommend_rows`` are built on these two here.

    Attributes:
        settings: Classes that its options are read into, each checked before data are read.
        catalogue: What it recommends from.
        evaluation: What it is asked at evaluation.
        wordings: Number of wordings of each task that the model can be asked; by default one task with one wording,
            for models that are asked without words.
        item_score_weight: Weight of whole items in scores (`recbole_lcrec.decoding.item_scores`); the rest is that of
            their paths. If it is 0, scores are log-likelihoods.

    Args:
        config: The experiment's configuration.
        dataset: The training part of a CatalogueDataset.
    """

    input_type = InputType.POINTWISE
    settings: ClassVar[tuple[Any, ...]] = (EmbeddingSettings, IndexSettings, QuantizerSettings)
    wordings: Mapping[str, int] = ONE_WORDING
    item_score_weight: float = 0.0

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        run = RunOptions(config)
        if not run.show_progress:
            from transformers.utils.logging import disable_progress_bar

            disable_progress_bar()  # while weights load
        self.num_beams = run.num_beams
        self.evaluation = self.asked(config)
        self._queries: Queries = {}
        self._exclude_history = run.exclude_history
        self.use_catalogue(dataset.catalogue)

    @property
    def list_length(self) -> int:
        """How many items it finds per user: those that its beams end at; no others are scored."""
        return self.num_beams

    @classmethod
    def asked(cls, config: Any) -> EvaluationSettings:
        """Return what the model is asked at evaluation.

        Raises:
            UserError: For a task or a wording that the model does not have.
        """
        return settings_from(EvaluationSettings, config, wordings=cls.wordings)

    @classmethod
    def check_options(cls, config: Any) -> None:
        """Refuse wrong options of the model before the long stages.

        Raises:
            UserError: Naming the option.
        """
        mistakes = Mistakes()
        with mistakes.caught():
            cls.asked(config)
        with mistakes.caught():
            check_index_options(config)
        mistakes.finish()

    def use_catalogue(self, catalogue: Catalogue) -> None:
        """Recommend from this catalogue: the data set's own, or that with new items appended."""
        self.catalogue = catalogue
        # evaluation ranks RecBole's items, as for every other model; recommending reaches the whole catalogue
        paths, rows = torch.from_numpy(catalogue.paths), torch.from_numpy(catalogue.row_of_id[1:])
        self._id_of_row = torch.from_numpy(catalogue.id_of_row)
        self._item_trie = TokenTrie(paths[rows], rows)
        self._catalogue_trie = self._item_trie if len(rows) == len(paths) else TokenTrie(paths)
        self._kept: tuple[np.ndarray, TokenTrie] | None = None

    def use_queries(self, queries: Queries) -> None:
        """Ask with what users look for, where that is known (``eval_task: itemsearch``)."""
        self._queries = queries

    @property
    def prompts(self) -> tuple[int, ...]:
        """Numbers of the wordings that the model is asked in by default; several are an ensemble."""
        return self.evaluation.rounds[0]

    def generate(
        self, requests: Sequence[Request], trie: TokenTrie, num_beams: int, prompt: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the best ``num_beams`` items of ``trie`` per request: (catalogue rows [B, K], scores [B, K]).

        Places for which no allowed item is left have row -1 and score -inf.

        Args:
            requests: What is known of each user, and what must not be recommended.
            trie: The items to choose from.
            num_beams: Items per request.
            prompt: Number of the wording, for models that have several.
        """
        raise TypeError(f"{type(self).__name__} does not implement generate")

    def score(self, requests: Sequence[Request], paths: torch.Tensor, prompt: int) -> torch.Tensor:
        """Return the scores [B, C] of candidate paths [B, C, L] (vocabulary ids) after each request."""
        raise TypeError(f"{type(self).__name__} does not implement score")

    def history_frame(self) -> HistoryFrame:
        """Return what the model reads around the items of a history, in the wording in use."""
        raise TypeError(f"{type(self).__name__} does not implement history_frame")

    def best(
        self,
        requests: Sequence[Request],
        trie: TokenTrie,
        num_beams: int,
        prompts: tuple[int, ...] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the best items by the wordings ``prompts``, or those in use: (catalogue rows [B, K], scores [B, K]).

        The beams of several wordings are merged by the logarithm of their mean probability (of the exponentials of
        their scores, with ``item_score_weight``); an item that a wording's beams lack has probability 0 there.
        """
        found = [self.generate(requests, trie, num_beams, prompt) for prompt in prompts or self.prompts]
        if len(found) == 1:
            return found[0]
        rows, scores = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
        order = rows.argsort(dim=1, stable=True)
        rows, scores = rows.gather(1, order), scores.gather(1, order).double()
        first = torch.ones_like(rows, dtype=torch.bool)
        first[:, 1:] = rows[:, 1:] != rows[:, :-1]
        group = first.cumsum(dim=1) - 1
        top = scores.max(dim=1, keepdim=True).values.clamp(min=torch.finfo(scores.dtype).min)
        summed = torch.zeros_like(scores).scatter_add_(1, group, (scores - top).exp())
        merged = summed.clamp_min(1e-300).log() + top - math.log(len(found))
        of_group = torch.zeros_like(rows).scatter_(1, group, rows)
        merged[summed == 0] = -torch.inf
        values, places = merged.topk(min(num_beams, rows.shape[1] // len(found)), dim=1)
        return of_group.gather(1, places).masked_fill(values == -torch.inf, -1), values.float()

    def softmax(self, normalization: str) -> Softmax:
        """Return the softmax over a code's competitors by its name (``NORMALIZATIONS``)."""
        if normalization == "vocabulary":
            return Softmax()
        if normalization == "children":
            return ChildSoftmax(self._whole_trie())
        ids = torch.from_numpy(self.catalogue.code_ids).long().to(self.device)
        return LevelSoftmax(ids.split(list(self.catalogue.index.level_sizes)))

    def rows_of(self, paths: torch.Tensor) -> torch.Tensor:
        """Return the catalogue rows, int64 [...], of paths of the catalogue [..., L] (vocabulary ids)."""
        trie = self._whole_trie()
        return trie.rows(trie.find(paths)[0])

    def _whole_trie(self) -> TokenTrie:
        """Return the trie of the whole catalogue on the model's device, kept there with what it computes once."""
        whole = self._catalogue_trie.to(self.device)
        if self._item_trie is self._catalogue_trie:
            self._item_trie = whole
        self._catalogue_trie = whole
        return whole

    def loss_weight(self, interaction: Interaction) -> float:
        """Return how much a batch counts when gradients of several batches are accumulated."""
        return float(len(interaction))

    def full_sort_predict(self, interaction: Interaction) -> torch.Tensor:
        """Score all items for each history: generated items by their beam, all others equally and below.

        Args:
            interaction: Histories of B users (``item_id_list``, ``item_length``).

        Returns:
            float32 [B, n_items].
        """
        return self.full_sort_top(interaction).dense(self.n_items)

    def full_sort_top(
        self, interaction: Interaction, seen: SeenItems | None = None, prompts: tuple[int, ...] | None = None
    ) -> TopItems:
        """Return the generated items of each history: what ``full_sort_predict`` scores above all others.

        Args:
            interaction: Histories of B users (``item_id_list``, ``item_length``).
            seen: Items that each user must not be given (``exclude_history``); None excludes nothing.
            prompts: Numbers of the wordings to ask in; None for ``prompts`` of the model.
        """
        requests = self._requests(interaction)
        if seen is not None:
            row_of_id = self.catalogue.row_of_id
            requests = [replace(one, excluded=row_of_id[seen.of_user(one.user)]) for one in requests]
        rows, scores = self.best(requests, self._item_trie, self.num_beams, prompts)
        return TopItems(self._id_of_row.to(rows.device)[rows], scores.float())

    def predict(self, interaction: Interaction, prompts: tuple[int, ...] | None = None) -> torch.Tensor:
        """Return the exact score of each row's item after its history, float32 [B]: what its beam would score.

        Rows of one user that share a history (candidates) share one prompt.

        Args:
            interaction: Histories of B users, and an item for each (``item_id``).
            prompts: Numbers of the wordings to ask in; None for ``prompts`` of the model.
        """
        requests = self._requests(interaction)
        items = interaction[self.ITEM_ID].cpu().numpy()
        groups: dict[tuple[bytes, str, int], list[int]] = {}
        for row, request in enumerate(requests):
            groups.setdefault((request.history.tobytes(), request.query, request.user), []).append(row)
        by_size: dict[int, list[list[int]]] = {}
        for rows in groups.values():
            by_size.setdefault(len(rows), []).append(rows)
        result = torch.empty(len(items), dtype=torch.float32, device=self.device)
        for same_size in by_size.values():
            where = np.array(same_size)  # [B, C]
            paths = torch.from_numpy(self.catalogue.paths[self.catalogue.row_of_id[items[where]]])
            asked = [requests[rows[0]] for rows in same_size]
            result[torch.from_numpy(where).to(self.device)] = self._mean_score(asked, paths, prompts).float()
        return result

    def recommend_rows(
        self,
        histories: Sequence[np.ndarray],
        k: int,
        among: np.ndarray | None = None,
        users: Sequence[int] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the best k rows of the whole catalogue for each history of catalogue rows: (rows, scores), [B, k].

        Items that no interaction names can be recommended too: their paths are as good as any other. With
        ``exclude_history`` items of a history are not; places for which nothing is left have row -1 and score -inf.

        Args:
            histories: Catalogue rows, oldest first; the last MAX_ITEM_LIST_LENGTH count.
            k: Items per history; fewer if there are not that many.
            among: Catalogue rows to choose from, int64 [n]; None for all.
            users: RecBole's ids of the users whose histories these are; None for unknown users.
        """
        limit = int(self.max_seq_length)
        ids = [0] * len(histories) if users is None else users
        requests = [Request(history[-limit:], user=user) for history, user in zip(histories, ids, strict=True)]
        if self._exclude_history:
            requests = [replace(one, excluded=history) for one, history in zip(requests, histories, strict=True)]
        rows, scores = self.best(requests, self._trie_of(among), max(k, self.num_beams))
        return rows[:, :k].cpu().numpy(), scores[:, :k].float().cpu().numpy()

    def score_row(self, histories: Sequence[np.ndarray], row: int) -> list[float]:
        """Return the exact score of a catalogue row after each history of catalogue rows: its beam's score."""
        limit = int(self.max_seq_length)
        requests = [Request(history[-limit:]) for history in histories]
        paths = torch.from_numpy(self.catalogue.paths[[row]]).expand(len(requests), 1, -1)
        return [float(score) for score in self._mean_score(requests, paths)[:, 0]]

    def steps(self, request: Request, path: torch.Tensor) -> list[PathStep]:
        """Return what each code of a path [L] (vocabulary ids) competed with, in the first wording in use."""
        raise TypeError(f"{type(self).__name__} does not implement steps")

    def _trie_of(self, among: np.ndarray | None) -> TokenTrie:
        """Return the trie of some catalogue rows, or of all; the last one is kept, as requests come in batches."""
        if among is None:
            return self._whole_trie()
        if self._kept is None or not np.array_equal(self._kept[0], among):
            self._kept = among, TokenTrie(torch.from_numpy(self.catalogue.paths[among]), torch.from_numpy(among))
        return self._kept[1]

    def _mean_score(
        self, requests: Sequence[Request], paths: torch.Tensor, prompts: tuple[int, ...] | None = None
    ) -> torch.Tensor:
        """Return the scores [B, C] of paths [B, C, L], wordings (None: those in use) merged as for beams."""
        scores = torch.stack([self.score(requests, paths, prompt) for prompt in prompts or self.prompts])
        return scores.double().logsumexp(dim=0) - math.log(len(scores))

    def _requests(self, interaction: Interaction) -> list[Request]:
        """Return each row's user, history in catalogue rows, oldest first, and query if there are queries."""
        ids = interaction[self.ITEM_SEQ].cpu().numpy()
        lengths = interaction[self.ITEM_SEQ_LEN].tolist()
        users = interaction[self.USER_ID].tolist()
        histories = [self.catalogue.row_of_id[row[:length]] for row, length in zip(ids, lengths, strict=True)]
        return [
            Request(history, self._queries.get((user, history.tobytes()), ""), user)
            for user, history in zip(users, histories, strict=True)
        ]
