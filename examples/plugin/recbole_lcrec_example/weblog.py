"""A converter: the log of a shop, a line of ``time|user|item`` per purchase, and no text of the items."""

import math

from recbole_lcrec.convert import Converter, Interaction
from recbole_lcrec.convert.records import Rejection, id_token, number


class Weblog:
    """What ``python -m recbole_lcrec.convert weblog FILE`` reads; methods and attributes are those of ``Source``."""

    kind = "weblog"
    has_ratings = has_reviews = False
    item_fields = ()
    carried = {}

    def __init__(self, path, separator):
        self.files = {"interactions": path}
        self._path, self._separator = path, separator

    def interactions(self, part):
        """Yield the interactions in file order; lines that cannot be used are rejected with their reason."""
        for place, line in enumerate(self._path.open(encoding="utf-8"), 1):
            part.read += 1
            try:
                yield self._interaction(line.rstrip("\n").split(self._separator))
                part.passed += 1
            except Rejection as rejection:
                part.reject(str(place), str(rejection), line)

    @staticmethod
    def _interaction(cells):
        if len(cells) != 3:
            raise Rejection("not three columns")
        time, user, item = cells
        return Interaction(id_token(user, "user"), id_token(item, "item"), number(time, "time"), math.nan, "")

    def items(self, part):
        """Yield nothing: the log has no text."""
        yield from ()

    def item_text(self, record):
        """Return no text."""
        return {}


WEBLOG = Converter(
    lambda given: Weblog(given.input, given.separator),
    lambda parser: parser.add_argument("--separator", default="|", help="between time, user and item"),
)
