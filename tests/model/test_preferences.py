"""Learning from preferences: the losses by their formulas, and the policy whose items they compare."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fakes import TINY, write_dataset
from torch import Tensor

from recbole_lcrec.experiment import build
from recbole_lcrec.model.preferences import (
    PreferenceSettings,
    advantages_of,
    grpo,
    rewards_of,
    rivals,
    softmax_dpo,
)
from recbole_lcrec.utils.errors import UserError

pytest_plugins = ["single_thread"]
SETTINGS: dict[str, Any] = {
    "preference_stage": "dpo",
    "preference_learning_rate": 1e-4,
    "preference_epochs": 2,
    "preference_samples": None,
    "preference_candidates": 5,
    "preference_beta": 1.0,
    "preference_kl_weight": 0.001,
    "preference_rank_reward": 1.0,
}


def drawn(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a policy, a reference and which of the items are there, [5, 6]; the first one always is."""
    generator = torch.Generator().manual_seed(seed)
    policy, reference = -6 * torch.rand(2, 5, 6, generator=generator, dtype=torch.float64)
    there = torch.rand(5, 6, generator=generator) < 0.7
    there[:, 0], there[0], there[1, 1:] = True, True, False
    return policy.requires_grad_(), reference, there


@pytest.mark.parametrize("seed", range(3))
def test_softmax_dpo_is_its_formula(seed: int) -> None:
    policy, reference, there = drawn(seed)
    found = softmax_dpo(policy, reference, there, beta=0.3)
    of_items = (0.3 * (policy - reference)).tolist()
    for row in range(5):
        margins = [of_items[row][c] - of_items[row][0] for c in range(1, 6) if there[row, c]]
        summed = sum(math.exp(margin) for margin in margins)
        assert found[row].item() == pytest.approx(math.log1p(summed)), "-log sigmoid(-log sum)"
        if not margins:
            assert found[row] == 0
    # one rival: DPO's -log sigmoid of the difference of log ratios
    pair = softmax_dpo(policy[:, :2], reference[:, :2], torch.ones(5, 2, dtype=torch.bool), beta=0.3)
    logits = 0.3 * ((policy[:, 0] - policy[:, 1]) - (reference[:, 0] - reference[:, 1]))
    torch.testing.assert_close(pair, -torch.nn.functional.logsigmoid(logits))
    # what a policy lacks to be normalised is a number of the history
    torch.testing.assert_close(softmax_dpo(policy + 7, reference - 3, there, beta=0.3), found)
    (gradient,) = torch.autograd.grad(found.sum(), policy)
    assert gradient.isfinite().all() and (gradient[~there] == 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_grpo_is_its_formula(seed: int) -> None:
    policy, reference, there = drawn(seed)
    rewards = torch.rand(5, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    advantages = advantages_of(rewards, there)
    found = grpo(policy, reference, advantages, there, kl_weight=0.04)
    (gradient,) = torch.autograd.grad(found.sum(), policy)
    log_ratios = (reference - policy).tolist()
    for row in range(5):
        mine = [c for c in range(6) if there[row, c]]
        group = rewards[row, mine]
        expected = (group - group.mean()) / (group.std() + 1e-4) if len(mine) > 1 else torch.zeros_like(group)
        torch.testing.assert_close(advantages[row, mine], expected)
        divergence = [math.exp(log_ratios[row][c]) - log_ratios[row][c] - 1 for c in mine]
        assert found[row].item() == pytest.approx((0.04 * sum(divergence) - float(expected.sum())) / len(mine))
        for place, c in enumerate(mine):
            pull = 0.04 * (1 - math.exp(log_ratios[row][c]))
            assert gradient[row, c].item() == pytest.approx((pull - float(expected[place])) / len(mine))
    assert (gradient[~there] == 0).all()


def test_rewards_are_for_hit_and_rank_and_a_group_without_the_target_has_none() -> None:
    beams, targets = torch.tensor([[4, 7, 9], [4, 7, 9], [4, 7, -1]]), torch.tensor([7, 1, 4])
    ranks = [1 / math.log2(rank + 1) for rank in (1, 2, 3)]
    first, second, third = (rank / sum(ranks) for rank in ranks)
    expected = torch.tensor([[-2 * first, 1, -2 * third], [0, 0, 0], [1, -2 * second, -2 * third]])
    torch.testing.assert_close(rewards_of(beams, targets, rank_reward=2.0), expected)
    assert rewards_of(beams, targets, rank_reward=0.0).tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]


def test_rivals_are_the_best_items_that_are_not_the_target() -> None:
    beams, targets = torch.tensor([[4, 7, 9], [4, 7, 9], [4, -1, -1]]), torch.tensor([7, 1, 4])
    assert rivals(beams, targets, 2).tolist() == [[7, 4, 9], [1, 4, 7], [4, -1, -1]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preference_stage": "ppo"}, "preference_stage"),
        ({"preference_stage": "grpo", "preference_candidates": 1}, "preference_candidates"),
        ({"preference_beta": 0.0}, "preference_beta is 0.0; expected a number above 0"),
        ({"preference_kl_weight": -1.0}, "preference_kl_weight is -1.0; expected a number of 0 or more"),
        ({"preference_learning_rate": math.inf}, "preference_learning_rate"),
        ({"preference_samples": 0}, "preference_samples is 0; expected a whole number of 1 or more"),
    ],
)
def test_wrong_options_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PreferenceSettings(**{**SETTINGS, **changes})


