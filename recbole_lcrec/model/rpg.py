"""RPG (Hou et al. 2025, arXiv 2506.05781): all codes of the next item at once, long semantic ids without beams.

As published: an item has many codes, of optimised product quantization, which do not depend on each other; its input
is the mean of its codes' embeddings; a decoder-only transformer reads the history; one residual head per code turns
the last state into a vector, whose cosines with the embeddings of the level's codes, divided by a temperature, are the
logits. The loss is the mean over the codes of their cross-entropy, at every position of the history (multi-token
prediction), and an item's score is the sum of its codes' log-probabilities. Graph-constrained decoding finds the best
items without scoring all of them: see `recbole_lcrec.decoding.code_graph`.

What differs:

- Item text is embedded by ``text_encoder``, and the codes are of its first principal components (``latent_dim``). They
  are separated (``index_mapping``), so that no two items have the same codes and scores.
- The whole catalogue is scored by default, which is exact; graph decoding is ``rpg_decoding: graph``.
- Histories are the last MAX_ITEM_LIST_LENGTH items, as for every model here; longer training sequences are cut into
  windows that predict each item once.
- Training uses AdamW with warm-up and cosine decay.

The items need not have been seen in training: new items are scored by their codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor, nn
from torch.nn import functional

from recbole_lcrec.config import StageSettings, settings_from
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.data.batches import SequenceSettings, length_groups
from recbole_lcrec.data.seen import SeenItems
from recbole_lcrec.decoding.code_graph import CodeGraph, graph_search, similar_items
from recbole_lcrec.embedding import EmbeddingSettings
from recbole_lcrec.evaluation.queries import TopItems
from recbole_lcrec.index.build import IndexSettings, check_index_options
from recbole_lcrec.index.catalogue import FIRST_CODE_ID, Catalogue
from recbole_lcrec.quantizer import QuantizerSettings
from recbole_lcrec.utils.errors import Mistakes
from recbole_lcrec.utils.hub import check_memory

_GROUPS = 8
"""Groups of users with histories of similar length, in which a batch with much padding is ranked."""
_SHORTEST = 1e-12
"""A shorter vector is divided by this instead of by its length, as in torch's normalize."""


@dataclass(frozen=True)
class RPGSettings(StageSettings):
    """Options of RPG; each is explained in properties/model/RPG.yaml."""

    rpg_hidden_size: int
    rpg_layers: int
    rpg_heads: int
    rpg_intermediate_size: int
    rpg_dropout: float
    rpg_temperature: float
    rpg_decoding: str
    graph_beams: int
    graph_edges: int
    graph_steps: int

    def check(self, mistakes: Mistakes) -> None:
        """See the base class."""
        width, inner = self.rpg_hidden_size, self.rpg_intermediate_size
        mistakes.expect(
            width % self.rpg_heads == 0, f"rpg_heads={self.rpg_heads}: it must divide rpg_hidden_size={width}."
        )
        with mistakes.caught():
            check_memory(
                self.rpg_layers * width * (4 * width + 2 * inner),
                f"rpg_hidden_size={width}, rpg_layers={self.rpg_layers}",
            )


class ResidualHeads(nn.Module):
    """One head per level: a state plus SiLU of a linear layer on it, initially the state itself.

    Args:
        n_levels: Heads.
        width: Of states and results.
    """

    def __init__(self, n_levels: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_levels, width, width))
        self.bias = nn.Parameter(torch.zeros(n_levels, width))

    def forward(self, states: Tensor) -> Tensor:
        """Return the heads' vectors [L, N, D] of states [N, D]."""
        return states + functional.silu(torch.matmul(states, self.weight) + self.bias.unsqueeze(1))


