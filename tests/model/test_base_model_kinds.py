"""What is no causal language model is refused in one message, before data are read; adapters are merged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from fakes import TINY, make_tokenizer, save_checkpoint, write_dataset
from t5_helpers import save_t5

from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.embedding import huggingface as encoder
from recbole_lcrec.experiment import checks, load_experiment, run
from recbole_lcrec.experiment.checks import check_models
from recbole_lcrec.usertext.huggingface import Author
from recbole_lcrec.utils.causal_lm import causal_tokenizer, check_causal, load_causal_lm
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.hub import load_weights

SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
ENDS = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}


def saved(folder: Path, model: Any) -> Path:
    model.save_pretrained(folder)
    make_tokenizer("gpt2").save_pretrained(folder)
    return folder


def size() -> int:
    return len(make_tokenizer("gpt2"))


def bert(folder: Path, **changes: Any) -> Path:
    return saved(folder, hf.BertForMaskedLM(hf.BertConfig(vocab_size=size(), **SHAPE, **changes)))


def bart(folder: Path) -> Path:
    config = hf.BartConfig(
        vocab_size=size(), d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, **ENDS, decoder_start_token_id=0,
    )  # fmt: skip
    return saved(folder, hf.BartForConditionalGeneration(config))


def vision(folder: Path) -> Path:
    return saved(folder, hf.ViTModel(hf.ViTConfig(**SHAPE, image_size=32, patch_size=16)))


def headless(folder: Path) -> Path:
    return saved(folder, hf.LlamaModel(hf.LlamaConfig(vocab_size=size(), **SHAPE, **ENDS)))


def xlstm(folder: Path) -> Path:
    config = hf.xLSTMConfig(vocab_size=size(), hidden_size=32, num_heads=4, num_hidden_layers=1, **ENDS)
    return saved(folder, hf.xLSTMForCausalLM(config))


def broken(change: Callable[[Path], None]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        save_checkpoint(folder, "llama")
        change(folder)
        return folder

    return make


def not_finite(folder: Path) -> None:
    lm = hf.LlamaForCausalLM.from_pretrained(folder)
    lm.model.norm.weight.data[0] = torch.nan
    lm.save_pretrained(folder)


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without(pattern: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for path in folder.glob(pattern):
            path.unlink()

    return change


def no_end_token(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "eos_token": None}))


def pickled(folder: Path, marker: Path | None = None) -> None:
    class Code:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {marker}",)

    weights = hf.LlamaForCausalLM.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save({**weights, **({"code": Code()} if marker else {})}, folder / "pytorch_model.bin")


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "bert": (bert, "BertLMHeadModel attends to later tokens"),
    "encoder without a head": (headless, "lack 1 of the tensors .* lm_head.weight, which would be random"),
    "t5": (save_t5, "an encoder-decoder of type 't5'. P5CID takes T5"),
    "bart": (bart, "an encoder-decoder of type 'bart'"),
    "vision": (vision, "found a model of type 'vit'"),
    "xlstm": (xlstm, "vocabulary of xLSTMForCausalLM cannot be extended"),
    "nan": (broken(not_finite), "its logits are NaN or infinite"),
    "cut short": (broken(cut_short), "no model can be loaded from it by AutoModelForCausalLM"),
    "no weights": (broken(without("*.safetensors")), "no model can be loaded .* no file named model.safetensors"),
    "no tokenizer": (broken(without("tokenizer*")), "no model can be loaded from it by AutoTokenizer"),
    "no config": (broken(without("config.json")), "no model can be loaded from it by AutoConfig"),
    "broken config": (broken(lambda folder: (folder / "config.json").write_text("{")), "not a valid JSON"),
    "config is a list": (broken(lambda folder: (folder / "config.json").write_text("[1]")), "no model can be loaded"),
    "no end token": (broken(no_end_token), "no end token"),
    "short": (broken(lambda folder: None), " takes at most 504 tokens"),
}


def config(tmp_path: Path, model: str = "LCRec", **options: Any) -> LCRecConfig:
    data = {"data_path": str(write_dataset(tmp_path)), "cache_dir": str(tmp_path / "cache")}
    return LCRecConfig(model, "toy", config_dict={**TINY, "max_length": 256, **data, **options})


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_will_not_do_is_refused_before_data_are_read(case: str, tmp_path: Path) -> None:
    make, message = REFUSED[case]
    length = {"max_length": 9999} if case == "short" else {}
    with pytest.raises(UserError, match=f"(?s)base_model=.*{message}"):
        check_models(config(tmp_path, base_model=str(make(tmp_path / "bm")), **length))


def test_a_decoder_of_a_kind_that_is_mostly_an_encoder_passes(tmp_path: Path) -> None:
    lm = load_causal_lm(str(bert(tmp_path / "bm", is_decoder=True)), "base_model=bm")
    assert lm.config.is_decoder and not lm.training


@pytest.mark.parametrize("tied", [True, False])
def test_heads_may_be_tied_or_not(tied: bool, tmp_path: Path) -> None:
    llama = hf.LlamaForCausalLM(hf.LlamaConfig(vocab_size=size(), **SHAPE, **ENDS, tie_word_embeddings=tied))
    lm = load_causal_lm(str(saved(tmp_path / "bm", llama)), "base_model=bm")
    assert (lm.lm_head.weight is lm.model.embed_tokens.weight) == tied
    assert torch.equal(lm.lm_head.weight, llama.lm_head.weight)


def test_causality_is_seen_in_a_model_that_was_just_initialised() -> None:
    shape = {"vocab_size": 50, **SHAPE, "initializer_range": 0.005}
    with pytest.raises(UserError, match="attends to later tokens"):
        check_causal(hf.BertLMHeadModel(hf.BertConfig(**shape)).eval(), "base_model=bm")
    check_causal(hf.LlamaForCausalLM(hf.LlamaConfig(**shape)).eval(), "base_model=bm")


def adapter(folder: Path, base: str, **changes: Any) -> Path:
    from peft import LoraConfig, get_peft_model

    lm = hf.LlamaForCausalLM.from_pretrained(folder.parent / "base")
    options: dict[str, Any] = {"r": 4, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM", **changes}
    wrapped = get_peft_model(lm, LoraConfig(**options, init_lora_weights=False))
    wrapped.save_pretrained(folder)
    values = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**values, "base_model_name_or_path": base}))
    return folder


@pytest.mark.parametrize("named", ["absolute", "beside"])
def test_an_adapter_is_merged_into_its_base(named: str, tmp_path: Path) -> None:
    base = save_checkpoint(tmp_path / "base", "llama")
    folder = adapter(tmp_path / "adapter", str(base) if named == "absolute" else "base")
    lm = load_causal_lm(str(folder), "base_model=adapter")
    before = hf.LlamaForCausalLM.from_pretrained(base)
    assert not torch.equal(lm.model.layers[0].self_attn.q_proj.weight, before.model.layers[0].self_attn.q_proj.weight)
    assert torch.equal(lm.model.layers[0].mlp.up_proj.weight, before.model.layers[0].mlp.up_proj.weight)
    assert not hasattr(lm, "peft_config") or not any("lora" in name for name, _ in lm.named_parameters())
    assert all(weight.requires_grad for weight in lm.parameters()), "tuned in full like any other"
    assert len(causal_tokenizer(str(folder), "base_model=adapter")) == len(make_tokenizer("llama"))


@pytest.mark.parametrize("case", ["no base", "loop", "other task", "other shape", "broken", "encoder", "P5CID"])
def test_adapters_that_cannot_be_merged_are_refused(case: str, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "base", "llama")
    task = {"task_type": "SEQ_CLS"} if case == "other task" else {}
    folder = adapter(tmp_path / "adapter", str(tmp_path / "base"), **task)
    path = folder / "adapter_config.json"
    values = json.loads(path.read_text())
    message = "adapter of .*merge_and_unload"
    if case == "no base":
        path.write_text(json.dumps({**values, "base_model_name_or_path": "no/where/at/all"}))
    elif case == "loop":
        path.write_text(json.dumps({**values, "base_model_name_or_path": str(folder)}))
    elif case == "other shape":
        path.write_text(json.dumps({**values, "r": 8}))
    elif case == "broken":
        path.write_text("{")
        message = "adapter_config.json cannot be read"
    with pytest.raises(UserError, match=f"(?s){folder}: .*{message}"):
        if case == "encoder":
            encoder.embed(["a"], str(folder), max_length=8, batch_size=1, device="cpu", show_progress=False)
        elif case == "P5CID":
            check_models(config(tmp_path, "P5CID", base_model=str(folder)))
        else:
            load_causal_lm(str(folder), f"base_model={folder}")


def test_pickled_weights_are_read_as_tensors_only(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "bm", "llama")
    whole = load_causal_lm(str(folder), "base_model=bm").state_dict()
    pickled(folder)
    same = load_causal_lm(str(folder), "base_model=bm").state_dict()
    assert all(torch.equal(whole[name], same[name]) for name in whole)
    bad = save_checkpoint(tmp_path / "bad", "llama")
    pickled(bad, tmp_path / "PWNED")
    with pytest.raises(UserError, match=r"base_model=bad: its weights are pickled .*save_pretrained"):
        load_causal_lm(str(bad), "base_model=bad")
    assert not (tmp_path / "PWNED").exists()


def with_code(folder: Path, marker: Path) -> Path:
    """Save a model of an unknown kind that brings the code for it along."""
    save_checkpoint(folder, "gpt2")
    (folder / "evil.py").write_text(
        f"open({str(marker)!r}, 'w').close()\nfrom transformers import GPT2Config as C, GPT2LMHeadModel as M\n"
        "from transformers import PreTrainedTokenizerFast as T\n"
    )
    for name, changes in {
        "config.json": {"model_type": "evil", "auto_map": {
            "AutoConfig": "evil.C", "AutoModel": "evil.M", "AutoModelForCausalLM": "evil.M",
            "AutoModelForSeq2SeqLM": "evil.M"}},
        "tokenizer_config.json": {"tokenizer_class": "T", "auto_map": {"AutoTokenizer": [None, "evil.T"]}},
    }.items():  # fmt: skip
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def test_code_that_a_model_brings_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "RAN"
    folder = str(with_code(tmp_path / "evil", marker))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("nothing is asked"))
    attempts: list[Callable[[], Any]] = [
        lambda: load_causal_lm(folder, "base_model=evil"),
        lambda: causal_tokenizer(folder, "base_model=evil"),
        lambda: load_weights(hf.AutoModel, folder, "text_encoder=hf:evil"),
        lambda: encoder.embed(["a"], folder, max_length=8, batch_size=1, device="cpu", show_progress=False),
        lambda: Author(folder, "cpu", 8),
        lambda: check_models(config(tmp_path, "P5CID", base_model=folder)),
        lambda: check_models(config(tmp_path, "TALLRec", base_model=folder, task_samples=8)),
        lambda: check_models(config(tmp_path, user_text=f"hf:{folder}")),
    ]
    for attempt in attempts:
        with pytest.raises(UserError, match=r"it brings Python code of its own \(auto_map\), which is never run"):
            attempt()
    assert not marker.exists()


def test_a_saved_runs_code_is_never_run(tmp_path: Path) -> None:
    for model in ("LCRec", "TIGER"):
        out = tmp_path / model
        small = {"epochs": 1, "t5_layers": 1, "train_samples": 16} if model == "TIGER" else {"epochs": 1}
        run(model, "toy", {**TINY, **small, "data_path": str(write_dataset(tmp_path)), "output_dir": str(out),
                           "cache_dir": str(tmp_path / "cache")})  # fmt: skip
        marker = tmp_path / "RAN"
        with_code(tmp_path / "evil", marker)
        for name in ("config.json", "evil.py"):
            shutil.copy(tmp_path / "evil" / name, out / "lm" / name)
        (out / "manifest.json").unlink()  # which would tell that the file has changed
        with pytest.raises(UserError, match=r"/lm: it brings Python code of its own"):
            load_experiment(out)
        assert not marker.exists()


def test_yes_on_the_terminal_runs_no_code(tmp_path: Path) -> None:
    marker = tmp_path / "RAN"
    folder = with_code(tmp_path / "evil", marker)
    program = (
        "import sys; from recbole_lcrec.utils.causal_lm import load_causal_lm\n"
        "from recbole_lcrec.utils.errors import UserError\n"
        "try: load_causal_lm(sys.argv[1], 'base_model=evil')\n"
        "except UserError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], input="y\n" * 50, capture_output=True, text=True, timeout=300
    )
    assert "which is never run" in done.stdout and "[y/N]" not in done.stdout + done.stderr
    assert done.returncode == 0 and not marker.exists()


def test_a_saved_architecture_is_bounded_by_memory(tmp_path: Path) -> None:
    from recbole_lcrec.utils.hub import saved_architecture

    save_checkpoint(tmp_path / "lm", "llama")
    path = tmp_path / "lm" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "vocab_size": 10**10}))
    with pytest.raises(UserError, match=r"lm: a model of .* parameters takes .* GiB"):
        saved_architecture(hf.AutoModelForCausalLM, tmp_path)


def test_what_has_passed_is_not_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recbole_lcrec.model.lcrec import LCRec

    calls: list[str] = []
    monkeypatch.setattr(checks, "_passed", set())
    monkeypatch.setattr(LCRec, "check_models", classmethod(lambda cls, config: calls.append(config["base_model"])))
    first, second = (str(save_checkpoint(tmp_path / name, "llama")) for name in ("a", "b"))
    for base in (first, first, second, first):
        check_models(config(tmp_path, base_model=base))
    assert calls == [first, second]


@pytest.mark.parametrize("kind", ["mamba", "hybrid"])
def test_models_with_a_state_train_and_are_evaluated_again(kind: str, tmp_path: Path) -> None:
    mixer = {"mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}
    shape = {"vocab_size": size(), **SHAPE, "num_key_value_heads": 2, "mamba_chunk_size": 16}
    lm: Any = hf.FalconH1ForCausalLM(hf.FalconH1Config(**shape, **mixer, **ENDS))
    if kind == "mamba":
        small = {"vocab_size": size(), "hidden_size": 16, "num_hidden_layers": 1, "state_size": 4}
        lm = hf.MambaForCausalLM(hf.MambaConfig(**small, **ENDS))
    base = saved(tmp_path / "base", lm)
    data = {"data_path": str(write_dataset(tmp_path, users=8)), "cache_dir": str(tmp_path / "cache")}
    options = {"base_model": str(base), "max_length": 200, "tasks": ["seqrec"], "task_samples": 16, "epochs": 1}
    result = run("LCRec", "toy", {**TINY, **data, **options, "output_dir": str(tmp_path / "out")})
    assert load_experiment(tmp_path / "out").evaluate("test") == result["test_result"]
