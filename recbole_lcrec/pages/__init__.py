"""HTML pages from templates: one look for all, one file each, no network, and every text of a user's escaped.

Files that are not HTML (an export's model card and script) come from the same folder and are not escaped. A content
security policy in the page forbids requests, so that a report can be opened where the data are secret.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from recbole_lcrec.pages.plots import LABEL, lines, pieces

METRICS = {
    **{"ndcg": "NDCG", "mrr": "MRR", "map": "MAP", "auc": "AUC", "gauc": "GAUC", "rmse": "RMSE", "mae": "MAE"},
    **{"itemcoverage": "ItemCoverage", "giniindex": "GiniIndex", "averagepopularity": "AveragePopularity"},
    **{"shannonentropy": "ShannonEntropy", "tailpercentage": "TailPercentage", "logloss": "LogLoss"},
}


def display(metric: str) -> str:
    """Return a metric's name in its usual spelling: ndcg@10 is NDCG@10."""
    name, at, k = metric.partition("@")
    return METRICS.get(name.lower(), name.capitalize()) + at + k


def share(value: float | None) -> str:
    """Return a share in percent; small ones with two significant digits."""
    if value is None:
        return "unknown"
    return f"{value:.1%}" if value >= 0.01 else f"{100 * value:.2g}%"


def render(template: str, **values: Any) -> str:
    """Return a page; the same values give the same bytes.

    Args:
        template: Name of a file in ``templates``.
        values: Its contents: plain rows, numbers, text and plots.
    """
    return _environment().get_template(template).render(values)


def _is_page(template: str | None) -> bool:
    return template is None or not template.endswith((".md", ".jinja"))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("recbole_lcrec.pages"), autoescape=_is_page, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.filters.update(
        display=display,
        share=share,
        lines=lambda text: lines(text, LABEL),
        breaks=lambda text: Markup("<wbr>").join(pieces(str(text))),
        number=lambda value, kind=",", unknown="–": unknown if value is None else f"{value:{kind}}",
    )
    return environment
