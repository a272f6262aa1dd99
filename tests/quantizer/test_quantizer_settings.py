from __future__ import annotations

import pytest
from quantizer_helpers import small_settings

from recbole_lcrec.utils.errors import UserError


def test_level_sizes() -> None:
    assert small_settings().level_sizes == (16, 16, 16)
    assert small_settings(codebook_size=[4, 8, 16]).level_sizes == (4, 8, 16)
    with pytest.raises(UserError, match=r"one per level \(num_levels: 3\), found \[16, 16\]"):
        small_settings(codebook_size=[16, 16])
    with pytest.raises(UserError, match="196,608 codes together"):
        small_settings(codebook_size=65_536)


def test_a_near_miss_is_named() -> None:
    with pytest.raises(UserError, match="option quantizer is rkmean; expected .* Did you mean 'rkmeans'"):
        small_settings(quantizer="rkmean")
