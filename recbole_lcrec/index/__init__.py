"""Item index: every item's unique path of codes."""

from recbole_lcrec.index.build import BuiltIndex, IndexSettings, build_index, index_level_sizes, map_items
from recbole_lcrec.index.item_index import ItemIndex, check_capacity, index_token
from recbole_lcrec.index.loading import load_index

__all__ = [
    "BuiltIndex",
    "IndexSettings",
    "ItemIndex",
    "build_index",
    "check_capacity",
    "index_level_sizes",
    "index_token",
    "load_index",
    "map_items",
]
