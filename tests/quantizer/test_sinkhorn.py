"""Properties of the optimal transport plan (Eq. 6)."""

from __future__ import annotations

import pytest
import torch

from recbole_lcrec.quantizer.sinkhorn import sinkhorn_log


def plain(cost: torch.Tensor, epsilon: float, iterations: int) -> torch.Tensor:
    """Sinkhorn-Knopp as in a textbook: every round on logarithms, in double precision."""
    log_q = -(cost.double() / cost.max()) / epsilon
    for _ in range(iterations):
        log_q = log_q - log_q.logsumexp(0, keepdim=True) + torch.tensor(cost.shape[0] / cost.shape[1]).log()
        log_q = log_q - log_q.logsumexp(1, keepdim=True)
    return log_q


@pytest.mark.parametrize(("batch", "codes"), [(64, 16), (16, 64), (1, 8), (12, 256)])
@pytest.mark.parametrize("epsilon", [0.003, 0.05, 1.0])
def test_rows_sum_to_one_and_columns_to_their_share(batch: int, codes: int, epsilon: float) -> None:
    cost = torch.rand(batch, codes, generator=torch.Generator().manual_seed(0))
    plan = sinkhorn_log(cost, epsilon, 3000).exp()
    assert torch.allclose(plan.sum(1), torch.ones(batch), atol=1e-5)
    assert torch.allclose(plan.sum(0), torch.full((codes,), batch / codes), rtol=0.02)


@pytest.mark.parametrize("epsilon", [1e-4, 1e-3, 0.003])
@pytest.mark.parametrize("kind", ["random", "far", "equal", "zero"])
def test_finite_for_small_epsilon_in_float32(epsilon: float, kind: str) -> None:
    random = torch.rand(64, 32, generator=torch.Generator().manual_seed(0))
    cost = {
        "random": random,
        "far": torch.cat([random[:, :16] * 1e-3, random[:, 16:] + 1e3], dim=1),  # half of the codes are out of reach
        "equal": random[:1].expand(64, 32),
        "zero": torch.zeros(64, 32),
    }[kind]
    log_q = sinkhorn_log(cost, epsilon, 50)
    assert torch.isfinite(log_q).all()
    assert torch.allclose(log_q.exp().sum(1), torch.ones(64), atol=1e-5)


def test_columns_get_their_share_at_the_smallest_epsilon() -> None:
    cost = torch.rand(32, 8, generator=torch.Generator().manual_seed(1))
    plan = sinkhorn_log(cost, 1e-4, 5000).exp()
    assert torch.allclose(plan.sum(0), torch.full((8,), 4.0), rtol=0.05)


@pytest.mark.parametrize("epsilon", [0.003, 0.02])
@pytest.mark.parametrize("iterations", [1, 7, 10, 50])
def test_equals_the_textbook_form(epsilon: float, iterations: int) -> None:
    cost = torch.rand(48, 12, generator=torch.Generator().manual_seed(2))
    expected = plain(cost, epsilon, iterations).exp()
    assert torch.allclose(sinkhorn_log(cost, epsilon, iterations).exp().double(), expected, atol=1e-3)


def test_spreads_a_crowd_that_prefers_one_code() -> None:
    points = torch.randn(100, 4, generator=torch.Generator().manual_seed(3)) * 0.01
    codes = torch.eye(4)
    codes[0] = 0
    plan = sinkhorn_log(torch.cdist(points, codes) ** 2, 0.003, 200)
    assert plan.argmax(1).bincount(minlength=4).min() >= 15


@pytest.mark.parametrize("epsilon", [1e-4, 3e-4, 0.003, 1.0, 1e4])
@pytest.mark.parametrize("iterations", [1, 9, 50])
@pytest.mark.parametrize("shape", [(64, 32), (1, 8), (8, 1), (3, 256)])
@pytest.mark.parametrize("kind", ["huge", "tiny", "smallest", "one outlier", "far rows", "far codes", "near equal"])
def test_finite_for_costs_of_any_size(epsilon: float, iterations: int, shape: tuple[int, int], kind: str) -> None:
    cost = torch.rand(shape, generator=torch.Generator().manual_seed(4))
    if kind == "one outlier":
        cost[0, 0] = 1e30
    elif kind == "far rows":
        cost[0] += 1e6
    elif kind == "far codes":
        cost[:, 0] = 3e38
    elif kind == "near equal":
        cost = 1 + cost * 1e-7
    else:
        cost = cost * {"huge": 3e38, "tiny": 1e-30, "smallest": 1e-44}[kind]
    log_q = sinkhorn_log(cost, epsilon, iterations)
    assert torch.isfinite(log_q).all()
    assert torch.allclose(log_q.exp().sum(1), torch.ones(shape[0]), atol=1e-4)
