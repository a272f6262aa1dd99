"""The benchmark of decoding, on a model of milliseconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from recbole_lcrec.benchmarks import __main__ as command_line
from recbole_lcrec.benchmarks import decoding
from recbole_lcrec.benchmarks.models import ARCHITECTURES, SIZES, Shape, make_paths, make_prompts
from recbole_lcrec.benchmarks.timing import Times, side_by_side


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "XS", Shape(hidden=32, layers=2, heads=2, words=100))
    monkeypatch.setattr(decoding, "ITEMS", 200)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_finds_what_generate_finds_and_writes_json(architecture: str, tmp_path: Path) -> None:
    file = tmp_path / "decoding.json"
    options = ["--size=XS", "--repeats=1", "--check-users=4", "--batches", "2", f"--architecture={architecture}"]
    assert command_line.main(["decoding", *options, f"--output={file}"]) == 0
    result = json.loads(file.read_text(encoding="utf-8"))
    assert result["checked"]["users"] == 4
    assert result["checked"]["largest difference of scores"] < decoding.TOLERANCE
    assert [row["side"].split(",")[0] for row in result["results"]] == ["generate", "ours", "ours", "ours"]
    assert result["results"][0]["times generate"] == 1 and all(row["users/s"] > 0 for row in result["results"])


def test_a_wrong_ranking_is_found_before_anything_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = decoding.constrained_beam_search

    def wrong(*arguments: object, **options: object) -> tuple[torch.Tensor, torch.Tensor]:
        items, scores = right(*arguments, **options)  # type: ignore[arg-type]
        return items.flip(1), scores

    monkeypatch.setattr(decoding, "constrained_beam_search", wrong)
    with pytest.raises(RuntimeError, match="scores differ from generate's"):
        command_line.main(["decoding", "--size=XS", "--repeats=1", "--check-users=2"])


def test_differences_are_measured_in_scores() -> None:
    items, scores = torch.tensor([[1, 2, 3]]), torch.tensor([[-1.0, -2.0, -2.00005]])
    swapped = torch.tensor([[1, 3, 2]])
    assert decoding.differences((items, scores), (items, scores)) == (0, 0)
    places, difference = decoding.differences((items, scores), (swapped, scores))
    assert places == 2 and difference == pytest.approx(5e-5, rel=0.1)
    assert decoding.differences((items, scores), (torch.tensor([[9, 2, 3]]), scores))[1] == pytest.approx(1.00005)


def test_catalogue_and_prompts_are_as_promised() -> None:
    paths = make_paths(3000, 100)
    assert paths.shape == (3000, 4) and len(paths.unique(dim=0)) == 3000
    assert paths.min() >= 100 and ((paths - 100) // 256 == torch.arange(4)).all()
    counts = torch.bincount(paths[:, 0] - 100).float()
    assert counts.max() > 10 * counts[counts > 0].median(), "the first codes are skewed"
    prompts = make_prompts(50, 100, 60)
    assert {len(prompt) for prompt in prompts} <= set(range(120, 201))
    assert all((prompt[:60] == prompts[0][:60]).all() for prompt in prompts)


def test_sides_are_timed_in_turn() -> None:
    calls: list[str] = []
    times = side_by_side({name: lambda name=name: calls.append(name) for name in "ab"}, 3)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert len(times["a"].seconds) == 3
    assert (Times((1.0, 4.0, 2.0)).median, Times((1.0, 4.0, 2.0)).spread) == (2.0, 1.5)


@pytest.mark.parametrize("option", ["--batches=0", "--repeats=0", "--device=cuda"])
def test_wrong_options_end_in_a_message(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    if option == "--device=cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert command_line.main(["decoding", "--size=XS", option]) == 2
    message = capsys.readouterr().err
    assert "decoding: " in message and option.strip("-").split("=")[0] in message
