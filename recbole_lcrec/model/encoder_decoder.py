"""What T5 recommenders share: inputs of the encoder in, paths out of the decoder.

A subclass says what the encoder reads (`inputs`) and which T5 it is (`new_lm`); the loss on the target's path, beams
over the trie, candidate scores and what a saved run holds are here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction

from recbole_lcrec.config import StageSettings
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.data.batches import DRAW, SequenceSettings
from recbole_lcrec.decoding import PathStep, TokenTrie
from recbole_lcrec.decoding.beam import steps
from recbole_lcrec.decoding.encoder_decoder import (
    EncoderDecoderForward,
    encoder_decoder_beam_search,
    encoder_decoder_score_paths,
)
from recbole_lcrec.decoding.readout import LogitsReadout
from recbole_lcrec.index.catalogue import Catalogue
from recbole_lcrec.model.generative import GenerativeRecommender, Request, excluded_rows
from recbole_lcrec.utils.errors import Mistakes
from recbole_lcrec.utils.hub import check_memory, saved_architecture, write_architecture


@dataclass(frozen=True)
class T5Settings(StageSettings):
    """Architecture of a T5 from scratch; each option is explained in properties/t5.yaml."""

    t5_d_model: int
    t5_layers: int
    t5_heads: int
    t5_head_dim: int
    t5_d_ff: int
    t5_dropout: float

    def check(self, mistakes: Mistakes) -> None:
        """See the base class."""
        inner = self.t5_heads * self.t5_head_dim
        with mistakes.caught():
            check_memory(
                self.t5_layers * self.t5_d_model * (12 * inner + 4 * self.t5_d_ff),
                f"t5_d_model={self.t5_d_model}, t5_layers={self.t5_layers}",
            )


def new_t5(settings: T5Settings, vocab_size: int, pad_id: int, end_id: int) -> Any:
    """Return a T5 with random weights: as many layers in the decoder as in the encoder, ReLU, tied embeddings.

    Args:
        settings: The architecture.
        vocab_size: Tokens of the vocabulary.
        pad_id: Vocabulary id of the padding, which also starts the decoder, as in T5.
        end_id: Vocabulary id of the end token.
    """
    from transformers import T5Config, T5ForConditionalGeneration

    options: dict[str, Any] = {
        "vocab_size": vocab_size,
        "d_model": settings.t5_d_model,
        "d_kv": settings.t5_head_dim,
        "d_ff": settings.t5_d_ff,
        "num_layers": settings.t5_layers,
        "num_heads": settings.t5_heads,
        "dropout_rate": settings.t5_dropout,
        "feed_forward_proj": "relu",
        "pad_token_id": pad_id,
        "eos_token_id": end_id,
        "decoder_start_token_id": pad_id,
    }
    return T5ForConditionalGeneration(T5Config(**options))


class EncoderDecoderRecommender(GenerativeRecommender):
    """Base class of models that read a history with T5's encoder and write an item's path with its decoder.

    Args:
        config: The experiment's configuration.
        dataset: The training part of a CatalogueDataset.
    """

    settings = (*GenerativeRecommender.settings, T5Settings, SequenceSettings)
    precisions = ("fp32", "bf16")

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.user_names: list[str] = [str(token) for token in dataset.field2id_token[dataset.uid_field]]
        saved = RunOptions(config).saved_folder
        if saved:
            from transformers import AutoModelForSeq2SeqLM

            self.lm = saved_architecture(AutoModelForSeq2SeqLM, saved)
        else:
            self.lm = self.new_lm(config)

    @property
    def n_wordings(self) -> int:
        """Number of wordings that training draws from."""
        return 1

    def new_lm(self, config: Any) -> Any:
        """Return the T5 to train."""
        raise TypeError(f"{type(self).__name__} does not implement new_lm")

    def inputs(
        self, rows: torch.Tensor, lengths: torch.Tensor, users: torch.Tensor, wordings: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the encoder's inputs, right-padded: (ids, mask), both int64 [B, T].

        Args:
            rows: Histories in catalogue rows, oldest first, -1 after the end, int64 [B, W].
            lengths: Items in each history, int64 [B].
            users: RecBole's user ids, 0 for an unknown user, int64 [B].
            wordings: Number of the wording for each, for models that have several.
        """
        raise TypeError(f"{type(self).__name__} does not implement inputs")

    def use_catalogue(self, catalogue: Catalogue) -> None:
        """Recommend from this catalogue: the data set's own, or that with new items appended."""
        super().use_catalogue(catalogue)
        self._row_of_id = torch.from_numpy(catalogue.row_of_id).to(self.device)
        self._paths = torch.from_numpy(catalogue.paths).to(self.device)

    def calculate_loss(self, interaction: Interaction) -> torch.Tensor:
        """Return the mean cross-entropy of the codes of the targets' paths, each given those before it.

        Args:
            interaction: RecBole's rows (user, history, its length, target) with ``draw``, which selects the wordings.
        """
        rows = self._row_of_id[interaction[self.ITEM_SEQ]]
        wordings = (interaction[DRAW] * self.n_wordings).long().tolist()
        ids, mask = self.inputs(rows, interaction[self.ITEM_SEQ_LEN], interaction[self.USER_ID], wordings)
        paths = self._paths[self._row_of_id[interaction[self.ITEM_ID]]]
        output = self.lm(input_ids=ids, attention_mask=mask, labels=paths, use_cache=False)
        normalization = self.evaluation.loss_normalization
        if normalization == "vocabulary":
            return output.loss
        softmax, readout = self.softmax(normalization), LogitsReadout()
        losses = [
            softmax.losses(readout, logits, codes, paths[:, :level])
            for level, (logits, codes) in enumerate(zip(output.logits.unbind(1), paths.unbind(1), strict=True))
        ]
        return torch.stack(losses).mean()

    def generate(
        self, requests: Sequence[Request], trie: TokenTrie, num_beams: int, prompt: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the best items per request by constrained beam search: (catalogue rows, scores), both [B, K]."""
        ids, mask = self._request_inputs(requests, prompt)
        closed = excluded_rows(requests, ids.device)
        softmax = self.softmax(self.evaluation.normalization)
        return encoder_decoder_beam_search(self.lm, ids, mask, trie.to(ids.device), num_beams, softmax, closed)

    def score(self, requests: Sequence[Request], paths: torch.Tensor, prompt: int) -> torch.Tensor:
        """Return the log-likelihood [B, C] of candidate paths [B, C, L] after each request."""
        ids, mask = self._request_inputs(requests, prompt)
        softmax = self.softmax(self.evaluation.normalization)
        return encoder_decoder_score_paths(self.lm, ids, mask, paths.to(ids.device), softmax)

    def steps(self, request: Request, path: torch.Tensor) -> list[PathStep]:
        """Return what each code of a path [L] (vocabulary ids) competed with, in the first wording in use."""
        ids, mask = self._request_inputs([request], self.prompts[0])
        softmax, forward = self.softmax(self.evaluation.normalization), EncoderDecoderForward(self.lm, ids, mask)
        return steps(forward, path.to(ids.device), self._whole_trie(), softmax)

    def _request_inputs(self, requests: Sequence[Request], prompt: int) -> tuple[torch.Tensor, torch.Tensor]:
        lengths = [len(request.history) for request in requests]
        rows = np.full((len(requests), max(lengths)), -1, np.int64)
        for row, request in zip(rows, requests, strict=True):
            row[: len(request.history)] = request.history
        users = torch.tensor([request.user for request in requests], device=self.device)
        histories, counts = torch.from_numpy(rows).to(self.device), torch.tensor(lengths, device=self.device)
        return self.inputs(histories, counts, users, [prompt] * len(requests))

    def save_assets(self, folder: Path) -> None:
        """Write what a saved run needs in addition to the weights: the index and the architecture."""
        self.catalogue.indexed.save(folder)
        write_architecture(self.lm.config, folder / "lm")
