"""What language models that train on instruction samples share: the loss on a batch, and the weights to save."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch.nn import functional

from recbole_lcrec.config import settings_from
from recbole_lcrec.instruction.loader import ASIDE, INPUT_IDS, LOSS_WEIGHTS
from recbole_lcrec.instruction.templates import USER_TASKS
from recbole_lcrec.model.sample_logits import SampleLogits
from recbole_lcrec.usertext import UserTextSettings, huggingface


def check_author(config: Any) -> None:
    """Refuse a model that is to write the users' texts but, by its configuration and tokenizer, cannot.

    Raises:
        UserError: Naming ``user_text``.
    """
    settings = settings_from(UserTextSettings, config)
    if settings.kind == "hf" and USER_TASKS & set(config["tasks"]):
        huggingface.check_author(settings.source, f"user_text={settings.user_text}")


class InstructionTuned:
    """Mixin of models whose language model ``lm`` is trained on instruction samples; listed before RecBole's class."""

    shares_weights = True  # see config.parallel.SharesWeights
    precisions = ("fp32", "bf16", "bf16_weights")  # see model.interface.HasPrecisions
    catalogue: Any
    device: Any
    lm: Any
    _logits_at: SampleLogits
    _adapter_only: bool
    state_dict: Any
    load_state_dict: Any

    def calculate_loss(self, interaction: Interaction) -> torch.Tensor:
        """Return the weighted mean cross-entropy of the tokens that carry loss.

        Eq. 7 of the paper on the response; with ``history_loss_weight`` also on the items of the history.

        Args:
            interaction: ``input_ids`` int64 [B, T], right-padded, ``loss_weights`` float32 [B, T], and perhaps
                ``aside`` bool [B, T].
        """
        ids, weights = interaction[INPUT_IDS], interaction[LOSS_WEIGHTS][:, 1:]
        where = torch.zeros_like(ids, dtype=torch.bool)
        where[:, :-1] = weights > 0  # position t predicts token t + 1
        places = torch.arange(ids.shape[1], device=ids.device)
        lengths = (places * where).amax(dim=1) + 2  # the end token, the last that is predicted, closes a sample
        aside = interaction[ASIDE] if ASIDE in interaction else None
        losses = self.token_losses(self._logits_at.states(ids, where, lengths, aside), ids, where)
        kept = weights[where[:, :-1]]
        return (losses * kept).sum() / kept.sum()

    def token_losses(self, states: torch.Tensor, ids: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy [n_true] of the tokens that follow the marked positions.

        Args:
            states: [n_true, D] at these positions.
            ids: Samples, int64 [B, T].
            where: bool [B, T]; the last token of a row is not marked.
        """
        logits = self._logits_at.readout.logits(states)
        return functional.cross_entropy(logits.float(), ids[:, 1:][where[:, :-1]], reduction="none")

    def loss_weight(self, interaction: Interaction) -> float:
        """Return the summed loss weights of a batch, so that accumulated batches equal one large batch."""
        return float(interaction[LOSS_WEIGHTS].sum())

    def describe_batch(self, interaction: Interaction) -> str:
        """Return what identifies a training batch in messages: its size, and how its first sample ends."""
        text = self.catalogue.builder.decode(interaction[INPUT_IDS][0].cpu().numpy(), skip_special_tokens=True)
        return f"{len(interaction)} samples, the first ends with {text[-100:]!r}"

    @torch.no_grad()
    def written_behind(self, prompt: np.ndarray, max_tokens: int, without: Sequence[int] = ()) -> str:
        """Return the words that the language model writes after a prompt, the likeliest token at each step.

        Args:
            prompt: Token ids, int64 [T].
            max_tokens: Maximum number of tokens in the answer.
            without: Token ids that are not words.
        """
        from transformers import GenerationConfig

        tokenizer = self.catalogue.tokenizer
        ids = torch.from_numpy(prompt).long().view(1, -1).to(self.device)
        settings = GenerationConfig(
            max_new_tokens=max_tokens, do_sample=False, num_beams=1, pad_token_id=self.catalogue.builder.pad_id,
            eos_token_id=tokenizer.eos_token_id, suppress_tokens=list(without) or None,
        )  # fmt: skip
        output = self.lm.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        return str(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)).strip()

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