class RPG(SequentialRecommender):  # type: ignore[misc]
    """RPG on the item index of this package; see the module for what is as published.

    Attributes:
        catalogue: What it recommends from.

    Args:
        config: The experiment's configuration.
        dataset: The training part of a CatalogueDataset.
    """

    input_type = InputType.POINTWISE
    settings: ClassVar[tuple[Any, ...]] = (
        EmbeddingSettings,
        IndexSettings,
        QuantizerSettings,
        SequenceSettings,
        RPGSettings,
    )

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        from transformers import GPT2Config, GPT2Model

        self.options = settings_from(RPGSettings, config)
        run = RunOptions(config)
        self._exclude_history, self._seed = run.exclude_history, run.seed
        self._graph: tuple[Any, Tensor, CodeGraph] | None = None
        width, dropout = self.options.rpg_hidden_size, self.options.rpg_dropout
        self.level_sizes = tuple(dataset.catalogue.index.level_sizes)
        self.codes = nn.Embedding(sum(self.level_sizes), width)
        nn.init.normal_(self.codes.weight, std=0.02)
        self.transformer = GPT2Model(
            GPT2Config(
                vocab_size=1, n_positions=int(self.max_seq_length), n_embd=width, n_layer=self.options.rpg_layers,
                n_head=self.options.rpg_heads, n_inner=self.options.rpg_intermediate_size, embd_pdrop=dropout,
                attn_pdrop=dropout, resid_pdrop=0.0, use_cache=False, bos_token_id=None, eos_token_id=None,
            )
        )  # fmt: skip
        self.transformer.set_input_embeddings(nn.Identity())  # it is given vectors
        self.heads = ResidualHeads(len(self.level_sizes), width)
        self.use_catalogue(dataset.catalogue)

    @classmethod
    def check_options(cls, config: Any) -> None:
        """Refuse wrong options of the model before the long stages.

        Raises:
            UserError: Naming the option.
        """
        mistakes = Mistakes()
        with mistakes.caught():
            check_index_options(config)
        with mistakes.caught():
            options, longest = settings_from(RPGSettings, config), max(RunOptions(config).topk)
            mistakes.expect(
                options.rpg_decoding != "graph" or options.graph_beams >= longest,
                f"graph_beams={options.graph_beams}: fewer than the longest list in topk ({longest}). Set graph_beams "
                f"to {longest} or more, or shorten topk.",
            )
        mistakes.finish()

    @property
    def list_length(self) -> int | None:
        """How many items it finds per user; None if it scores all of them."""
        return self.options.graph_beams if self.options.rpg_decoding == "graph" else None

    def use_catalogue(self, catalogue: Catalogue) -> None:
        """Recommend from this catalogue: the data set's own, or that with new items appended."""
        self.catalogue = catalogue
        self._graph = None
        device = next(self.parameters()).device
        self._row_of_id = torch.from_numpy(catalogue.row_of_id).to(device)
        self._id_of_row = torch.from_numpy(catalogue.id_of_row).to(device)
        self._paths = torch.from_numpy(catalogue.paths - FIRST_CODE_ID).to(device)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        moved = super()._apply(*args, **kwargs)
        device = self.codes.weight.device
        for name in ("_row_of_id", "_id_of_row", "_paths"):
            setattr(self, name, vars(self)[name].to(device))
        return moved

    # ---- forward -----------------------------------------------------------------------------------------------

    def states(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """Return the hidden states after every item of histories, [B, T, D]; anything after the end.

        Args:
            rows: Catalogue rows, oldest first, int64 [B, T]; anything after the end.
            lengths: Items in each history, 1 or more, int64 [B].
        """
        mask = torch.arange(rows.shape[1], device=rows.device) < lengths.unsqueeze(1)
        paths = self._paths[rows.masked_fill(~mask, 0)]
        vectors = functional.embedding_bag(paths.flatten(0, 1), self.codes.weight, mode="mean").view(*rows.shape, -1)
        output = self.transformer(inputs_embeds=vectors, attention_mask=mask.long())
        states: Tensor = output.last_hidden_state
        return states

    def log_probs(self, states: Tensor) -> list[Tensor]:
        """Return the log-probabilities [N, K_l] of each level's codes after states [N, D]."""
        return [logits.log_softmax(dim=-1) for logits in self._logits(states)]

    def _logits(self, states: Tensor) -> list[Tensor]:
        """Return the cosines with each level's codes over the temperature, [N, K_l], after states [N, D]."""
        vectors = self.heads(states)
        # the products are divided by the lengths, as they are fewer numbers than the vectors
        scales = 1 / (vectors.norm(dim=-1, keepdim=True).clamp_min(_SHORTEST) * self.options.rpg_temperature)
        books = functional.normalize(self.codes.weight, dim=-1).split(self.level_sizes)
        return [(one @ book.T * scale).float() for one, scale, book in zip(vectors, scales, books, strict=True)]

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return the mean cross-entropy of the codes of every item of a window, given those before it.

        Args:
            interaction: RecBole's rows: history, its length, target.
        """
        lengths, targets = interaction[self.ITEM_SEQ_LEN], interaction[self.ITEM_ID]
        items = interaction[self.ITEM_SEQ][:, : int(lengths.max())]
        following = functional.pad(items[:, 1:], (0, 1)).scatter(1, lengths.unsqueeze(1) - 1, targets.unsqueeze(1))
        inside = torch.arange(items.shape[1], device=items.device) < lengths.unsqueeze(1)
        states = self.states(self._row_of_id[items], lengths)[inside]
        paths = self._paths[self._row_of_id[following[inside]]] - self._starts()
        of_levels = zip(self._logits(states), paths.unbind(1), strict=True)
        return torch.stack([functional.cross_entropy(logits, codes) for logits, codes in of_levels]).mean()

    def loss_weight(self, interaction: Interaction) -> float:
        """Return how much a batch counts when gradients of several batches are accumulated: its positions."""
        return float(interaction[self.ITEM_SEQ_LEN].sum())

    # ---- prediction --------------------------------------------------------------------------------------------

    def scores(self, log_probs: Sequence[Tensor], rows: Tensor) -> Tensor:
        """Return the scores of items, the summed log-probabilities of their codes.

        Args:
            log_probs: [B, K_l] of each level's codes.
            rows: Catalogue rows int64 [n], the same for all users; or [B, C], each user's own.

        Returns:
            float32 [B, n] or [B, C].
        """
        if rows.dim() == 1:  # ten times faster than level by level: the users' numbers lie side by side in memory
            by_code = torch.cat(list(log_probs), dim=1).T.contiguous()
            return functional.embedding_bag(self._paths[rows], by_code, mode="sum").T
        paths = self._paths[rows] - self._starts()
        total = log_probs[0].new_zeros(len(log_probs[0]), rows.shape[-1])
        for level, codes in zip(log_probs, paths.unbind(-1), strict=True):
            total += level.gather(1, codes)
        return total

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Score all items after each history, float32 [B, n_items]; those not found by graph decoding equally, lowest.

        Args:
            interaction: Histories of B users (``item_id_list``, ``item_length``).
        """
        if self.list_length is not None:
            return self.full_sort_top(interaction).dense(self.n_items)
        scores = self.scores(self._after(interaction), self._row_of_id[1:])
        return functional.pad(scores, (1, 0), value=-torch.inf)

    def full_sort_top(
        self, interaction: Interaction, seen: SeenItems | None = None, prompts: tuple[int, ...] | None = None
    ) -> TopItems:
        """Return the items that graph decoding finds after each history.

        Args:
            interaction: Histories of B users (``item_id_list``, ``item_length``).
            seen: Items that each user must not be given; None excludes nothing.
            prompts: Not used: nothing is asked in words.
        """
        excluded = None
        if seen is not None:
            row_of_id = self.catalogue.row_of_id
            excluded = [row_of_id[seen.of_user(user)] for user in interaction[self.USER_ID].tolist()]
        rows, scores = self._search(self._after(interaction), self._row_of_id[1:], excluded)
        return TopItems(self._id_of_row[rows], scores)

    def predict(self, interaction: Interaction, prompts: tuple[int, ...] | None = None) -> Tensor:
        """Return the score of each row's item after its history, float32 [B]; equal histories are read once."""
        histories = torch.cat([interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN].unsqueeze(1)], dim=1)
        distinct, which = histories.unique(dim=0, return_inverse=True)
        log_probs = self._after_rows(self._row_of_id[distinct[:, :-1]], distinct[:, -1])
        rows = self._row_of_id[interaction[self.ITEM_ID]].unsqueeze(1)
        return self.scores([level[which] for level in log_probs], rows).squeeze(1)

    def recommend_rows(
        self,
        histories: Sequence[np.ndarray],
        k: int,
        among: np.ndarray | None = None,
        users: Sequence[int] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the best k rows of the whole catalogue for each history of catalogue rows: (rows, scores), [B, k].

        With ``exclude_history`` no item of a history is among them; places for which nothing is left have row -1 and
        score -inf.

        Args:
            histories: Catalogue rows, oldest first; the last MAX_ITEM_LIST_LENGTH count.
            k: Items per history; fewer if there are not that many.
            among: Catalogue rows to choose from, int64 [n]; None for all.
            users: Not used: the model knows histories alone.
        """
        device, log_probs = self.codes.weight.device, self._after_histories(histories)
        rows = (torch.arange(len(self._paths)) if among is None else torch.from_numpy(among)).to(device)
        excluded = histories if self._exclude_history else None
        if among is None and self.list_length is not None:
            found, scores = self._search(log_probs, rows, excluded)
        else:  # a given choice is scored in full
            everything = self.scores(log_probs, rows)
            everything.masked_fill_(self._closed(rows, len(histories), excluded), -torch.inf)
            scores, places = everything.topk(min(k, len(rows)), dim=1)
            found = rows[places].masked_fill(scores == -torch.inf, -1)
        return found[:, :k].cpu().numpy(), scores[:, :k].cpu().numpy()

    def score_row(self, histories: Sequence[np.ndarray], row: int) -> list[float]:
        """Return the score of a catalogue row after each history of catalogue rows."""
        scores = self.scores(self._after_histories(histories), torch.tensor([row], device=self.codes.weight.device))
        return [float(score) for score in scores[:, 0]]

    def save_assets(self, folder: Path) -> None:
        """Write what a saved run needs in addition to the weights: the index."""
        self.catalogue.indexed.save(folder)

    def _starts(self) -> Tensor:
        """Return the number of codes on the levels before each, int64 [L]."""
        sizes = torch.tensor((0, *self.level_sizes[:-1]), device=self.codes.weight.device)
        return sizes.cumsum(0)

    def _after(self, interaction: Interaction) -> list[Tensor]:
        return self._after_rows(self._row_of_id[interaction[self.ITEM_SEQ]], interaction[self.ITEM_SEQ_LEN])

    def _after_histories(self, histories: Sequence[np.ndarray]) -> list[Tensor]:
        """Return what ``_after_rows`` returns, for histories of any length, whose last items count."""
        device, limit = self.codes.weight.device, int(self.max_seq_length)
        kept = [torch.from_numpy(np.asarray(history[-limit:])) for history in histories]
        lengths = torch.tensor([len(history) for history in kept], device=device)
        return self._after_rows(nn.utils.rnn.pad_sequence(kept, batch_first=True).to(device), lengths)

    def _after_rows(self, rows: Tensor, lengths: Tensor) -> list[Tensor]:
        """Return the log-probabilities [B, K_l] of each level's codes after histories of catalogue rows [B, T]."""
        groups = length_groups(lengths, _GROUPS)
        lasts = []
        for some in groups:  # sorted by length, or all rows
            part = lengths[some]
            states = self.states(rows[some, : int(part.max())], part)
            lasts.append(states[torch.arange(len(part), device=part.device), part - 1])
        return self.log_probs(torch.cat(lasts)[torch.argsort(torch.cat(groups))])

    def _search(
        self, log_probs: list[Tensor], rows: Tensor, excluded: Sequence[np.ndarray] | None
    ) -> tuple[Tensor, Tensor]:
        """Return the catalogue rows found among ``rows``, int64 [B, K], and their scores; -1 and -inf for none."""
        places, scores = graph_search(
            self._graph_of(rows), lambda places: self.scores(log_probs, rows[places]),
            self._closed(rows, len(log_probs[0]), excluded), self.options.graph_beams, self.options.graph_steps,
        )  # fmt: skip
        return rows[places].masked_fill(places < 0, -1), scores

    def _closed(self, rows: Tensor, n_users: int, excluded: Sequence[np.ndarray] | None) -> Tensor:
        """Return which of the catalogue rows [n] each user must not get, bool [B, n]; ``excluded`` lists them."""
        closed = torch.zeros(n_users, len(self._paths), dtype=torch.bool, device=rows.device)
        for line, without in zip(closed, excluded or [], strict=excluded is not None):
            line[torch.from_numpy(np.asarray(without, np.int64)).to(rows.device)] = True
        return closed[:, rows]

    @torch.no_grad()
    def _graph_of(self, rows: Tensor) -> CodeGraph:
        """Return the graph of these catalogue rows for the weights as they are; it is made once for both."""
        weight = self.codes.weight
        key = (weight._version, id(self.catalogue))  # every change in place is another version
        if self._graph is None or self._graph[0] != key or not torch.equal(self._graph[1], rows):
            books = functional.normalize(weight, dim=-1).split(self.level_sizes)
            neighbours = similar_items(books, self._paths[rows] - self._starts(), self.options.graph_edges)
            self._graph = key, rows, CodeGraph(neighbours, self._seed)
        return self._graph[2]
