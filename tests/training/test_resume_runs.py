"""A run that was killed and resumed ends as the uninterrupted one: metrics, weights and counters to the last bit."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from fakes import TINY, save_checkpoint, write_dataset
from killing import after, in_child, kill
from recbole.trainer import Trainer

from recbole_lcrec.cli.main import main
from recbole_lcrec.experiment.resuming import keep_states, resume
from recbole_lcrec.training import course as course_module
from recbole_lcrec.training import states
from recbole_lcrec.training.course import Course
from recbole_lcrec.training.preference_stage import PreferenceTrainer
from recbole_lcrec.training.trainer import FeatureTrainer
from recbole_lcrec.training.trees import TreeFeatures
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.run_files import FACTS

pytest_plugins = ["single_thread"]
RPG = {"rpg_hidden_size": 16, "rpg_layers": 1, "rpg_heads": 2, "rpg_intermediate_size": 16, "rpg_dropout": 0.5}
OPTIONS = {**TINY, **RPG, "epochs": 4, "stopping_step": 2, "learning_rate": 0.01, "train_batch_size": 32}
WHOLE: dict[str, tuple[Path, dict[str, Any]]] = {}
"""Folder and result of the uninterrupted run of each model."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the data set, and options that make LCRec's tasks small."""
    folder = tmp_path_factory.mktemp("resume")
    write_dataset(folder)
    return folder


def arguments(folder: Path, model: str, name: str, **changes: Any) -> list[str]:
    averaged = {"ema_decay": 0.9 if model == "LCRec" else 0.0}  # both ways go on
    values = {**OPTIONS, **averaged, "data_path": str(folder), "cache_dir": str(folder / "cache"), **changes}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return [f"--model={model}", "--dataset=toy", f"--config_files={path}", f"--output_dir={folder / name}"]


def uninterrupted(folder: Path, model: str) -> tuple[Path, dict[str, Any]]:
    if model not in WHOLE:
        assert main(arguments(folder, model, f"whole-{model}")) == 0
        out = folder / f"whole-{model}"
        assert not (out / "resume").exists(), "training states go when the run is finished"
        WHOLE[model] = out, json.loads((out / "result.json").read_text())
    return WHOLE[model]


def assert_same_end(folder: Path, model: str, out: Path) -> None:
    whole, expected = uninterrupted(folder, model)
    found = json.loads((out / "result.json").read_text())
    differing = {"seconds", "evaluated_users_per_second", "memory"}
    for result in (found, expected):
        for point in result["learning_curve"]:
            point.pop("seconds", None)
    if model in ("LCRec", "LoRA", "RPG", "LETTER") or model.startswith(
        "preferences"
    ):  # the folder of the index in the cache, and seconds
        assert found["index"]["collision_rate_before"] == expected["index"]["collision_rate_before"]
        differing.add("index")
    assert {k: v for k, v in found.items() if k not in differing} == {
        k: v for k, v in expected.items() if k not in differing
    }
    weights = [(path / "checkpoint" / "model.safetensors").read_bytes() for path in (out, whole)]
    assert weights[0] == weights[1], "the best weights are not the same"
    assert not (out / "resume").exists() and not list(out.glob(".*")), sorted(out.iterdir())


def cut(folder: Path, model: str, name: str, prepare: Callable[[], None], **changes: Any) -> Path:
    """Run a model in a child that ``prepare`` has killed at some point; return the output folder."""

    def action() -> int:
        prepare()
        return main(arguments(folder, model, name, **changes))

    log = folder / f"{name}.log"
    assert in_child(action, log) == -signal.SIGKILL, log.read_text()
    assert not (folder / name / "result.json").exists()
    return folder / name


@pytest.mark.parametrize("model", ["SASRec", "BPR", "GRU4Rec", "RecVAE", "MultiVAE", "LCRec", "SASRecText", "RPG"])
def test_killed_within_an_epoch(folder: Path, model: str) -> None:
    steps = {"MultiVAE": 3, "LCRec": 5, "RPG": 3}.get(model, 14)
    every = 1 if model == "RPG" else 3
    out = cut(folder, model, f"cut-{model}", lambda: after(steps, Course, "add", kill), checkpoint_every_n_steps=every)
    found = [path.name for path in sorted((out / "resume").glob("step-*"))]
    assert 1 <= len(found) <= 2, "keep_last is 2"
    before = (out / "run.log").read_text()
    assert main([f"--resume={out}"]) == 0
    assert (out / "run.log").read_text().startswith(before), "the log goes on"
    assert "Training state of epoch" in (out / "run.log").read_text()
    assert_same_end(folder, model, out)


