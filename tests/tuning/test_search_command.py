import subprocess
import sys
from pathlib import Path

import pytest

from recbole_lcrec.cli import main as cli
from recbole_lcrec.distributed.cluster import available_cpus
from recbole_lcrec.tuning.search_settings import read_settings
from recbole_lcrec.utils.errors import UserError

BASE = ["--model=SASRec", "--dataset=ml-100k"]


def mistakes_of(*argv: str) -> str:
    with pytest.raises(UserError) as error:
        cli.parse(argv)
    return str(error.value)


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--scheduler=pbt", "--search_alg=hyperopt"], ["pbt does not go with search_alg hyperopt"]),
        (["--scheduler=pbt", "--num_samples=1"], ["needs a population"]),
        (["--search_alg=grid", "--num_samples=3"], ["num_samples does not go with it"]),
        (["--search_alg=grid"], ["learning_rate are drawn from a range"]),
        (["--scheduler=pbt"], ["n_layers cannot change then"]),
        (["--scheduler=ahsa"], ["option scheduler is ahsa", "Did you mean 'asha'?"]),
        (["--search_alg=optuna"], ["random, grid or hyperopt"]),
        (["--num_samples=0", "--time_budget_s=0", "--cpus_per_trial=0"], ["3 mistakes"]),
        (["--gpus_per_trial=1.5"], ["a part of one GPU"]),
        (["--address=auto", "--dashboard=True"], ["dashboard does not go with address"]),
        (["--gpu_id=1"], ["Set CUDA_VISIBLE_DEVICES"]),
        (["--evaluate=x"], ["--evaluate does not go with a search"]),
        (["--num_sample=3"], ["unknown option num_sample", "num_samples"]),
        (["--stage=index"], ["Leave stage out"]),
    ],
)
def test_what_does_not_go_together_is_refused(argv: list[str], parts: list[str]) -> None:
    message = mistakes_of(*BASE, "--tune", *argv)
    for part in parts:
        assert part in message


def test_conditions_go_with_random_and_grid_but_not_with_pbt(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "train_batch_size: {choice: [16, 32]}\nmask_ratio: {choice: [0.1], when: {train_batch_size: 16}}\n"
    )
    for argv in (["--search_alg=random"], ["--search_alg=grid", "--scheduler=fifo"]):
        assert cli.parse([*BASE, f"--tune={path}", *argv]).search is not None
    assert "does not go with conditions" in mistakes_of(*BASE, f"--tune={path}", "--scheduler=pbt")


def test_mistakes_of_command_settings_and_space_come_together(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("lerning_rate: {choice: [1]}\n")
    message = mistakes_of("--model=SASREC", "--dataset=none", f"--tune={path}", "--scheduler=x", "--epochs=many")
    for part in ("Did you mean 'SASRec'?", "none.inter", "lerning_rate", "option scheduler is x", "epochs is many"):
        assert part in message


def test_options_of_a_search_need_a_search() -> None:
    assert "no effect without --tune" in mistakes_of(*BASE, "--num_samples=3")


def test_a_resume_takes_options_of_the_search_only(tmp_path: Path) -> None:
    assert "search.json does not exist" in mistakes_of(f"--resume_tune={tmp_path}")
    (tmp_path / "search.json").write_text("{}")
    assert "--epochs cannot go with --resume_tune" in mistakes_of(f"--resume_tune={tmp_path}", "--epochs=3")
    assert cli.parse([f"--resume_tune={tmp_path}", "--time_budget_s=60"]).search is not None


def test_a_search_without_a_budget_tries_ten() -> None:
    assert read_settings({}).samples == 10
    assert read_settings({"time_budget_s": 60.0}).samples == 1000
    assert read_settings({"time_budget_s": 60.0, "scheduler": "pbt"}).samples == 10
    assert read_settings({"num_samples": 7, "time_budget_s": 60.0}).samples == 7


def test_checks_and_plain_runs_import_neither_ray_nor_torch() -> None:
    code = (
        "import sys; from recbole_lcrec.cli import main as cli;"
        f"cli.parse({[*BASE, '--tune']}); cli.parse({BASE});"
        "print([m for m in ('torch', 'recbole', 'ray', 'sklearn', 'plotly') if m in sys.modules]);"
        "import recbole_lcrec.experiment; print('ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"], done.stderr


def test_cpus_respect_the_quota_of_a_control_group(tmp_path: Path) -> None:
    folder = tmp_path / "sys" / "fs" / "cgroup"
    folder.mkdir(parents=True)
    everything = available_cpus(tmp_path)
    (folder / "cpu.max").write_text("100000 100000\n")
    assert available_cpus(tmp_path) == 1
    (folder / "cpu.max").write_text("max 100000\n")
    assert available_cpus(tmp_path) == everything
    (folder / "cpu.max").unlink()
    (folder / "cpu").mkdir()
    (folder / "cpu" / "cpu.cfs_quota_us").write_text("50000")
    (folder / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert available_cpus(tmp_path) == 1
