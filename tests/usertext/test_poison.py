"""Only training interactions reach a training text: held-out ones are replaced by poison, and nothing may change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import TINY

from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.experiment.split_loaders import build_data
from recbole_lcrec.utils.recbole_patches import quiet
from recbole_lcrec.utils.timer import StageTimer

N_ITEMS, N_POISON = 24, 6
WORDS = ["copper", "oak", "steel", "garden", "pine", "brass"]
LENGTHS = [1, 2, 3, 3, 4, 5, 6, 8, 9, 12, 25, 7]


def held_out(n: int) -> int:
    """Return how many of a user's n interactions are validation or test: a user keeps one training sample."""
    return min(2, max(n - 2, 0))


def sequences(poisoned: bool) -> dict[str, list[str]]:
    """Return every user's items; in the poisoned form those of validation and test are other ones."""
    rng, poison = np.random.default_rng(0), np.random.default_rng(1)
    users = {}
    for user, n in enumerate(LENGTHS):
        rows = rng.permutation(N_ITEMS)[:n] if n <= N_ITEMS else rng.integers(N_ITEMS, size=n)
        items = [f"i{row}" for row in rows]
        if user == 6:
            items[-1] = items[1]  # a test item that the user already has from training
        if poisoned and held_out(n):
            items[-held_out(n) :] = [f"p{row}" for row in poison.integers(N_POISON, size=held_out(n))]
        users[f"u{user}"] = items
    return users


def write(folder: Path, *, poisoned: bool, published: bool) -> None:
    """Write data set, reviews and published texts; what is held out differs with ``poisoned``."""
    target = folder / "toy"
    target.mkdir(parents=True)
    users = sequences(poisoned)
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    lines += [f"{user}\t{item}\t{time}" for user, items in users.items() for time, item in enumerate(items)]
    (target / "toy.inter").write_text("\n".join(lines) + "\n")
    lines = ["item_id:token\ttitle:token_seq\tdescription:token_seq\tbrand:token\tcategories:token_seq"]
    for n in range(N_ITEMS):
        title = f"{WORDS[n % 6]} thing {'abcdef'[n % 5] * 4}"
        lines.append(f"i{n}\t{title}\tfor {WORDS[n // 5]}\tbrand{n % 3}\tAll,kind{n % 4}")
    lines += [f"p{n}\tpoison vial\tvenom arsenic\ttoxin\tAll,poison" for n in range(N_POISON)]
    (target / "toy.item").write_text("\n".join(lines) + "\n")
    lines = ["user_id:token\titem_id:token\treview:token_seq\ttimestamp:float"]
    for user, items in users.items():
        train = items[: len(items) - held_out(len(items))]
        words = "poison and venom" if poisoned else "copper and oak"
        lines += [f"{user}\t{item}\t{words}\t99" for item in items[len(train) :]]
        lines += [f"{user}\t{item}\t{WORDS[place % 6]} garden\t{place}" for place, item in enumerate(train)]
    (target / "toy.review").write_text("\n".join(lines) + "\n")
    if published:
        (target / "toy.user.json").write_text(json.dumps(published_texts(users, poisoned)))


def published_texts(users: dict[str, list[str]], poisoned: bool) -> dict[str, Any]:
    train, test = {}, {}
    for user, items in users.items():
        kept = items[: len(items) - held_out(len(items))]
        queries = [f"something like {kept[-1]}", f"a thing after {len(kept)} others"]
        train[user] = {"item": kept[-1], "inters": kept[:-1], "querys": queries}
        words = "poison please" if poisoned else "the test item please"
        test[user] = {"item": items[-1], "inters": items[:-1], "querys": [words]}
    # an entry with a held-out item in each form: it must be dropped in both
    train["u7"] = {"item": users["u7"][-1], "inters": users["u7"][:2], "querys": ["poison and held out"]}
    train["u8"] = {"item": users["u8"][2], "inters": users["u8"][-2:], "querys": ["poison and held out"]}
    preferences = {user: [f"likes {items[0]}", f"wants {items[0]}"] for user, items in users.items()}
    return {"user_explicit_preference": preferences, "user_vague_intention": {"train": train, "test": test}}


def build(folder: Path, user_text: str) -> dict[str, Any]:
    options = {
        **TINY, "data_path": str(folder), "cache_dir": str(folder / "cache"), "user_text": user_text,
        "task_samples": None, "item_text_fields": ["title", "description", "brand", "categories"],
        "history_loss_weight": 0.0, "history_windows": False, "embedding": "text+cf",
    }  # fmt: skip
    with quiet():
        data, train, *_ = build_data(LCRecConfig("LCRec", "toy", config_dict=options), StageTimer())
    samples = [sample for epoch in range(4) for sample in train.samples.build(epoch)]
    return {
        "tasks": train.samples.per_epoch,
        "samples": [(sample.ids.tolist(), sample.weights.tolist()) for sample in samples],
        "words": [train.samples.builder.tokenizer.decode(sample.ids) for sample in samples],
        "texts": data.catalogue.user_texts,
        "tokenizer": data.catalogue.tokenizer.backend_tokenizer.to_str(),
        "index": data.catalogue.index.codes.tolist(),
        "embeddings": data.catalogue.indexed.embeddings.tobytes(),
    }


@pytest.mark.parametrize("user_text", ["extractive", "file"])
def test_held_out_interactions_reviews_and_texts_change_nothing_in_training(tmp_path: Path, user_text: str) -> None:
    made = {}
    for poisoned in (False, True):
        folder = tmp_path / str(poisoned)
        write(folder, poisoned=poisoned, published=user_text == "file")
        made[poisoned] = build(folder, user_text)
    clean, poison = made[False], made[True]
    assert len(clean["tasks"]) == 6
    texts = clean["texts"]
    assert len(texts.intentions) == (11 if user_text == "extractive" else 9) and len(texts.preferences) == 11
    assert texts.intentions == poison["texts"].intentions and texts.preferences == poison["texts"].preferences
    assert texts.counts == poison["texts"].counts
    for part in ("tasks", "samples", "tokenizer", "index", "embeddings"):
        assert clean[part] == poison[part], part
    items = {"item2index", "index2item"}  # the catalogue itself, poison items among it, belongs to every split
    said = [*texts.intentions.values(), *texts.preferences.values()]
    assert items <= set(clean["tasks"]) and not any("poison" in str(entry) for entry in said)
