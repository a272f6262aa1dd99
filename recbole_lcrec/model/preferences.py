"""Learning from preferences after the tuning: options, rewards, and the two losses, on log-probabilities of items.

The samples are the items at which the model's own beams end, so every sample is an item, and no reward is needed for
the form of an answer. Both losses compare items after the same history only: the constant by which a policy's
log-probabilities are not normalised depends on the history alone, and cancels (in grpo's penalty it is penalised too).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recbole_lcrec.config import StageSettings
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.utils.errors import Mistakes


@dataclass(frozen=True)
class PreferenceSettings(StageSettings):
    """Options of the stage; each is explained in properties/model/LCRec.yaml."""

    preference_stage: str
    preference_learning_rate: float
    preference_epochs: int
    preference_samples: int | None
    preference_candidates: int
    preference_beta: float
    preference_kl_weight: float
    preference_rank_reward: float

    def check(self, mistakes: Mistakes) -> None:
        """See the base class."""
        mistakes.expect(
            self.preference_stage != "grpo" or self.preference_candidates >= 2,
            "preference_candidates=1: grpo compares the items of a group, so it needs 2 or more.",
        )

    @property
    def is_on(self) -> bool:
        """Whether there is such a stage at all."""
        return self.preference_stage != "none"

    def check_beside(self, config: Any) -> None:
        """Refuse options that the stage does not work with.

        Raises:
            UserError: Naming the options.
        """
        if not self.is_on:
            return
        run, mistakes = RunOptions(config), Mistakes()
        option = f"preference_stage={self.preference_stage}"
        mistakes.expect(
            run.eval_step != 0,
            f"{option}: validation decides whether its model or the tuned one is kept, but eval_step=0 turns it off. "
            "Set eval_step to 1 or more.",
        )
        mistakes.expect(
            run.eval_task != "itemsearch",
            f"{option} learns from histories and the items that follow, but eval_task=itemsearch asks for something "
            "else. Leave one of them out.",
        )
        mistakes.finish()


def rivals(beams: Tensor, targets: Tensor, number: int) -> Tensor:
    """Return the target and the best items that are not it: catalogue rows int64 [B, C], C at most 1 + ``number``.

    Args:
        beams: Catalogue rows int64 [B, K], best first, -1 for nothing.
        targets: Catalogue rows int64 [B].
        number: Number of rivals wanted; there should be one more beam.
    """
    others = beams.masked_fill(beams == targets.unsqueeze(1), -1)
    order = (others < 0).long().argsort(dim=1, stable=True)[:, :number]
    return torch.cat([targets.unsqueeze(1), others.gather(1, order)], dim=1)


def softmax_dpo(policy: Tensor, reference: Tensor, there: Tensor, beta: float) -> Tensor:
    """Return the loss [B] of softmax-DPO (arXiv 2406.09215); with one rival that of DPO (arXiv 2305.18290).

    -log sigmoid(-log sum_d exp(r_d - r_p)) with rewards r = beta log(policy / reference) of the target p and of its
    rivals d: the cross-entropy of the target among them all.

    Args:
        policy: Log-probabilities [B, C] of the target, which comes first, and its rivals.
        reference: The tuned model's, [B, C].
        there: bool [B, C]; whether there is such an item.
        beta: How strongly the policy is held to the reference.
    """
    rewards = (beta * (policy - reference)).masked_fill(~there, -torch.inf)
    return rewards.logsumexp(dim=1) - rewards[:, 0]


def rewards_of(beams: Tensor, targets: Tensor, rank_reward: float) -> Tensor:
    """Return the rewards of a group of items, float32 [B, K] (MiniOneRec, arXiv 2510.24431).

    1 for the target. In a group that has it, any other item has less than 0, and the lower the better it was ranked:
    -1 / log2(rank + 1), divided by the sum over all ranks. A group without the target teaches nothing: all are 0.

    Args:
        beams: Catalogue rows int64 [B, K], best first.
        targets: Catalogue rows int64 [B].
        rank_reward: Weight of the second part.
    """
    hits = beams == targets.unsqueeze(1)
    discounts = 1 / torch.arange(2, beams.shape[1] + 2, device=beams.device).log2()
    blame = (discounts / discounts.sum()) * (hits.any(dim=1, keepdim=True) & ~hits)
    return hits.float() - rank_reward * blame


def advantages_of(rewards: Tensor, there: Tensor) -> Tensor:
    """Return how much better each item is than its group, in standard deviations: [B, K]; 0 where there is none.

    Args:
        rewards: [B, K].
        there: bool [B, K]; whether there is such an item.
    """
    size = there.sum(dim=1, keepdim=True)
    deviations = (rewards - (rewards * there).sum(dim=1, keepdim=True) / size.clamp(min=1)) * there
    variance = deviations.square().sum(dim=1, keepdim=True) / (size - 1).clamp(min=1)
    return deviations / (variance.sqrt() + 1e-4)


def grpo(policy: Tensor, reference: Tensor, advantages: Tensor, there: Tensor, kl_weight: float) -> Tensor:
    """Return the loss [B] of GRPO (arXiv 2402.03300) for a policy that is updated once per group, by whole items.

    The ratio to the policy that sampled the group is 1, so nothing is clipped; advantages add up to 0. The penalty is
    Schulman's estimate of the divergence from the reference, q/p - log(q/p) - 1. Published code takes it and the ratio
    token by token; here an item is one action.

    Args:
        policy: Log-probabilities [B, K].
        reference: The tuned model's, [B, K].
        advantages: [B, K].
        there: bool [B, K]; whether there is such an item.
        kl_weight: Weight of the penalty.
    """
    gain = (policy - policy.detach()).exp() * advantages
    log_ratio = reference - policy
    losses = kl_weight * (log_ratio.exp() - log_ratio - 1) - gain
    return (losses * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)
