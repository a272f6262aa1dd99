"""The options of a run as its folder keeps them."""

from __future__ import annotations

from pathlib import Path

from recbole_lcrec.config import LCRecConfig
from recbole_lcrec.config.loader import dump_values
from recbole_lcrec.data.download import without_credentials
from recbole_lcrec.distributed import group
from recbole_lcrec.utils.files import write_text
from recbole_lcrec.utils.run_files import CONFIG, STARTING


def options_text(config: LCRecConfig) -> str:
    """Return all options of a run as YAML, without passwords in an address."""
    values = config.resolved()
    if values.get("dataset_url"):
        values["dataset_url"] = without_credentials(values["dataset_url"])
    return dump_values(values)


def write_config(config: LCRecConfig, output_dir: Path) -> None:
    """Write all options of a run that has got past its start."""
    if not group.is_main():
        return
    write_text(output_dir / CONFIG, options_text(config))
    (output_dir / STARTING).unlink(missing_ok=True)
