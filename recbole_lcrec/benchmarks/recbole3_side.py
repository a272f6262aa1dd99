"""How long RecBole3.0 takes for some works, through its own classes, which are in the user's checkout.

Each function runs in a process of its own, loads RecBole3.0 from ``<checkout>/src`` and returns CPU seconds per unit
of work. Written for its package ``recbole3`` as of 2026; a version with other calls is refused with a message.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from recbole_lcrec.benchmarks.made_up import VALID_AND_TEST, Sizes, write_lm
from recbole_lcrec.utils.errors import UserError


def module(checkout: str, name: str) -> Any:
    """Import a module of the checkout.

    Raises:
        UserError: If it cannot be imported.
    """
    source = str(Path(checkout) / "src")
    if source not in sys.path:
        sys.path.insert(0, source)
    try:
        return importlib.import_module(f"recbole3.{name}")
    except ImportError as error:
        raise UserError(
            f"--checkout={checkout}: recbole3.{name} cannot be imported ({error}). Give a checkout of RecBole3.0 with "
            "the folder src/recbole3, and install what it needs into this environment."
        ) from error


def rqvae_start(checkout: str, sizes: Sizes, folder: str) -> float:
    """Return the seconds of its k-means start, encoder included."""
    import torch

    model, inputs = _rqvae(checkout, sizes)
    started = time.process_time()
    with torch.no_grad():
        model.init_codebook(inputs)
    return time.process_time() - started


def rqvae_epoch(checkout: str, sizes: Sizes, folder: str) -> float:
    """Return the seconds of an epoch in float32; codes are those that it starts with."""
    import torch

    model, inputs = _rqvae(checkout, sizes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()

    def epoch() -> None:
        for rows in torch.randperm(len(inputs)).split(sizes.rqvae_batch):
            batch = {"item_embeddings": inputs[rows]}
            optimizer.zero_grad()
            model.compute_loss(batch, model.forward(batch))["loss"].backward()
            optimizer.step()

    return _second(epoch)


def _rqvae(checkout: str, sizes: Sizes) -> tuple[Any, Any]:
    import torch

    config = module(checkout, "model.rqvae.config").RQVAEConfig(
        hidden_sizes=sizes.encoder,
        codebook_num=sizes.levels,
        codebook_size=sizes.codes,
        codebook_dim=sizes.latent,
        sem_emb_dim=sizes.dimensions,
        vq_type="vq",
        sk_epsilon=0.003,
        sk_iters=50,
    )
    torch.manual_seed(0)
    return module(checkout, "model.rqvae.model").RQVAEModel(config), torch.from_numpy(sizes.embeddings())


def tiger_training(checkout: str, sizes: Sizes, folder: str) -> float:
    """Return the seconds per training sample of its TIGER."""
    import torch

    model, prepared, records = _tiger(checkout, sizes, folder)
    collate = model.build_train_collator(prepared)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    order = torch.randperm(len(records), generator=torch.Generator().manual_seed(0)).tolist()
    chosen = [records[row] for row in order[: sizes.batch * (sizes.steps + 1)]]
    started = 0.0
    for number in range(sizes.steps + 1):
        if number == 1:
            started = time.process_time()
        batch = collate(chosen[number * sizes.batch : (number + 1) * sizes.batch])
        optimizer.zero_grad()
        model.compute_loss(batch, model.forward(batch)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return (time.process_time() - started) / (sizes.steps * sizes.batch)


def tiger_evaluation(checkout: str, sizes: Sizes, folder: str) -> float:
    """Return the seconds per user that its TIGER is asked about."""
    import torch

    model, prepared, _ = _tiger(checkout, sizes, folder)
    collate = model.build_eval_collator(prepared)
    model.eval()
    keys = module(checkout, "model.sequential").HISTORY_ITEM_IDS, *_keys(checkout)
    asked = [_record(keys, user, row[:-VALID_AND_TEST], row[-VALID_AND_TEST]) for user, row in _sequences(sizes)]
    started = time.process_time()
    with torch.no_grad():
        model.predict(collate(asked[: sizes.asked]), k=10)
    return (time.process_time() - started) / sizes.asked


def _tiger(checkout: str, sizes: Sizes, folder: str) -> tuple[Any, Any, list[dict[str, Any]]]:
    import torch

    sids = Path(folder) / "sids.json"
    sids.write_text(json.dumps(dict(enumerate(sizes.paths().tolist()))), encoding="utf-8")
    codec = module(checkout, "model.tiger.data").TIGERSIDCodec.from_file(str(sids), num_items=sizes.items)
    config = module(checkout, "model.tiger.config").TIGERConfig(
        sid_file=str(sids), num_beams=sizes.beams, eval_topk=(10,)
    )
    torch.manual_seed(0)
    model, prepared = module(checkout, "model.tiger.model").TIGERModel(config), SimpleNamespace(tiger_codec=codec)
    model.build_train_collator(prepared)
    keys = module(checkout, "model.sequential").HISTORY_ITEM_IDS, *_keys(checkout)
    records = [
        _record(keys, user, row[:end], row[end])
        for user, row in _sequences(sizes)
        for end in range(1, len(row) - VALID_AND_TEST)
    ]
    return model, prepared, records


def _sequences(sizes: Sizes) -> list[tuple[int, list[int]]]:
    return list(enumerate(sizes.sequences().tolist()))


def _keys(checkout: str) -> tuple[str, str]:
    names = module(checkout, "dataset")
    return names.USER_ID, names.ITEM_ID


def _record(keys: tuple[str, str, str], user: int, history: list[int], item: int) -> dict[str, Any]:
    return {keys[0]: tuple(history), keys[1]: user, keys[2]: item}


def lcrec_training(checkout: str, sizes: Sizes, folder: str) -> float:
    """Return the seconds per training sample of its LC-Rec: of the pass that transformers' Trainer makes for it."""
    trainer, data, samples = _lcrec(checkout, sizes, folder)
    import transformers

    kind: Any = transformers.Trainer
    taken: list[float] = []
    train = kind.train

    def timed(self: Any, *args: Any, **kwargs: Any) -> Any:
        started = time.process_time()
        result = train(self, *args, **kwargs)
        taken.append(time.process_time() - started)
        return result

    kind.train = timed
    try:
        trainer.run(data, output_dir=str(Path(folder) / "theirs"))
    finally:
        kind.train = train
    return taken[0] / samples


