import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recbole_lcrec import experiment
from recbole_lcrec.cli import main as cli
from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.config.loader import dump_values, load_values
from recbole_lcrec.config.names import known_models
from recbole_lcrec.config.overview import help_text
from recbole_lcrec.config.paths import recbole_dir
from recbole_lcrec.config.recbole_options import INSTEAD
from recbole_lcrec.experiment import building
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.program import CALLED_AS, program

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, timeout=120)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any, dict[str, Any]]]:
    """Note what a command is handed over as; nothing is trained."""
    made: list[tuple[str, Any, dict[str, Any]]] = []
    monkeypatch.setattr(experiment, "run", lambda **options: made.append(("run", None, options)))
    monkeypatch.setattr(experiment, "evaluate", lambda run_dir, **options: made.append(("evaluate", run_dir, options)))
    return made


def test_a_command_is_handed_over_with_checked_values(calls: list[Any], tmp_path: Path) -> None:
    files = [tmp_path / "a.yaml", tmp_path / "b c.yaml"]
    for path in files:
        path.write_text("seed: 1\n")
    argv = [
        "--model=SASRec",
        "--dataset=ml-100k",
        f"--config_files={files[0]} '{files[1]}'",
        "--gpu_id=0",
        "--topk=[5]",
    ]
    assert cli.main(argv) == 0
    expected = {
        "model": "SASRec",
        "dataset": "ml-100k",
        "config_files": [str(path) for path in files],
        "cli": {"gpu_id": "0", "topk": [5]},
    }
    assert calls == [("run", None, expected)]


@pytest.mark.parametrize(
    "written",
    ["[{0}, {1}]", "['{0}', \"{1}\"]", "'{0}' \"{1}\"", "{0}", '"{0}"', "[{0}]"],
)
def test_paths_of_config_files_may_have_blanks(calls: list[Any], tmp_path: Path, written: str) -> None:
    (tmp_path / "my runs").mkdir()
    files = [tmp_path / "my runs" / name for name in ("best of all.yaml", "b.yaml")]
    files[0].write_text("model: Pop\ndataset: ml-100k\n")
    files[1].write_text("seed: 1\n")
    assert cli.main([f"--config_files={written.format(*files)}"]) == 0
    assert calls[0][2]["config_files"] == [str(path) for path in files[: 2 if "{1}" in written else 1]]


def test_a_list_of_something_else_than_paths_is_refused(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["--model=Pop", "--dataset=ml-100k", "--config_files=[1, {a: b}]"]) == 2
    assert "option config_files is [1, {a: b}]; expected a list of paths" in capsys.readouterr().err


