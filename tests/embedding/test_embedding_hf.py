"""hf: on small random checkpoints, saved to disk and loaded through the ordinary path."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest

from recbole_lcrec.config.settings import restored
from recbole_lcrec.embedding import EmbeddingSettings, embed_items, huggingface
from recbole_lcrec.utils import hub
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.files import fingerprint

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TEXTS = [
    "red bolt",
    "a much longer text about a green garden hose and more",
    "",
    "bolt",
    "blue hose " * 40,
    "red bolt",
]
ITEMS = list("abcdef")


def save_model(folder: Path, kind: str) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<unk>", "<eos>", "<pad>"]
    tokenizer.train_from_iterator(TEXTS, trainers.WordLevelTrainer(special_tokens=special))
    marks = {"pad_token": "<pad>"} if kind == "bert" else {}  # decoders have no padding token
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<eos>", model_max_length=16, **marks
    )
    torch.manual_seed(0)
    size: dict[str, Any] = {
        "hidden_size": 16,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "vocab_size": len(fast),
    }
    if kind == "bert":
        config = transformers.BertConfig(intermediate_size=32, max_position_embeddings=16, **size)
    elif kind == "llama":
        config = transformers.LlamaConfig(intermediate_size=32, max_position_embeddings=16, **size)
    else:
        config = transformers.T5Config(d_model=16, d_kv=8, d_ff=32, num_heads=2, num_layers=2, vocab_size=len(fast))
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def embed(
    folder: Path | str, cache: Path, texts: list[str] = TEXTS, batch_size: int = 2, length: int = 12
) -> np.ndarray:
    settings = restored(
        EmbeddingSettings, {"text_encoder": f"hf:{folder}", "hf_max_length": length, "hf_batch_size": batch_size}
    )
    return embed_items(ITEMS[: len(texts)], texts, settings, cache_dir=cache, seed=1)


@pytest.mark.parametrize("kind", ["bert", "llama", "t5"])
def test_rows_keep_their_order_and_padding_does_not_matter(kind: str, tmp_path: Path) -> None:
    folder = save_model(tmp_path / kind, kind)
    together = embed(folder, tmp_path / "a", batch_size=6)
    alone = embed(folder, tmp_path / "b", batch_size=1)
    assert together.shape == (6, 16) and together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together[0], together[5], atol=1e-5)
    assert np.abs(together[0] - together[3]).max() > 1e-3
    np.testing.assert_allclose(together[2], together[[0, 1, 3, 4, 5]].mean(axis=0), atol=1e-5)


def test_masked_mean_of_the_last_states(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "m", "bert")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model(**tokenizer(TEXTS[1], return_tensors="pt")).last_hidden_state[0].mean(0)
    np.testing.assert_allclose(embed(folder, tmp_path / "c")[1], expected.numpy(), atol=1e-5)


def test_more_tokens_than_the_model_reads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = save_model(tmp_path / "m", "bert")
    np.testing.assert_array_equal(embed(folder, tmp_path / "a", length=999), embed(folder, tmp_path / "b", length=16))
    assert "reads only 16 tokens" in caplog.text


def test_all_texts_empty(tmp_path: Path) -> None:
    assert not embed(save_model(tmp_path / "m", "bert"), tmp_path, texts=["", " "]).any()


def test_an_edited_model_is_another_key(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "m", "bert")
    embed(folder, tmp_path / "c")
    embed(folder, tmp_path / "c", batch_size=5)
    assert len(list((tmp_path / "c" / "embeddings").iterdir())) == 1
    os.utime(folder / "model.safetensors", (time.time() + 9, time.time() + 9))
    embed(folder, tmp_path / "c")
    assert len(list((tmp_path / "c" / "embeddings").iterdir())) == 2


def test_what_decides_the_numbers_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half-precision vectors of a GPU are not taken for a CPU's, nor those of an earlier revision for today's."""
    monkeypatch.setattr(hub, "_revision_on_hub", lambda name: "c0ffee")
    keys = [huggingface.cache_key("a/b", 12, device) for device in ("cpu", "cuda", "mps")]
    keys.append(huggingface.cache_key("a/b", 13, "cpu"))
    monkeypatch.setattr(hub, "_revision_on_hub", lambda name: "decade")
    keys.append(huggingface.cache_key("a/b", 12, "cpu"))
    assert len({fingerprint(key) for key in keys}) == len(keys)
    assert huggingface.cache_key("a/b", 12, "cuda:0") == huggingface.cache_key("a/b", 12, "cuda:1")


def test_offline_the_revision_is_that_of_the_local_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_revision_on_hub", lambda name: None)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    known = tmp_path / "models--a--b" / "snapshots" / "c0ffee"
    known.mkdir(parents=True)
    (known / "config.json").write_text("{}")
    (tmp_path / "models--a--b" / "refs").mkdir()
    (tmp_path / "models--a--b" / "refs" / "main").write_text("c0ffee")
    assert (hub.revision_of("a/b"), hub.revision_of("a/c"), hub.revision_of("no name")) == ("c0ffee", None, None)


def test_what_cannot_be_loaded_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_revision_on_hub", lambda name: None)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # no waiting for a network
    (tmp_path / "empty").mkdir()
    broken = save_model(tmp_path / "broken", "bert")
    (broken / "model.safetensors").write_bytes(b"junk")
    for source in ("nobody/has-this-model", tmp_path / "empty", tmp_path / "none", broken):
        with pytest.raises(UserError, match="text_encoder=hf:.*(no model can be loaded|no such folder)") as caught:
            embed(source, tmp_path / "c")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "c").exists()
