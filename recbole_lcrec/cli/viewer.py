"""Print training samples with the tokens that carry loss marked.

    python -m recbole_lcrec.cli.viewer --dataset=ml-100k --task=seqrec --count=2 [--epoch=0] [--option=value]

Tokens are separated by ``|``. Those that carry loss are in double brackets, ``[[...]]``, with their weight if it is
not 1. Tokens in round brackets stand aside: what follows does not see them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np

from recbole_lcrec.instruction.prompts import PromptBuilder, Sample
from recbole_lcrec.instruction.templates import ALL_TEMPLATES, LCREC_TEMPLATES
from recbole_lcrec.utils.errors import UserError, nearest


def format_sample(builder: PromptBuilder, sample: Sample) -> str:
    """Return a sample as text, token by token, with loss-carrying tokens marked."""
    parts = []
    aside = np.zeros(len(sample.ids), bool) if sample.aside is None else sample.aside
    for place, weight in enumerate(sample.weights.tolist()):
        text = builder.decode(sample.ids[place : place + 1])
        note = "" if weight == 1 else f":{weight:g}"
        marked = f"[[{text}]]{note}" if weight > 0 else text
        parts.append(f"({marked})" if aside[place] else marked)
    return "|".join(parts)


def main(argv: Sequence[str]) -> int:
    """Print samples of one task; return the exit status."""
    from recbole_lcrec.cli.main import parse

    own = {"task": "seqrec", "count": "1", "epoch": "0"}
    rest = []
    for argument in argv:
        name, _, value = argument.removeprefix("--").partition("=")
        if name in own:
            own[name] = value
        else:
            rest.append(argument)
    try:
        if own["task"] not in ALL_TEMPLATES:
            raise UserError(f"--task={own['task']}: unknown task.{nearest(own['task'], ALL_TEMPLATES)}")
        if not (own["count"].isdigit() and own["epoch"].isdigit()):
            raise UserError("--count and --epoch are whole numbers of 0 or more.")
        model = "LCRec" if own["task"] in LCREC_TEMPLATES else "TALLRec" if own["task"] == "yesno" else "InstructRec"
        print_samples(parse([f"--model={model}", *rest]), own["task"], int(own["count"]), int(own["epoch"]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def print_samples(command: Any, task: str, count: int, epoch: int) -> None:
    """Build the data of ``command`` (as parsed by the command line) and print the first samples of a task."""
    from recbole_lcrec.config import LCRecConfig
    from recbole_lcrec.experiment.split_loaders import build_data
    from recbole_lcrec.utils.recbole_patches import quiet
    from recbole_lcrec.utils.timer import StageTimer

    logging.basicConfig(level=logging.WARNING)
    config = LCRecConfig(command.model, command.dataset, command.config_files, cli=command.options)
    with quiet():
        _, train_data, *_ = build_data(config, StageTimer())
    samples = train_data.samples
    streams = [stream for stream in samples.streams if stream.task == task]
    if not streams:
        raise UserError(
            f"--task={task}: the data set has no such samples (see tasks, item_text_fields and user_text)."
        )
    for row, sample in islice(samples.of_task(streams[0], epoch), count):
        n_loss = int((sample.weights > 0).sum())
        print(f"--- {task}, epoch {epoch}, sample {row}, {len(sample.ids)} tokens, {n_loss} with loss")
        print(format_sample(samples.builder, sample))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