def test_model_and_dataset_may_come_from_a_file(calls: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("model: Pop\ndataset: ml-100k\n")
    assert cli.main([f"--config_files={path}", "--model=BPR"]) == 0
    assert (calls[0][2]["model"], calls[0][2]["dataset"]) == ("BPR", "ml-100k")


def test_evaluate_takes_a_run(calls: list[Any], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    assert cli.main([f"--evaluate={tmp_path}", "--eval_batch_size=8"]) == 0
    assert calls == [("evaluate", tmp_path, {"cli": {"eval_batch_size": 8}})]


@pytest.mark.parametrize(
    ("argv", "messages"),
    [
        ([], ["--model=NAME and --dataset=NAME missing", "usage: python -m recbole_lcrec --model"]),
        (["--model=SASRec"], ["--dataset=NAME missing"]),
        (["--model=SASREC", "--dataset=ml-100k"], ["Did you mean 'SASRec'?"]),
        (["--model=SASRec", "--dataset=ml-100"], ["ml-100.inter not found", "Did you mean 'ml-100k'?"]),
        (["--model=SASRec", "--dataset=ml-100k", "--epochs=many"], ["option epochs is many (str); expected a whole"]),
        (["--model=SASRec", "--dataset=ml-100k", "--epoch=1", "x"], ["2 mistakes", "unknown option epoch", "'x'"]),
        (["--model=SASRec", "--dataset=ml-100k", "--config_files=none.yaml"], ["none.yaml does not exist"]),
        (["--model=SASRec", "--dataset=ml-100k", "--config_files='a"], ["option config_files is 'a"]),
        (["--evaluate=none"], ["not the folder of a finished run"]),
        (["--evaluate=none", "--model=Pop"], ["--model cannot go with --evaluate"]),
    ],
)
def test_mistakes_end_with_status_2_and_one_message(
    calls: list[Any], capsys: pytest.CaptureFixture[str], argv: list[str], messages: list[str]
) -> None:
    assert cli.main(argv) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert "Traceback" not in printed.err
    for message in messages:
        assert message in printed.err
    assert calls == []


@pytest.mark.parametrize(("error", "status"), [(UserError("too few items"), 2), (KeyboardInterrupt(), 130)])
def test_what_ends_a_run(
    calls: list[Any], monkeypatch: Any, capsys: pytest.CaptureFixture[str], error: BaseException, status: int
) -> None:
    def fail(command: cli.Command) -> None:
        raise error

    monkeypatch.setattr(cli, "start", fail)
    assert cli.main(["--model=Pop", "--dataset=ml-100k"]) == status
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_commands_are_read_before_torch_is_imported() -> None:
    code = (
        "import sys; from recbole_lcrec.cli.main import main, parse;"
        "parse(['--model=SASRec', '--dataset=ml-100k', '--epochs=3']);"
        "parse(['--model=SASRec,LCRec(lm_heads=3)', '--dataset=ml-100k']);"
        "assert main(['--model=LCRek', '--dataset=nowhere', '--epochs=many']) == 2;"
        "sys.stdout = sys.stderr; assert main(['--help']) == 0; sys.stdout = sys.__stdout__;"
        "print([m for m in ('torch', 'recbole', 'ray', 'transformers') if m in sys.modules])"
    )
    done = run("-c", code)
    assert done.stdout.strip() == "[]", done.stderr


def test_help_fits_a_screen() -> None:
    script = run("run_recbole_lcrec.py", "--help")
    assert script.returncode == 0 and script.stderr == ""
    lines = script.stdout.splitlines()
    assert len(lines) <= 45 and max(map(len, lines)) <= 100
    assert lines[0].startswith("usage: python run_recbole_lcrec.py --model=NAME")


@pytest.mark.parametrize(
    ("topic", "parts"),
    [
        ("models", ["LCRec", "SASRec", "rqvae", "lsa"]),
        ("datasets", ["ml-100k", "Games", "amazon-books"]),
        ("options", ["--topk='[1, 5, 10]'", "or None)", "--num_beams=20", "Options of TIGER:"]),
        ("LCRec", ["--model=LCRec --dataset=NAME", "--base_model=None", "--num_beams=20", "--quantizer=rqvae"]),
        ("LIGER", ["--tasks=", "--item_loss_weight=1.0"]),
        ("SASRec", ["--n_layers=2", "(int in [1, 1024]) The number of attention layers."]),
        ("Pop", ["Pop has no options other than those of every run"]),
        ("compare", ["--ablation=index|tasks", "--cpus_per_run=None"]),
        ("tune", ["--resume_tune=SEARCH_DIR", "--num_samples="]),
        ("recommend", ["--histories=FILE", "--users=all --topk=10 --output=films.csv", "--unknown="]),
        ("serve", ["--serve=RUN_DIR", """-d '{"histories": [["50", "89"]], "k": 3}'\n""", "--serve_port=8000"]),
        ("export", ["--export_lora=merged|beside", "\npython films/recommend.py 50 89\n"]),
        ("resume", ["--resume=RUN_DIR", "--keep_last=2"]),
        ("evaluate", ["--evaluate=RUN_DIR", "eval_batch_size"]),
        ("processes", ["torchrun", "--parallel=ddp"]),
        ("logger", ["--logger=tensorboard", "--wandb_project="]),
        ("topk", ["--topk='[1, 5, 10]'"]),
    ],
)
def test_topics_of_the_help(topic: str, parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([f"--help={topic}"]) == 0
    shown = capsys.readouterr().out
    assert [part for part in parts if part not in shown] == []
    assert topic not in ("recommend", "serve", "export") or max(map(len, shown.splitlines())) <= 100


def test_every_model_is_a_topic() -> None:
    assert [name for name in known_models() if f"--model={name} --dataset" not in help_text(name)] == []


def test_a_wrong_topic_names_the_topics(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help=modles"]) == 2
    told = capsys.readouterr().err
    assert "unknown topic. Did you mean 'models'? Topics: models, datasets, options, compare" in told


@pytest.mark.parametrize(
    ("called", "expected"),
    [
        ("/opt/env/bin/recbole-lcrec", "recbole-lcrec"),
        ("run_recbole_lcrec.py", "python run_recbole_lcrec.py"),
        ("/my code/run_recbole_lcrec.py", "python '/my code/run_recbole_lcrec.py'"),
        ("/src/recbole_lcrec/__main__.py", "python -m recbole_lcrec"),
        ("-c", "python -m recbole_lcrec"),
    ],
)
def test_commands_are_printed_as_the_program_was_called(
    called: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    assert program() == expected
    monkeypatch.setenv(CALLED_AS, "recbole-lcrec")
    assert program() == "recbole-lcrec", "a process that another one started prints the other's command"


def test_the_script_runs_from_any_folder(tmp_path: Path) -> None:
    done = run(str(ROOT / "run_recbole_lcrec.py"), "--model=SASRec", "--dataset=none", cwd=tmp_path)
    assert done.returncode == 2
    assert str(tmp_path / "dataset" / "none" / "none.inter") in done.stderr
    assert list(tmp_path.iterdir()) == []


def shell(command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    script = f"'{sys.executable}' '{ROOT / 'run_recbole_lcrec.py'}'"
    return subprocess.run(
        ["bash", "-c", command.format(run=script)], capture_output=True, text=True, cwd=cwd, timeout=120
    )


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ("{run} --help 2>&1 >&-", 0, ""),
        ("{run} --help 2>&1 >/dev/full", 2, "error: standard output cannot be written: No space left on device."),
        ("set -o pipefail; {run} --help | head -1 >/dev/null", 0, ""),
        ("mkdir gone; cd gone; rmdir ../gone; {run} --model=Pop --dataset=x 2>&1", 2, "does not exist any more"),
        ("{run} --model=Pop --dataset=$'d\\xe9' 2>&1", 2, "which is not text in UTF-8"),
        ("LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 {run} --model=é --dataset=x 2>&1", 2, "error: "),
        ("{run} --model=Pop --dataset=$'a\\x1b[31m' 2>&1", 2, r"unknown data set a\x1b[31m"),
    ],
)
def test_no_terminal_ends_in_a_traceback(command: str, status: int, message: str, tmp_path: Path) -> None:
    done = shell(command, tmp_path)
    assert done.returncode == status, done.stdout + done.stderr
    assert message in done.stdout
    assert "Traceback" not in done.stdout + done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--epochs=-5"], "option epochs is -5; expected a whole number from 0 to 1,000,000"),
        (["--epochs=1:30"], "option epochs is 1:30 (str); expected a whole number"),
        (["--topk=[1000000]"], "entry 1 is 1000000; expected a list of whole numbers from 1 to 10,000"),
        (["--codebook_size=1e9"], "option codebook_size is 1e9"),
        (["--use_gpu=on"], "option use_gpu is on (str); expected True or False"),
        (["--config_file=a.yaml"], "option config_file cannot be set: use config_files"),
        (["--save_dataset=True"], "option save_dataset cannot be set"),
        (["--neg_sampling={uniform: 1}"], "option neg_sampling cannot be set: use train_neg_sample_args"),
        (["--min_user_inter_num=5"], "cannot be set: use user_inter_num_interval"),
        (["--learning_rate=.nan"], "which is not a finite number"),
        (["--dataset=" + "x" * 300], "a name of 300 bytes; file systems allow 255"),
        (["--evaluate=" + "x" * 300], "a name of 300 bytes"),
    ],
)
def test_values_are_refused(
    calls: list[Any], capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    given = {"--model": "SASRec", "--dataset": "ml-100k"} if not argv[0].startswith("--evaluate") else {}
    given |= dict(argument.split("=", 1) for argument in argv)
    assert cli.main([f"{name}={value}" for name, value in given.items()]) == 2
    assert message in capsys.readouterr().err
    assert calls == []


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("n_heads", 3, "option n_heads is 3, which does not divide hidden_size=64"),
        ("loss_type", "BCE", "option loss_type is BCE; SASRec takes CE or BPR"),
        ("USER_ID_FIELD", "item_id", "options USER_ID_FIELD, ITEM_ID_FIELD are all item_id"),
        ("encoding", "klingon", "option encoding is klingon"),
        ("eval_args", {"mode": "uni"}, "mode is uni; expected full, uniN"),
        ("train_neg_sample_args", {"sample_num": 0}, "sample_num is 0; expected a whole number from 1"),
    ],
)
def test_values_that_do_not_go_with_others_are_refused(option: str, value: Any, message: str) -> None:
    with pytest.raises(UserError) as raised:
        LCRecConfig("SASRec", "ml-100k", cli={option: value})
    assert message in str(raised.value) and len(raised.value.mistakes) == 1


FOUR = ("lr_scheduler=linear", "lm_heads=3", "precision=fp61", "task_samples={itemsearch: 0}")
TOLD = (
    "option lr_scheduler is linear; expected constant or cosine",
    "option precision is fp61; expected fp32, bf16, bf16_weights, fp16 or auto",
    "lm_heads=3: expected a number whose double divides lm_hidden_size=",
    "To switch a task off, leave it out of tasks.",
)


def saved_run(folder: Path) -> Path:
    """Write what ``--evaluate`` looks for in the folder of a run."""
    (folder / "config.yaml").write_text(dump_values(LCRecConfig("LCRec", "ml-100k").resolved()))
    return folder


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--model=LCRec", "--nproc=2", *(f"--{one}" for one in FOUR)], ("4 mistakes", *TOLD)),
        (["--model=LCRec({0}),LCRec({1}) as B,LCRec({3}) as C".format(*FOUR), f"--{FOUR[2]}"], ("B: lm_heads", *TOLD)),
        (["--model=LCRec", "--tune={space}", f"--{FOUR[2]}", f"--{FOUR[3]}"], ("line 1: option lr_sch", *TOLD[1:])),
        (["--ablation=tasks", *(f"--{one}" for one in FOUR)], TOLD),
        (
            ["--evaluate={run}", "--precision=fp61", "--num_beams=3", "--lm_heads=3"],
            ("num_beams is 3", TOLD[1], "--lm_heads cannot go"),
        ),
    ],
    ids=["run", "comparison", "search", "ablation", "saved run"],
)
def test_one_answer_tells_all_mistakes(
    argv: list[str], told: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(building, "build_data", lambda *_: pytest.fail("data are read"))
    space = tmp_path / "space.yaml"
    space.write_text("lr_scheduler: {choice: [linear, quadratic]}\nlm_heads: {choice: [3, 4]}\n")
    argv = [one.format(space=space, run=saved_run(tmp_path)) if "={" in one[:12] else one for one in argv]
    dataset = [] if argv[0].startswith("--evaluate") else ["--dataset=ml-100k"]
    assert cli.main([*argv, *dataset]) == 2
    error = capsys.readouterr().err
    for part in told:
        assert part in error, error
    assert len(set(error.splitlines())) == len(error.splitlines()), "each once"


def test_options_that_a_saved_run_has_grown_up_with_are_refused(
    calls: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recbole = load_values(recbole_dir() / "properties" / "overall.yaml")
    saved = {name: value for name, value in recbole.items() if name not in INSTEAD}
    saved |= {"model": "LCRec", "dataset": "toy", "codebook_size": 8}
    (tmp_path / "config.yaml").write_text(dump_values(saved))
    assert cli.main([f"--evaluate={tmp_path}", "--codebook_size=9"]) == 2
    assert "--codebook_size cannot go with a saved run: it was trained with codebook_size=8" in capsys.readouterr().err
    assert cli.main([f"--evaluate={tmp_path}", "--codebook_size=8", "--topk=[5]"]) == 0