def lcrec_evaluation(checkout: str, sizes: Sizes, folder: str) -> float:
    """Return the seconds per user that its LC-Rec is asked about, in one wording."""
    trainer, data, _ = _lcrec(checkout, sizes, folder)
    names = module(checkout, "model.lcrec.trainer")
    items = names.LCRecItemTokenizer(trainer.config)
    tokenizer = trainer._load_llm_tokenizer(items, padding_side="left")
    _, _, asked = names.get_lcrec_sft_datasets(trainer.config, items, tokenizer, data)
    model = trainer._load_model(tokenizer, device_map="cpu")
    started = time.process_time()
    trainer._evaluate_with_model(model, tokenizer, items, asked)
    return (time.process_time() - started) / len(asked)


def _lcrec(checkout: str, sizes: Sizes, folder: str) -> tuple[Any, Any, int]:
    """Return its trainer, data of its type, and how many samples an epoch has."""
    import pandas

    sids = Path(folder) / "sids.json"
    sids.write_text(json.dumps(dict(enumerate(sizes.paths().tolist()))), encoding="utf-8")
    users = max(1, sizes.batch * sizes.steps // (sizes.length - 1))
    base = module(checkout, "dataset.base").BaseTaskDataset
    user_id, item_id = _keys(checkout)
    seen = module(checkout, "dataset.utils").SEEN_ITEM_IDS
    rows = _sequences(sizes)
    train = [{user_id: user, item_id: item} for user, row in rows[:users] for item in row[:-VALID_AND_TEST]]
    asked = [
        {user_id: user, item_id: row[-2], seen: tuple(row[:-VALID_AND_TEST])} for user, row in rows[: sizes.asked]
    ]
    parts = {"valid": asked[:1], "test": asked}
    table = pandas.DataFrame({item_id: range(sizes.items)})
    methods = {
        "get_train_dataset": lambda self: train,
        "get_eval_dataset": lambda self, split: parts[split],
        "get_item_table": lambda self: table,
    }
    kind: Any = type("MadeData", (base,), methods)
    kind.__abstractmethods__ = frozenset()
    config = module(checkout, "model.lcrec.config").LCRecConfig(
        sid_file=str(sids),
        model_name_or_path=str(write_lm(sizes, Path(folder))),
        attn_implementation="sdpa",
        torch_dtype="float32",
        bf16=False,
        gradient_checkpointing=False,
        gradient_accumulation_steps=1,
        train_batch_size=16,
        eval_batch_size=16,
        num_train_epochs=1,
        num_beams=sizes.beams,
        topk=(10,),
        test_prompt_ids="0",
    )
    trainer = module(checkout, "model.lcrec.trainer").LCRecTrainer(config)
    return trainer, kind.__new__(kind), users * (sizes.length - 1)


def _second(epoch: Any) -> float:
    """Return the CPU seconds of the second of two calls."""
    epoch()
    started = time.process_time()
    epoch()
    return time.process_time() - started
