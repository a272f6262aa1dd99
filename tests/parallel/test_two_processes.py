"""Two processes train and test as one does: the same losses, weights, metrics and ranks of every user."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import write_dataset
from parallel_cases import CASES, experiment_of, outcome, weights
from safetensors import safe_open
from safetensors.torch import load_file

from recbole_lcrec.distributed.launch import launch
from recbole_lcrec.distributed.request import Processes
from recbole_lcrec.training.checkpoint import WEIGHTS, load_checkpoint
from recbole_lcrec.utils.errors import UserError

pytest_plugins = ["single_thread"]
USERS = 23
"""An odd number: one process has a user more. Few, since two processes and a test worker share two cores here."""
SCRIPT = Path(__file__).with_name("parallel_cases.py")


QUICK = ("LCRec", "SASRec", "lonely", "sharded")
"""One of each kind; the others of `CASES` take as long again and more, and are slow tests."""


def launched(folder: Path, cases: Iterable[str]) -> tuple[Path, dict[str, dict[str, Any]]]:
    """Run cases in two processes; return their folder and the options that cases got besides."""
    write_dataset(folder, users=USERS)
    changes: dict[str, dict[str, Any]] = {case: {} for case in cases}
    if "lonely" in changes:
        changes["lonely"]["train_batch_size"] = len(experiment_of("lonely", folder).train_data._dataset) - 1
    paths = [str(path) for path in (SCRIPT.parents[1], SCRIPT.parent)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", ":".join(paths), prepend=":")
        patch.setenv("TORCH_CPP_LOG_LEVEL", "ERROR")
        program = (sys.executable, str(SCRIPT))
        assert launch([str(folder), json.dumps(changes)], Processes(2, 2), program) == 0
    return folder, changes


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    return launched(tmp_path_factory.mktemp("parallel"), QUICK)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    return launched(tmp_path_factory.mktemp("others"), CASES.keys() - set(QUICK))


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if case not in QUICK])
def test_others_equal_one_process(others: tuple[Path, dict[str, dict[str, Any]]], case: str) -> None:
    check_equal(others, case)


@pytest.mark.parametrize("case", QUICK)
def test_equals_one_process(together: tuple[Path, dict[str, dict[str, Any]]], case: str) -> None:
    check_equal(together, case)


def check_equal(ran: tuple[Path, dict[str, dict[str, Any]]], case: str) -> None:
    folder, changes = ran
    experiment = experiment_of(case, folder, **changes[case])
    alone = outcome(experiment)
    first, second = (json.loads((folder / f"{case}.rank{rank}.json").read_text()) for rank in (0, 1))
    assert first["losses"] == pytest.approx(alone["losses"], rel=1e-4)
    for part in ("valid", "test", "by_prompt", "users", "ranks", "top", "wording"):
        assert first[part] == alone[part], part
    assert (first["valid"], first["test"], first["losses"]) == (second["valid"], second["test"], second["losses"])
    assert second["ranks"] == [], "the main process gathers them"
    expected, found = weights(experiment), load_file(folder / f"{case}-2" / "checkpoint" / "model.safetensors")
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=2e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_goes_on_from_a_state_of_two_processes(
    together: tuple[Path, dict[str, dict[str, Any]]], parallel: str
) -> None:
    folder, _ = together
    assert [(folder / f"resumed-{parallel}.rank{rank}.json").read_text() for rank in (0, 1)] == ["True", "True"]
    one_alone = experiment_of("sharded", folder, lm_dropout=0.3)
    with pytest.raises(UserError, match="the state of a training by 2 process"):
        one_alone.trainer.resume_checkpoint(folder / f"state-of-{parallel}")


def test_a_sharded_checkpoint_is_that_of_one_process(together: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    folder, _ = together
    experiment = experiment_of("sharded", folder)
    load_checkpoint(folder / "sharded-2" / "checkpoint", experiment.model)
    expected = json.loads((folder / "sharded.rank0.json").read_text())
    assert experiment.evaluate("test") == expected["test"]
    with safe_open(str(folder / "sharded-2" / "checkpoint" / WEIGHTS), framework="pt") as file:
        assert json.loads(file.metadata()["aliases"]), "tied weights are kept once"


def test_every_user_is_evaluated_once(together: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    folder, _ = together
    found = json.loads((folder / "LCRec.rank0.json").read_text())
    assert len(found["users"]) == 2 * len(set(found["users"])) == 2 * USERS, "once in each of two wordings"
