"""Constrained decoding: full ranking of a catalogue by generating item paths.

>>> trie = TokenTrie(paths)
>>> items, scores = constrained_beam_search(lm, input_ids, attention_mask, trie, num_beams=20)

The package knows token ids and language models only; what the ids mean is the caller's business.
"""

from recbole_lcrec.decoding.beam import PathStep, constrained_beam_search, path_steps, score_paths
from recbole_lcrec.decoding.forward import Mode
from recbole_lcrec.decoding.item_scores import ItemScores
from recbole_lcrec.decoding.mode import choose_mode
from recbole_lcrec.decoding.prefix import SharedPrefix
from recbole_lcrec.decoding.softmax import ChildSoftmax, LevelSoftmax, Softmax
from recbole_lcrec.decoding.trie import Children, TokenTrie

__all__ = [
    "ChildSoftmax",
    "Children",
    "ItemScores",
    "LevelSoftmax",
    "Mode",
    "PathStep",
    "SharedPrefix",
    "Softmax",
    "TokenTrie",
    "choose_mode",
    "constrained_beam_search",
    "path_steps",
    "score_paths",
]
