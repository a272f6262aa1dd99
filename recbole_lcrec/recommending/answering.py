"""How a part of an order is answered: the same on this machine and on those of a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.recommending.askers import Portion, read_tokens
from recbole_lcrec.recommending.lists import Recommendations
from recbole_lcrec.recommending.order import Order
from recbole_lcrec.recommending.output import encoded
from recbole_lcrec.recommending.recommender import Recommender


@dataclass(frozen=True)
class Answering:
    """How a recommender answers a part of an order; the same on every machine.

    Attributes:
        k: Items per user.
        among: Item tokens to choose from, or None.
        titles: Whether to write titles.
        unknown: ``error`` or ``skip``.
        suffix: Format of the output.
    """

    k: int
    among: list[str] | None
    titles: bool
    unknown: str
    suffix: str

    @classmethod
    def of(cls, order: Order, recommender: Recommender) -> Answering:
        """Return how to answer an order."""
        topk = RunOptions(recommender.experiment.config).topk
        among = None if order.among is None else list(dict.fromkeys(read_tokens(order.among, "among")))
        return cls(order.k or max(topk), among, order.titles, order.unknown, order.output.suffix)

    def answer(self, recommender: Recommender, part: Portion) -> bytes:
        """Return a part of the output."""
        options: dict[str, Any] = {"k": self.k, "titles": self.titles, "among": self.among}
        if part.histories is not None:
            found = recommender.recommend(part.histories, unknown=self.unknown, **options)
        else:
            known = [name for name in part.names if recommender.users.id_of(name)]
            lists = iter(recommender.recommend_users(known, **options) if known else ())
            popular = recommender.items.popular(self.k, self.among, titles=self.titles)
            of_known = set(known)
            found = Recommendations(tuple(next(lists) if name in of_known else popular for name in part.names))
        return encoded(found, part.names, self.suffix, titles=self.titles)
