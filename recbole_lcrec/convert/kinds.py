"""The converters of this package, and what a converter is: arguments of its own, and the source that they name."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from recbole_lcrec.convert.amazon import AmazonSource
from recbole_lcrec.convert.lcrec import LCRecSource
from recbole_lcrec.convert.own_tables import TableSource
from recbole_lcrec.convert.records import Source


@dataclass(frozen=True)
class Converter:
    """One kind of data set that ``python -m recbole_lcrec.convert KIND`` reads.

    Attributes:
        open: Returns the source that the parsed arguments name: ``input``, ``no_progress`` and the converter's own.
            Raises UserError if files are missing or of another kind.
        add_arguments: Adds the converter's own arguments to the parser.
        duplicates: Which of a user's interactions with the same item stays, unless ``--duplicates`` says otherwise.
    """

    open: Callable[[argparse.Namespace], Source]
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    duplicates: str = "keep"


def _amazon_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--meta", metavar="FILE", help="metadata file; none for no item text (default: in the folder)")
    parser.add_argument("--reviews", action="store_true", help="write the review texts too; reads the source twice")
    _add_min_rating(parser)


def _table_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--items", metavar="FILE", help="table with the items' text; none for no item text")
    parser.add_argument(
        "--columns", metavar="MAP", help="user=COLUMN,item=COLUMN,time=COLUMN[,rating=...][,review=...]"
    )
    parser.add_argument("--item-columns", metavar="MAP", help="item=COLUMN,title=COLUMN[,description=...][,ANY=...]")
    parser.add_argument(
        "--separator", metavar="CHARACTER", help="between cells, or tab (default: from the first line)"
    )
    parser.add_argument("--no-quotes", action="store_true", help="a double quote is text, not CSV's quoting")
    parser.add_argument("--reviews", action="store_true", help="write the column named by review= too")
    _add_min_rating(parser)


def _add_min_rating(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--min-rating", type=float, metavar="R", help="leave out interactions rated lower")


def _amazon(given: argparse.Namespace) -> Source:
    return AmazonSource(given.kind, given.input, given.meta, not given.no_progress)


def _table(given: argparse.Namespace) -> Source:
    return TableSource(
        given.input, given.items, given.columns, given.item_columns,
        separator=given.separator, quotes=not given.no_quotes, show=not given.no_progress,
    )  # fmt: skip


AMAZON = Converter(_amazon, _amazon_arguments, duplicates="first")
LCREC = Converter(lambda given: LCRecSource(given.input))
TABLE = Converter(_table, _table_arguments)
