"""The command line of the converters; ``python -m recbole_lcrec.convert --help`` lists the kinds and their options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from recbole_lcrec.config.plugins import load_installed
from recbole_lcrec.config.registry import CONVERTERS
from recbole_lcrec.convert.pipeline import DUPLICATES, Settings, convert
from recbole_lcrec.convert.summary import report
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.program import program

_EPILOG = """Filters work in this order: --min-rating, --duplicates, --k-core. Ids that RecBole's reader would lose
(NA, null, nan, None, ..., empty, with tabs or line breaks, starting with a quote) are rejected with their line.
Rejected lines are kept in X.rejected, all counts in X.statistics.json."""


def arguments() -> argparse.ArgumentParser:
    """Return the parser: one sub-command per kind of source."""
    parser = argparse.ArgumentParser(
        prog="python -m recbole_lcrec.convert",
        description="Make RecBole's atomic files (X.inter, X.item, X.review) of published or own data.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for kind, registered in CONVERTERS.components.items():
        converter = registered.load()
        converter.add_arguments(_add_kind(kinds, kind, registered.text, converter.duplicates))
    return parser


def _add_kind(kinds: argparse._SubParsersAction, kind: str, text: str, duplicates: str) -> argparse.ArgumentParser:
    sub: argparse.ArgumentParser = kinds.add_parser(
        kind, help=text, description=text, epilog=_EPILOG, allow_abbrev=False
    )
    sub.add_argument("input", type=Path, help="file or folder to read")
    sub.add_argument("--name", required=True, help="name of the data set")
    sub.add_argument("--output", type=Path, default=Path("dataset"), metavar="FOLDER", help="parent folder (dataset)")
    sub.add_argument("--k-core", type=int, default=0, metavar="K", help="minimum interactions per user and item (0)")
    sub.add_argument(
        "--duplicates", choices=DUPLICATES, default=duplicates,
        help=f"which of a user's interactions with the same item is kept ({duplicates})",
    )  # fmt: skip
    sub.add_argument("--all-items", action="store_true", help="keep items without interactions in X.item")
    sub.add_argument("--overwrite", action="store_true", help="replace the files of an earlier conversion")
    sub.add_argument("--no-progress", action="store_true", help="no progress bars")
    sub.set_defaults(min_rating=None, reviews=False)  # for converters without these options
    return sub


def main(argv: Sequence[str] | None = None) -> int:
    """Convert as the command line says.

    Args:
        argv: Arguments without the program's name; None takes those of the process.

    Returns:
        0, 2 after a mistake the user can fix, 130 when interrupted. argparse exits with 2 for unknown options.
    """
    try:
        load_installed()
        given = arguments().parse_args(argv)
        settings = Settings(
            name=given.name,
            output=given.output,
            k_core=given.k_core,
            duplicates=given.duplicates,
            min_rating=given.min_rating,
            all_items=given.all_items,
            reviews=given.reviews,
            overwrite=given.overwrite,
            show_progress=not given.no_progress,
        )
        if not given.input.exists():
            raise UserError(f"{given.input} does not exist.")
        source = CONVERTERS[given.kind].load().open(given)
        for role, path in [*source.files.items(), *source.carried.items()]:
            print(f"{role.lstrip('.')}: {path}", flush=True)  # before minutes of reading
        print(report(convert(source, settings)))
    except (UserError, OSError) as error:  # OSError: no permission, disk full
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(f"\nwritten to {settings.folder}. Next:")
    print(f"{program()} --model=LCRec --dataset={settings.name} --data_path={settings.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
