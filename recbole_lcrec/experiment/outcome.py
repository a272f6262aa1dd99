"""What a run returns: the contents of result.json, shown as a table of metrics in a notebook."""

from __future__ import annotations

import html
from typing import Any

from tabulate import tabulate


class Outcome(dict[str, Any]):
    """A dictionary that notebooks show as a table."""

    def _repr_html_(self) -> str:
        valid, test = self.get("best_valid_result") or {}, self.get("test_result") or {}
        facts = [f"{name} {self[name]}" for name in ("seed", "epochs") if name in self]
        said = [" on ".join(str(self[name]) for name in ("model", "dataset") if name in self), *facts]
        if "output_dir" in self:
            said.append(f"in {self['output_dir']}")
        rows = [[name, valid.get(name), test.get(name)] for name in {**valid, **test}]
        table = tabulate(
            rows, headers=["", "best validation", "test"], tablefmt="html", floatfmt=".4f", missingval="–"
        )
        return f"<p>{html.escape(', '.join(said))}</p>{table if rows else ''}"