def test_what_the_stage_does_not_go_with_is_refused() -> None:
    config = {"eval_step": 0, "eval_task": "itemsearch"}
    with pytest.raises(UserError, match=r"eval_step=0 turns it off(.|\n)*eval_task=itemsearch"):
        PreferenceSettings(**SETTINGS).check_beside(config)
    PreferenceSettings(**{**SETTINGS, "preference_stage": "none"}).check_beside(config)


ITEMS = {"history_input": "item", "item_prefixes": True, "item_features": True, "item_loss_weight": 1.0}
ITEMS |= {"item_score_weight": 0.4, "history_separator": "", "tasks": ["nextitem"], "eval_task": "nextitem"}


@pytest.mark.parametrize(
    "changes",
    [
        {**ITEMS, "loss_normalization": "children", "history_loss_weight": 1.0, "lm_dropout": 0.3},
        {"packing": True, "loss_normalization": "level"},
        {},
    ],
    ids=["scratch", "packed", "paper"],
)
def test_the_policy_is_what_lists_are_ranked_by(tmp_path: Path, changes: dict[str, Any]) -> None:
    folders = {"data_path": str(write_dataset(tmp_path)), "output_dir": str(tmp_path / "out")}
    model = build("LCRec", "toy", {**TINY, **folders, "cache_dir": str(tmp_path / "cache"), **changes}).model.double()
    model.train()
    histories = [np.array([3, 8, 1]), np.array([5]), np.arange(12)]
    assert model._logits_at.keeps_apart == ("packing" not in changes)
    with torch.no_grad():
        beams = model.beams(histories, 30)
        assert beams.sort(dim=1).values.tolist() == [list(range(30))] * 3, "every sample is an item, and only once"
        scores = model.score([SimpleNamespace(history=h, query="", searching=False) for h in histories],
                             torch.from_numpy(model.catalogue.paths[beams.numpy()]), 0)  # fmt: skip
    few = beams[:, :7]
    found = model.log_probs(histories, few)
    torch.testing.assert_close(found, scores[:, :7], atol=1e-5, rtol=0, check_dtype=False)
    assert (found[:, 1:] <= found[:, :-1] + 1e-5).all(), "best first"
    (found[0, 0] - found[0, 1]).backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "layers" in name)
    model._exclude_history = True
    with torch.no_grad():
        left = model.beams(histories, 30)
    assert not set(left[0].tolist()) & {3, 8, 1} and (left[2] == -1).sum() == 12