def test_an_adapter_goes_on_too(folder: Path) -> None:
    base = save_checkpoint(folder / "base", "llama")
    given = {"base_model": str(base), "tuning": "lora", "max_length": 400, "epochs": 2, "lora_dropout": 0.1}
    given |= {"gradient_accumulation_steps": 1}
    assert main(arguments(folder, "LCRec", "whole-LoRA", **given)) == 0
    out = folder / "whole-LoRA"
    WHOLE["LoRA"] = out, json.loads((out / "result.json").read_text())
    out = cut(
        folder, "LCRec", "adapter", lambda: after(5, Course, "add", kill), checkpoint_every_n_steps=2, **given
    )  # fmt: skip
    assert main([f"--resume={out}"]) == 0
    assert_same_end(folder, "LoRA", out)


def test_codes_aligned_with_another_run_go_on(folder: Path) -> None:
    assert main(arguments(folder, "SASRec", "aligned-with", epochs=1)) == 0
    given = {"quantizer": "letter", "collaborative_from": str(folder / "aligned-with")}
    assert main(arguments(folder, "LCRec", "whole-LETTER", **given)) == 0
    out = folder / "whole-LETTER"
    WHOLE["LETTER"] = out, json.loads((out / "result.json").read_text())
    out = cut(folder, "LCRec", "LETTER", lambda: after(5, Course, "add", kill), checkpoint_every_n_steps=2, **given)
    assert main([f"--resume={out}"]) == 0
    assert_same_end(folder, "LETTER", out)


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_killed_while_it_learns_from_preferences(folder: Path, tuning: str) -> None:
    given = {"epochs": 1, "preference_stage": "dpo", "preference_epochs": 2, "preference_samples": 96}
    given |= {"preference_learning_rate": 0.003, "preference_candidates": 3}
    if tuning == "lora":
        base = save_checkpoint(folder / "preferring", "llama")
        given |= {"base_model": str(base), "tuning": "lora", "max_length": 400, "lora_dropout": 0.1}
        given |= {"gradient_accumulation_steps": 1}
    whole = f"preferences-{tuning}"
    assert main(arguments(folder, "LCRec", f"whole-{whole}", **given)) == 0
    out = folder / f"whole-{whole}"
    result = WHOLE[whole] = out, json.loads((out / "result.json").read_text())
    steps = [len(result[1]["learning_curve"]), result[1]["preferences"]["gained"]]
    assert steps == [3, tuning == "full"], (
        "one ends with a best model that is not the reference, one with the tuned model"
    )
    given |= {"checkpoint_every_n_steps": 1}
    out = cut(
        folder, "LCRec", f"stage-{tuning}", lambda: after(5, PreferenceTrainer, "_preference_loss", kill), **given
    )
    assert "Preferences (dpo): up to 2 epochs" in (out / "run.log").read_text()
    assert main([f"--resume={out}"]) == 0
    assert "Training state of epoch 3, after 1 steps" in (out / "run.log").read_text()
    assert_same_end(folder, whole, out)


def test_killed_in_a_validation_and_again_in_the_test(folder: Path) -> None:
    out = cut(folder, "SASRec", "validation", lambda: after(3, FeatureTrainer, "evaluate", kill))
    log = folder / "again.log"

    def action() -> int:
        after(1, FeatureTrainer, "_full_sort_batch_eval", lambda: None)
        original = FeatureTrainer.evaluate

        def evaluate(self: Any, data: Any, load_best_model: bool = True, **options: Any) -> Any:
            if load_best_model:
                kill()
            return original(self, data, load_best_model=load_best_model, **options)

        FeatureTrainer.evaluate = evaluate  # type: ignore[method-assign]
        return main([f"--resume={out}"])

    assert in_child(action, log) == -signal.SIGKILL, log.read_text()
    assert main([f"--resume={out}"]) == 0
    assert_same_end(folder, "SASRec", out)


