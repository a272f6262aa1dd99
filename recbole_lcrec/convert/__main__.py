"""The command line of the converters; ``python -m recbole_lcrec.convert --help`` lists the kinds and their options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from recbole_lcrec.convert.amazon import RELEASES, AmazonSource
from recbole_lcrec.convert.lcrec import LCRecSource
from recbole_lcrec.convert.pipeline import DUPLICATES, Settings, convert
from recbole_lcrec.convert.records import Source
from recbole_lcrec.convert.report import report
from recbole_lcrec.convert.table import TableSource
from recbole_lcrec.errors import UserError

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
    for kind in RELEASES:
        sub = _add_kind(kinds, kind, f"Amazon reviews of {kind[-4:]} with metadata", "first")
        sub.add_argument(
            "--meta", metavar="FILE", help="metadata file; none for no item text (default: in the folder)"
        )
        sub.add_argument("--reviews", action="store_true", help="write the review texts too; reads the source twice")
        _add_min_rating(sub)
    _add_kind(kinds, "lcrec", "a folder with <name>.inter.json and <name>.item.json", "keep")
    sub = _add_kind(kinds, "table", "CSV, TSV or Parquet tables of your own", "keep")
    sub.add_argument("--items", metavar="FILE", help="table with the items' text; none for no item text")
    sub.add_argument("--columns", metavar="MAP", help="user=COLUMN,item=COLUMN,time=COLUMN[,rating=...][,review=...]")
    sub.add_argument("--item-columns", metavar="MAP", help="item=COLUMN,title=COLUMN[,description=...][,ANY=...]")
    sub.add_argument("--separator", metavar="CHARACTER", help="between cells, or tab (default: from the first line)")
    sub.add_argument("--no-quotes", action="store_true", help="a double quote is text, not CSV's quoting")
    sub.add_argument("--reviews", action="store_true", help="write the column named by review= too")
    _add_min_rating(sub)
    return parser


def _add_kind(kinds: argparse._SubParsersAction, kind: str, text: str, duplicates: str) -> argparse.ArgumentParser:
    sub: argparse.ArgumentParser = kinds.add_parser(
        kind, help=text, description=text, epilog=_EPILOG, allow_abbrev=False
    )
    sub.add_argument("input", type=Path, help="file or folder to read")
    sub.add_argument("--name", required=True, help="name of the data set")
    sub.add_argument("--output", type=Path, default=Path("dataset"), metavar="FOLDER", help="parent folder (dataset)")
    sub.add_argument("--k-core", type=int, default=0, metavar="K", help="least interactions per user and item (0)")
    sub.add_argument(
        "--duplicates", choices=DUPLICATES, default=duplicates,
        help=f"which of a user's interactions with the same item stays ({duplicates})",
    )  # fmt: skip
    sub.add_argument("--all-items", action="store_true", help="keep items without interactions in X.item")
    sub.add_argument("--overwrite", action="store_true", help="replace the files of an earlier conversion")
    sub.add_argument("--no-progress", action="store_true", help="no progress bars")
    return sub


def _add_min_rating(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--min-rating", type=float, metavar="R", help="leave out interactions rated lower")


def open_source(given: argparse.Namespace) -> Source:
    """Return the source that a parsed command line names.

    Raises:
        UserError: When its files are missing or of another kind.
    """
    show = not given.no_progress
    if not given.input.exists():
        raise UserError(f"{given.input} does not exist.")
    if given.kind in RELEASES:
        return AmazonSource(given.kind, given.input, given.meta, show)
    if given.kind == "lcrec":
        return LCRecSource(given.input)
    return TableSource(
        given.input, given.items, given.columns, given.item_columns,
        separator=given.separator, quotes=not given.no_quotes, show=show,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Convert as the command line says.

    Args:
        argv: Arguments without the program's name; None takes those of the process.

    Returns:
        0, 2 after a mistake the user can fix, 130 when interrupted. argparse exits with 2 for unknown options.
    """
    given = arguments().parse_args(argv)
    try:
        settings = Settings(
            name=given.name,
            output=given.output,
            k_core=given.k_core,
            duplicates=given.duplicates,
            min_rating=getattr(given, "min_rating", None),
            all_items=given.all_items,
            reviews=getattr(given, "reviews", False),
            overwrite=given.overwrite,
            show_progress=not given.no_progress,
        )
        source = open_source(given)
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
    print(f"python run_recbole_lcrec.py --model=LCRec --dataset={settings.name} --data_path={settings.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
