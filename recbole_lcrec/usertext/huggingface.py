"""Any causal LM of transformers as author of the users' texts: batched, greedy, and kept answer by answer.

Thousands of answers of a large model take hours, so each is saved as soon as it is there: a run that was killed
continues where it stopped, and no answer is asked for twice. Answers are kept as the model gave them, and parsed by
``recbole_lcrec.usertext.answers``.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbole_lcrec.data.text import ItemText
from recbole_lcrec.embedding.huggingface import cache_key, precision
from recbole_lcrec.usertext.answers import parse_answer
from recbole_lcrec.usertext.jobs import Job
from recbole_lcrec.usertext.prompts import item_lines, prompt, wording
from recbole_lcrec.utils.causal_lm import causal_config, causal_tokenizer, load_causal_lm
from recbole_lcrec.utils.errors import UserError, reason_of
from recbole_lcrec.utils.files import fingerprint, storing
from recbole_lcrec.utils.lm_config import number_of
from recbole_lcrec.utils.progress import progress
from recbole_lcrec.utils.special_tokens import broken_up, reserved_tokens

logger = logging.getLogger(__name__)


def generate(
    jobs: Sequence[Job],
    text: ItemText,
    source: str,
    *,
    batch_size: int,
    max_tokens: int,
    cache_dir: Path,
    device: str,
    show_progress: bool,
) -> tuple[list[tuple[str, ...]], dict[str, int]]:
    """Return the texts of each job (perhaps none) and what happened to the answers.

    Args:
        jobs: The texts to write; one whose items have neither text nor review is not asked about.
        text: The catalogue's text.
        source: Name on the hub or local folder of a causal LM.
        batch_size: Prompts per forward pass; apart from rounding, it only affects memory.
        max_tokens: Most tokens of an answer.
        cache_dir: Folder of the caches; the answers go to ``user_texts/<key>.jsonl`` there.
        device: Where to compute.
        show_progress: Whether to show a bar.

    Raises:
        UserError: If the model cannot be loaded or reads too few tokens.
    """
    lines = [tuple(item_lines(job, text)) for job in jobs]
    keys = [fingerprint(job.kind, some) if some else None for job, some in zip(jobs, lines, strict=True)]
    name = f"{fingerprint(2, cache_key(source, max_tokens, device), wording())}.jsonl"
    path = Path(cache_dir) / "user_texts" / name
    known = read_answers(path)
    asked = {
        key: (job, some)
        for key, job, some in zip(keys, jobs, lines, strict=True)
        if key is not None and key not in known
    }
    counts = Counter({"answers from the cache": sum(key in known for key in set(filter(None, keys)))})
    if asked:
        author = Author(source, device, max_tokens)
        # longest first: what does not fit in memory fails at once
        order = sorted(asked, key=lambda key: (-sum(map(len, asked[key][1])), key))
        with progress(total=len(order), description="Write user texts", show=show_progress, unit="text") as bar:
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                answers = author.answers([(asked[key][0].kind, asked[key][1]) for key in batch])
                known |= dict(zip(batch, answers, strict=True))
                append_answers(path, [(key, asked[key][0], known[key]) for key in batch])
                bar.update(len(batch))
        counts["answers written"] = len(order)
    texts = []
    for key, job in zip(keys, jobs, strict=True):
        found, repaired = parse_answer(job.kind, known[key]) if key is not None else ((), False)
        texts.append(found)
        counts["answers repaired"] += bool(found) and repaired
        counts["answers dropped"] += key is not None and not found
        counts["texts not asked for (items without text)"] += key is None
    if counts["answers dropped"]:
        logger.warning("user_text=hf:%s: %d answers without words are dropped.", source, counts["answers dropped"])
    return texts, dict(counts)


def read_answers(path: Path) -> dict[str, str]:
    """Return key -> answer of the undamaged lines; a killed run may have left a broken one."""
    answers: dict[str, str] = {}
    broken = 0
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    for line in content.split(b"\n"):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            key, answer = entry["key"], entry["answer"]
            if not isinstance(key, str) or entry["sha256"] != fingerprint(key, answer):
                raise ValueError
            answers.setdefault(key, answer)
        except (ValueError, TypeError, KeyError):
            broken += 1
    if broken:
        logger.warning("%s: %d lines are damaged; their answers are asked for again.", path, broken)
    return answers


def append_answers(path: Path, answers: Sequence[tuple[str, Job, str]]) -> None:
    """Add lines to the file in one write, so that those of two runs never mix."""
    lines = [
        json.dumps({"key": key, "user": job.user, "answer": answer, "sha256": fingerprint(key, answer)})
        for key, job, answer in answers
    ]
    try:
        with storing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "ab", buffering=0) as file:
                # a broken last line is ended first, so that it spoils no other
                file.write(("\n" + "\n".join(lines) + "\n").encode())
                os.fsync(file.fileno())
    except FileNotFoundError:
        logger.warning("%s was removed while answers were written to it; %d are not kept.", path.parent, len(lines))


class Author:
    """A loaded model that answers prompts.

    Args:
        source: Name on the hub or local folder.
        device: Where to compute.
        max_tokens: Most tokens of an answer.

    Raises:
        UserError: If it cannot be loaded.
    """

    def __init__(self, source: str, device: str, max_tokens: int) -> None:
        option = f"user_text=hf:{source}"
        self._tokenizer = causal_tokenizer(source, option)
        self._reserved = tuple(reserved_tokens(self._tokenizer).values())
        self._model = load_causal_lm(source, option, precision(device)).to(device)
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token or self._tokenizer.convert_ids_to_tokens(0)
        self._tokenizer.padding_side = "left"  # every prompt of a batch ends where its answer starts
        positions = number_of(self._model.config, "max_position_embeddings") or 1 << 20
        self._room = min(positions, self._tokenizer.model_max_length) - max_tokens
        self._max_tokens = max_tokens
        self._option = option

    def answers(self, requests: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
        """Return the answer to each request (kind, lines about the items)."""
        import torch
        from transformers import GenerationConfig

        prompts = [self._fitted(kind, lines) for kind, lines in requests]
        inputs = self._tokenizer(prompts, padding=True, add_special_tokens=False, return_tensors="pt")
        inputs = {name: inputs[name].to(self._model.device) for name in ("input_ids", "attention_mask")}
        settings = GenerationConfig(
            max_new_tokens=self._max_tokens, do_sample=False, num_beams=1, pad_token_id=self._tokenizer.pad_token_id,
            eos_token_id=self._model.generation_config.eos_token_id or self._tokenizer.eos_token_id,
        )  # fmt: skip
        with torch.inference_mode():
            output = self._model.generate(**inputs, generation_config=settings)
        new = output[:, inputs["input_ids"].shape[1] :]
        return [str(answer) for answer in self._tokenizer.batch_decode(new, skip_special_tokens=True)]

    def _fitted(self, kind: str, lines: Sequence[str]) -> str:
        """Return the prompt; if it does not fit, without the oldest items, and at last without the last line's end.

        Raises:
            UserError: If the model reads so few tokens that not even the request fits.
        """
        lines = [broken_up(line, self._reserved) for line in lines]
        while True:
            whole = self._prompt(kind, lines)
            excess = len(self._tokenizer(whole, add_special_tokens=False).input_ids) - self._room
            if excess <= 0:
                return whole
            if len(lines) > 1:
                lines = lines[1:]
            elif len(lines[0]) > 8:
                lines = [lines[0][: len(lines[0]) // 2]]
            else:
                raise UserError(
                    f"{self._option}: the model reads {self._room + self._max_tokens} tokens; the request and "
                    f"user_text_max_tokens={self._max_tokens} for the answer exceed that by {excess}. "
                    "Lower user_text_max_tokens or use another model."
                )

    def _prompt(self, kind: str, lines: Sequence[str]) -> str:
        request, start = prompt(kind, lines)
        if self._tokenizer.chat_template:
            return _in_chat(self._tokenizer, request, self._option)
        begin = self._tokenizer.bos_token or ""
        return f"{begin}{request}\n\n{start}\n"


def check_author(source: str, option: str) -> None:
    """Refuse a model that cannot write the users' texts, judging by its configuration and tokenizer alone.

    Raises:
        UserError: Naming ``option``.
    """
    causal_config(source, option)
    tokenizer = causal_tokenizer(source, option)
    if tokenizer.chat_template:
        _in_chat(tokenizer, "What does this user look for?", option)


def _in_chat(tokenizer: Any, request: str, option: str) -> str:
    """Return a request in the form of the model's chat template.

    Raises:
        UserError: If the template, a program of the model's authors, fails or leaves the request out.
    """
    messages: list[dict[str, Any]] = [{"role": "user", "content": request}]
    try:
        text = str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
        problem = "" if request.strip() in text else "its output does not contain the request"
    except Exception as error:  # jinja2's errors, and those of the template's own expressions
        problem = reason_of(error)
    if problem:
        raise UserError(
            f"{option}: the chat template of its tokenizer cannot be used ({problem}). Fix chat_template, or remove "
            "it, and the model is asked in plain text."
        )
    return text
