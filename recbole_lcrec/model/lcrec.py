"""LC-Rec (arXiv 2311.09049): a language model tuned on alignment tasks recommends by generating item indices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch.nn import functional

from recbole_lcrec.config import settings_from
from recbole_lcrec.decoding import Mode, TokenTrie, choose_mode, constrained_beam_search, score_paths
from recbole_lcrec.decoding.forward import base_model
from recbole_lcrec.evaluation import EVAL_TEMPLATES
from recbole_lcrec.instruction.dataset import InstructionCatalogue
from recbole_lcrec.instruction.loader import INPUT_IDS, LOSS_WEIGHTS, left_pad
from recbole_lcrec.instruction.prompts import Context
from recbole_lcrec.instruction.templates import Template
from recbole_lcrec.model.generative import GenerativeRecommender, Request
from recbole_lcrec.model.lm import LMSettings, build_lm, choose_logits
from recbole_lcrec.usertext import SAVED_TEXTS, write_published


class LCRec(GenerativeRecommender):
    """LC-Rec on any causal language model.

    Args:
        config: The experiment's configuration.
        dataset: The training part of a GenerativeDataset.
    """

    catalogue: InstructionCatalogue
    wordings = {task: len(templates) for task, templates in EVAL_TEMPLATES.items()}

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = settings_from(LMSettings, config)
        saved = Path(config["saved_run"]) if config["saved_run"] else None
        self.tokenizer = self.catalogue.tokenizer
        self.lm = build_lm(settings, self.tokenizer, self.catalogue.index.index_tokens(), saved)
        self._adapter_only = settings.tuning == "lora"
        self._logits_at = choose_logits(self.lm, settings.lm_dropout)
        self._max_length = settings.max_length + self.catalogue.paths.shape[1]
        self._mode: Mode | None = None

    def calculate_loss(self, interaction: Interaction) -> torch.Tensor:
        """Return the weighted mean cross-entropy of the tokens that carry loss.

        Eq. 7 of the paper on the response; with ``history_loss_weight`` also on the items of the history.

        Args:
            interaction: ``input_ids`` int64 [B, T], padded at the right, and ``loss_weights`` float32 [B, T].
        """
        ids, weights = interaction[INPUT_IDS], interaction[LOSS_WEIGHTS][:, 1:]
        where = torch.zeros_like(ids, dtype=torch.bool)
        where[:, :-1] = weights > 0  # position t predicts token t + 1
        logits = self._logits_at(ids, where)
        losses = functional.cross_entropy(logits.float(), ids[:, 1:][where[:, :-1]], reduction="none")
        kept = weights[where[:, :-1]]
        return (losses * kept).sum() / kept.sum()

    def loss_weight(self, interaction: Interaction) -> float:
        """Return the summed loss weights of a batch, so that accumulated batches equal one large batch."""
        return float(interaction[LOSS_WEIGHTS].sum())

    def generate(
        self, requests: Sequence[Request], trie: TokenTrie, num_beams: int, prompt: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the best items per request by constrained beam search: (trie rows, scores), both [B, K]."""
        ids, mask = self._prompts(requests, prompt)
        return constrained_beam_search(self.lm, ids, mask, trie.to(ids.device), num_beams, mode=self._decoding_mode())

    def score(self, requests: Sequence[Request], paths: torch.Tensor, prompt: int) -> torch.Tensor:
        """Return the log-likelihood [B, C] of candidate paths [B, C, L] after each request."""
        ids, mask = self._prompts(requests, prompt)
        return score_paths(self.lm, ids, mask, paths.to(ids.device), mode=self._decoding_mode())

    def checkpoint_state(self) -> dict[str, torch.Tensor]:
        """Return the weights to save: all of them, or under LoRA the adapter and the index tokens' rows."""
        if self._adapter_only:
            from peft import get_peft_model_state_dict

            return dict(get_peft_model_state_dict(self.lm))
        return self.state_dict()

    def load_checkpoint_state(self, state: dict[str, torch.Tensor]) -> None:
        """Load what ``checkpoint_state`` returned."""
        if self._adapter_only:
            from peft import set_peft_model_state_dict

            set_peft_model_state_dict(self.lm, state)
        else:
            self.load_state_dict(state)

    def save_assets(self, folder: Path) -> None:
        """Write what a saved run needs beside the weights: index, tokenizer, user texts, the LM's architecture."""
        self.catalogue.indexed.save(folder)
        self.tokenizer.save_pretrained(folder / "tokenizer")
        base_model(self.lm).config.save_pretrained(folder / "lm")
        if self.catalogue.user_texts:
            write_published(folder / SAVED_TEXTS, self.catalogue.user_texts, self.catalogue.text.items)

    def _prompts(self, requests: Sequence[Request], prompt: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return left-padded prompts in the task's wording: (input_ids, attention_mask), int64 [B, T]."""
        builder = self.catalogue.builder
        prompts = [
            builder.prompt(self._template(request, prompt), Context(request.history, intention=request.query))
            for request in requests
        ]
        ids, mask = left_pad(prompts, builder.pad_id)
        return ids.to(self.device), mask.to(self.device)

    def _template(self, request: Request, prompt: int) -> Template:
        """Return the wording for a request; one without the text that the task needs is asked as in seqrec."""
        text, task = self.catalogue.text, self.evaluation.eval_task
        answerable = {
            "seqrec": True,
            "itemsearch": bool(request.query),
            "fusionseqrec": any(text.titles[row] for row in request.history),
        }
        templates = EVAL_TEMPLATES[task]
        return templates[prompt] if answerable[task] else EVAL_TEMPLATES["seqrec"][0]

    def _decoding_mode(self) -> Mode:
        """Check once, on the device the model runs on, whether beams may be folded into one sequence."""
        if self._mode is None:
            self._mode = choose_mode(self.lm, max_length=self._max_length)
        return self._mode
