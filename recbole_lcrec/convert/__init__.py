"""Turns data sets as they are published, or as a shop keeps them, into RecBole's atomic files.

    python -m recbole_lcrec.convert <amazon2014|amazon2018|amazon2023|lcrec|table> <input> --name X --output dataset

Raw review files are larger than memory, and a line lost on the way changes every number measured afterwards. So the
source is streamed (``source`` yields interactions, ``columns`` keeps them on disk, ``selection`` filters them with a
few bytes each), every line is either written or counted under the reason why not (``intake``), and the folder
appears whole or not at all (``writing``).
"""

from recbole_lcrec.convert.kinds import Converter
from recbole_lcrec.convert.pipeline import Settings, convert
from recbole_lcrec.convert.records import Interaction, Source

__all__ = ["Converter", "Interaction", "Settings", "Source", "convert"]
