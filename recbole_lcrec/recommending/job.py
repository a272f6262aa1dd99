"""``--recommend``: from an order to a file, part by part, on this machine or on a Ray cluster."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.experiment.asking import Asking
from recbole_lcrec.recommending.answering import Answering
from recbole_lcrec.recommending.askers import Asker, Portion, parts_of, read_histories, read_tokens
from recbole_lcrec.recommending.order import ALL, PART, Order
from recbole_lcrec.recommending.output import Parts, parts_of_output
from recbole_lcrec.recommending.recommender import Recommender
from recbole_lcrec.utils.allocator import give_back_gaps
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.integrity import facts_of
from recbole_lcrec.utils.progress import progress
from recbole_lcrec.utils.recbole_patches import logging_to, quiet
from recbole_lcrec.utils.run_folder import seal_of

logger = logging.getLogger(__name__)


def carry_out(order: Order) -> Path:
    """Write the recommendations that are ordered; an interrupted order continues after the parts already written.

    Returns:
        The file.

    Raises:
        UserError: For anything that the user has to correct, before anything is recommended.
    """
    with logging_to(None, str(order.options.get("state") or "INFO")), quiet():
        recommender = Recommender.load(order.run_dir, **order.options)
        answering = Answering.of(order, recommender)
        askers = _Askers(order, recommender, answering)
        request = _request(order, recommender, answering)
        with parts_of_output(order.output, order.partial, request, titles=order.titles) as parts:
            waiting = [number for number in range(askers.n_parts) if not parts.has(number)]
            if len(waiting) < askers.n_parts:
                logger.info("%d of %d parts are written already.", askers.n_parts - len(waiting), askers.n_parts)
            start, users = time.perf_counter(), sum(askers.size(number) for number in waiting)
            _write_all(order, recommender, answering, askers, parts, frozenset(waiting))
            seconds = max(time.perf_counter() - start, 1e-9)
            parts.join(askers.n_parts)
        logger.info("%d users, %.1f a second. Recommendations are in %s", askers.count, users / seconds, order.output)
    return order.output


class _Askers:
    """The users to recommend to, counted and checked once before the first one is answered.

    Args:
        order: What is ordered.
        recommender: Knows users and items.
        answering: How the users are answered.

    Raises:
        UserError: For a broken file, a file without users, or unknown users or items under ``error``.
    """

    def __init__(self, order: Order, recommender: Recommender, answering: Answering) -> None:
        self._order, self._users = order, recommender.users
        asking = Asking(recommender.experiment, answering.k, answering.among)
        if order.histories is not None and not asking.takes_histories:
            raise UserError(
                f"histories={order.histories}: {recommender.model_name} scores users of the data set and has no use "
                "for histories. Give --users=all or a file of user tokens."
            )
        self.count, items, users, example = 0, 0, 0, ""
        for name, history in self:
            self.count += 1
            unknown = [] if history is None else [item for item in history if not asking.known(item)]
            items += len(unknown)
            if history is None and not self._users.id_of(name):
                users, example = users + 1, example or name
            example = example or (unknown[0] if unknown else "")
        source = f"histories={order.histories}" if order.histories else f"users={order.users}"
        if not self.count:
            raise UserError(f"{source}: it has no users.")
        if found := f"{users} unknown users" if users else f"{items} unknown items" if items else "":
            if order.unknown == "error":
                raise UserError(
                    f"{source}: {found}, e.g. {example!r}. Tokens are the raw ids of the data set's files. Correct "
                    "them, or give --unknown=skip."
                )
            logger.warning("%s: %s, e.g. %s: %s.", source, found, example, "popular items" if users else "left out")

    def __iter__(self) -> Iterator[Asker]:
        order = self._order
        if order.histories is not None:
            return read_histories(order.histories)
        names = self._users.tokens if order.users == ALL else read_tokens(Path(order.users or ""), "users")
        return ((name, None) for name in names)

    @property
    def n_parts(self) -> int:
        """Number of parts."""
        return -(-self.count // PART)

    def size(self, number: int) -> int:
        """Return the number of users in a part."""
        return min(PART, self.count - number * PART)

    def parts(self, wanted: frozenset[int]) -> Iterator[Portion]:
        """Yield the parts with these numbers."""
        return (part for part in parts_of(self) if part.number in wanted)


def _write_all(
    order: Order,
    recommender: Recommender,
    answering: Answering,
    askers: _Askers,
    parts: Parts,
    waiting: frozenset[int],
) -> None:
    """Answer and write the parts that are waiting."""
    show = bool(RunOptions(recommender.experiment.config).show_progress)
    done = sum(askers.size(number) for number in range(askers.n_parts) if number not in waiting)
    bar = progress(total=askers.count, initial=done, description="Recommend ", show=show, unit="user")
    with bar:
        if order.address is not None:
            from recbole_lcrec.recommending.cluster import answers_of_cluster

            needs = recommender.experiment
            for number, data in answers_of_cluster(order, answering, askers.parts(waiting), len(waiting), needs):
                parts.write(number, data)
                bar.update(askers.size(number))
            return
        for part in askers.parts(waiting):
            parts.write(part.number, answering.answer(recommender, part))
            bar.update(len(part.names))
            give_back_gaps()


def _request(order: Order, recommender: Recommender, answering: Answering) -> dict[str, Any]:
    """Return everything that the rows depend on."""
    file = order.histories or (Path(order.users) if order.users and order.users != ALL else None)
    return {
        "run": seal_of(order.run_dir),
        "data": recommender.experiment.split_sha256,
        "users" if order.users else "histories": ALL if file is None else facts_of(file),
        "among": None if order.among is None else facts_of(order.among),
        "topk": answering.k,
        "titles": order.titles,
        "unknown": order.unknown,
        "options": {name: order.options[name] for name in sorted(order.options) if name not in _WITHOUT_EFFECT},
        "part": PART,
    }


_WITHOUT_EFFECT = ("show_progress", "state", "data_path", "cache_dir", "download", "dataset_url")
"""Options that say where things are, or what is shown; the data themselves are identified by the split."""