@pytest.mark.parametrize("place", ["before the files", "between the renames", "before old states go"])
def test_killed_while_a_state_or_the_best_checkpoint_is_written(folder: Path, place: str) -> None:
    def prepare() -> None:
        import recbole_lcrec.training.checkpoint as checkpoint

        if place == "before the files":
            after(4, checkpoint, "write_manifest", kill)
        elif place == "between the renames":  # of a later best checkpoint: the old one is away, the new one not there
            import os

            original = os.replace

            def replace(source: Any, target: Any) -> None:
                original(source, target)
                if str(target.parent).endswith(".old") and target.name == "checkpoint":
                    kill()

            os.replace = replace
        else:
            after(2, states, "remove", kill)

    out = cut(folder, "SASRec", place.replace(" ", "-"), prepare, checkpoint_every_n_steps=4)
    if place == "between the renames":
        assert not (out / "checkpoint").exists() and list(out.glob(".checkpoint.*.old"))
    assert main([f"--resume={out}"]) == 0
    assert_same_end(folder, "SASRec", out)


def test_damaged_states_are_told_and_the_one_before_is_used(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = cut(
        folder, "BPR", "damaged", lambda: after(14, Course, "add", kill), checkpoint_every_n_steps=3, keep_last=9
    )
    found = sorted((out / "resume").glob("step-*"))
    assert len(found) >= 4
    whole = (found[-1] / "state.pt").read_bytes()
    (found[-1] / "state.pt").write_bytes(whole[: len(whole) // 2])
    flipped = bytearray((found[-2] / "model.safetensors").read_bytes())
    flipped[-1] ^= 1
    (found[-2] / "model.safetensors").write_bytes(bytes(flipped))
    assert main([f"--resume={out}"]) == 0
    log = capsys.readouterr().out
    assert f"{found[-1]} is cut short or damaged (state.pt has {len(whole) // 2} of {len(whole)} bytes)" in log
    assert f"{found[-2]} is cut short or damaged (model.safetensors differs from what was written" in log
    assert str(found[-3]) in log
    assert_same_end(folder, "BPR", out)


def test_a_damaged_best_checkpoint_is_made_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = cut(folder, "BPR", "best", lambda: after(20, Course, "add", kill), keep_last=9)
    (out / "checkpoint" / "model.safetensors").write_bytes(b"cut short")
    assert main([f"--resume={out}"]) == 0
    assert "is not the best checkpoint of epoch" in capsys.readouterr().out
    assert_same_end(folder, "BPR", out)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_training_keeps_the_state_of_that_step(folder: Path, signum: signal.Signals) -> None:
    import os

    name = f"signal-{signum}"

    def action() -> int:
        after(7, FeatureTrainer, "_train_step", lambda: os.kill(os.getpid(), signum) if not asked() else None)
        return main(arguments(folder, "SASRec", name))

    asked = course_module.interruption.asked
    log = folder / f"{name}.log"
    assert in_child(action, log) == 128 + signum, log.read_text()
    out = folder / name
    assert (
        log.read_text()
        .rstrip()
        .endswith(f"stopped by {signum.name}. Go on with: python -m recbole_lcrec --resume={out}")
    )
    assert sorted(path.name for path in (out / "resume").glob("step-*"))[-1] == "step-00000007"
    assert main([f"--resume={out}"]) == 0
    assert_same_end(folder, "SASRec", out)


def test_a_state_from_a_callback_goes_on_too(folder: Path) -> None:
    from recbole_lcrec import build

    given = {**OPTIONS, "data_path": str(folder), "use_gpu": False}
    seen: list[tuple[int, float, dict[str, float]]] = []
    first = build("GRU4Rec", "toy", {**given, "output_dir": str(folder / "callback")})

    def callback(epoch: int, score: float, result: dict[str, float]) -> None:
        seen.append((epoch, score, result))
        if epoch == 1:
            first.trainer.save_state(folder / "state")

    best = first.fit(callback)
    assert [epoch for epoch, _, _ in seen] == list(range(len(seen))) and seen[0][2]["ndcg@10"] == seen[0][1]
    second = build("GRU4Rec", "toy", {**given, "output_dir": str(folder / "callback2")})
    second.trainer.resume_checkpoint(folder / "state")
    again: list[int] = []
    assert second.fit(lambda epoch, score, result: again.append(epoch)) == best
    assert again == [epoch for epoch, _, _ in seen[2:]]
    for name, weight in first.model.state_dict().items():
        assert weight.equal(second.model.state_dict()[name]), name
    first.trainer.save_state(folder / "end")  # all epochs done
    third = build("GRU4Rec", "toy", {**given, "output_dir": str(folder / "callback3"), "epochs": len(seen)})
    third.trainer.resume_checkpoint(folder / "end")
    assert third.fit() == best and not (folder / "callback3" / "checkpoint").exists()
    first.trainer.cur_step = OPTIONS["stopping_step"] + 1  # stopped early
    first.trainer.save_state(folder / "end")
    fourth = build("GRU4Rec", "toy", {**given, "output_dir": str(folder / "callback4"), "epochs": 99})
    fourth.trainer.resume_checkpoint(folder / "end")
    assert fourth.fit() == best and fourth.trainer.course.step == 0


def test_what_cannot_be_resumed_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, expected = uninterrupted(folder, "SASRec")
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    assert main([f"--resume={whole}"]) == 0
    assert f"is finished: {whole / 'result.json'}" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before
    assert resume(whole)["test_result"] == expected["test_result"]
    for argv, words in (
        ([f"--resume={folder}"], "is not the folder of a run"),
        ([f"--resume={whole}", "--epochs=9"], "--epochs cannot go with --resume"),
        ([f"--resume={whole}", "--model=BPR"], "--model cannot go with --resume"),
        ([f"--resume={whole}", f"--evaluate={whole}"], "--evaluate and --resume cannot go together"),
    ):
        assert main(argv) == 2
        assert words in capsys.readouterr().err
    with pytest.raises(UserError, match="learning_rate cannot go"):
        resume(whole, {"learning_rate": 0.1})


def test_changed_data_are_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(tmp_path)
    out = cut(folder, "BPR", "changed", lambda: after(10, Course, "add", kill))
    path = tmp_path / "toy" / "toy.inter"
    lines = path.read_text().splitlines()
    first = lines[1].split("\t")
    lines[1] = "\t".join([first[0], "i29" if first[1] != "i29" else "i28", first[2]])
    path.write_text("\n".join(lines) + "\n")
    assert main([f"--resume={out}", f"--data_path={tmp_path}"]) == 2
    assert "not the one that the run began with" in capsys.readouterr().err
    assert main([f"--resume={out}"]) == 0
    assert_same_end(folder, "BPR", out)


def test_models_with_a_loop_of_their_own_say_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    options = {"model": "XGBoost", "checkpoint_every_n_steps": None, "keep_last": 2, "keep_states": False}
    keep_states(SimpleNamespace(trainer=TreeFeatures, config=options))  # type: ignore[arg-type]
    assert "XGBoost trains in a loop of its own, which keeps no states" in caplog.text


def test_models_whose_state_cannot_be_stored_start_from_the_beginning(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from recbole.model.general_recommender import BPR

    original = BPR.calculate_loss

    def calculate_loss(self: Any, interaction: Any) -> Any:
        self.history = {object(): 1}
        return original(self, interaction)

    def prepare() -> None:
        BPR.calculate_loss = calculate_loss
        after(14, Course, "add", kill)

    out = cut(folder, "BPR", "unstorable", prepare)
    assert "No training state can be kept (attribute '/history' is a object" in (out / "run.log").read_text()
    monkeypatch.setattr(BPR, "calculate_loss", calculate_loss)
    assert main([f"--resume={out}"]) == 0
    assert "it starts from the beginning" in capsys.readouterr().out
    assert_same_end(folder, "BPR", out)


def test_options_of_the_states(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "kept"
    given = arguments(folder, "BPR", "kept", keep_states=True, keep_last=3, checkpoint_every_n_steps=5, epochs=2)
    assert main(given) == 0
    assert len(list((out / "resume").glob("step-*"))) == 3 and (out / "resume" / FACTS).is_file()
    assert main([*arguments(folder, "BPR", "none", keep_last=0, epochs=1, keep_states=True)]) == 0
    assert not list((folder / "none" / "resume").glob("step-*"))
    assert main([*given, "--keep_last=-1"]) == 2
    assert "keep_last is -1; expected a whole number from 0" in capsys.readouterr().err
    assert Trainer.fit is not FeatureTrainer.fit
