"""RecBole's SASRec in half the time, with its numbers but for rounding: what its output does not need is left out.

Only the last position of the last layer is read. So the last layer's queries, projections and feed-forward are
computed for that position, and its keys and values not at all: a query is multiplied into the keys' weights, and a
weighted sum of the states into the values'. Rows of similar length run together, each group cut to its longest
history. GELU is one pass instead of five.

Dropout masks are drawn as RecBole draws them, for every position and in its order (option ``exact_dropout``), so that
training is the same as with RecBole's forward. Masks drawn only for what is used are different ones, and as good.

What differs by more than rounding: the key biases of the last layer. They have no influence on any score, since a
softmax does not change when a number is added to all of its inputs; RecBole moves them by what rounding leaves of
their gradient, which is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from recbole.model.layers import FeedForward
from recbole.model.sequential_recommender import SASRec
from torch import Tensor, nn
from torch.nn import functional

from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.data.batches import length_groups

_MASKED = -10000.0
"""RecBole's value, whose exp is 0."""
_LEVELS = 1 << 16


@dataclass(frozen=True)
class Rows:
    """Some rows of a batch, cut to the longest history among them.

    Attributes:
        rows: Their numbers in the batch, int64 [B]; a full slice for all rows in order.
        items: Item ids, int64 [B, L].
        last: Position of each row's last item, int64 [B].
    """

    rows: Tensor | slice
    items: Tensor
    last: Tensor

    def at_last(self, states: Tensor) -> Tensor:
        """Return the rows at their last positions, [B, ...], of states of the whole batch, [rows, length, ...]."""
        return states[self.rows][torch.arange(len(self.last), device=states.device), self.last]


class WholeMasks:
    """Dropout masks as RecBole's forward draws them: one after another, each for all positions of the batch.

    Args:
        model: The model.
        rows: Rows of the batch.
        length: Length of its histories, padding included.
    """

    def __init__(self, model: SASRec, rows: int, length: int) -> None:
        states = (rows, length, model.hidden_size)
        self._input = _drawn(states, model.dropout.p)
        self._layers = [
            (
                _drawn((rows, layer.multi_head_attention.num_attention_heads, length, length), attention),
                _drawn(states, output),
                _drawn(states, feed_forward),
            )
            for layer, (attention, output, feed_forward) in zip(model.trm_encoder.layer, _rates(model), strict=True)
        ]

    def input(self, some: Rows) -> Tensor | None:
        """Return the mask of the input of some rows, [B, L, D]; None without dropout."""
        return _cut(self._input, some)

    def of_layer(self, number: int, some: Rows) -> list[Tensor | None]:
        """Return the masks of attention, its output and the feed-forward: [B, H, L, L], [B, L, D] twice."""
        attention, *others = self._layers[number]
        length = some.items.shape[1]
        cut = None if attention is None else attention[some.rows, :, :length, :length]
        return [cut, *(_cut(mask, some) for mask in others)]

    def of_last(self, some: Rows) -> list[Tensor | None]:
        """Return the last layer's masks at the last positions: [B, H, L], [B, D] twice."""
        attention, *others = self._layers[-1]
        length = some.items.shape[1]
        cut = None if attention is None else some.at_last(attention.transpose(1, 2))[..., :length]
        return [cut, *(None if mask is None else some.at_last(mask) for mask in others)]


class OwnMasks:
    """Dropout masks drawn only for what is used; the methods are those of :class:`WholeMasks`."""

    def __init__(self, model: SASRec) -> None:
        self._width = model.hidden_size
        self._heads = [layer.multi_head_attention.num_attention_heads for layer in model.trm_encoder.layer]
        self._input, self._rates = model.dropout.p, _rates(model)

    def input(self, some: Rows) -> Tensor | None:
        return _drawn_quickly((*some.items.shape, self._width), self._input, some.items.device)

    def of_layer(self, number: int, some: Rows) -> list[Tensor | None]:
        rows, length = some.items.shape
        return self._of(number, (rows, self._heads[number], length, length), (rows, length, self._width), some)

    def of_last(self, some: Rows) -> list[Tensor | None]:
        rows, length = some.items.shape
        return self._of(-1, (rows, self._heads[-1], length), (rows, self._width), some)

    def _of(self, number: int, scores: tuple[int, ...], states: tuple[int, ...], some: Rows) -> list[Tensor | None]:
        shapes = (scores, states, states)
        pairs = zip(shapes, self._rates[number], strict=True)
        return [_drawn_quickly(shape, rate, some.items.device) for shape, rate in pairs]


class NoMasks:
    """No dropout; the methods are those of :class:`WholeMasks`."""

    def input(self, some: Rows) -> Tensor | None:
        return None

    def of_layer(self, number: int, some: Rows) -> list[Tensor | None]:
        return [None] * 3

    def of_last(self, some: Rows) -> list[Tensor | None]:
        return [None] * 3


class QuickSASRec(SASRec):  # type: ignore[misc]
    """SASRec; see the module.

    Args:
        config: The experiment's configuration.
        dataset: The training part of a sequential dataset.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self._exact_dropout = RunOptions(config).exact_dropout

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """Return the states after the histories.

        Args:
            item_seq: Item ids, int64 [B, L], 0 after the end.
            item_seq_len: Items of each history, int64 [B].

        Returns:
            float32 [B, D].
        """
        device = item_seq.device.type
        drops = self.training and any((self.dropout.p, *(rate for rates in _rates(self) for rate in rates)))
        # on a GPU RecBole's masks come from another kernel; autocast has its own opinion of every operation
        if torch.is_autocast_enabled(device) or (drops and self._exact_dropout and device != "cpu"):
            return super().forward(item_seq, item_seq_len)
        masks: Any = NoMasks()
        if drops:
            masks = WholeMasks(self, *item_seq.shape) if self._exact_dropout else OwnMasks(self)
        groups = _groups(item_seq, item_seq_len)
        states = [self._states(some, masks) for some in groups]
        if len(groups) == 1:
            return states[0]
        order = torch.cat([some.rows for some in groups])  # type: ignore[misc]
        return torch.cat(states)[torch.argsort(order)]

    def _states(self, some: Rows, masks: Any) -> Tensor:
        """Return the states at the last positions of some rows, [B, D]."""
        length = some.items.shape[1]
        x = self.LayerNorm(self.item_embedding(some.items) + self.position_embedding.weight[:length])
        if (mask := masks.input(some)) is not None:
            x = x * mask
        known = some.items != 0
        visible = torch.where(torch.tril(known[:, None, None, :].expand(-1, -1, length, -1)), 0.0, _MASKED)
        *layers, last = self.trm_encoder.layer
        for number, layer in enumerate(layers):
            x = _layer(layer, x, visible, masks.of_layer(number, some))
        return _last_layer(last, x, torch.where(known, 0.0, _MASKED), some.last, masks.of_last(some))


def quick_class(model: type) -> type:
    """Return the quick version of a model class of RecBole; any other class itself."""
    return QuickSASRec if model is SASRec else model


def fuse_gelu(model: nn.Module) -> None:
    """Give RecBole's feed-forward layers torch's GELU: one pass instead of five, the same numbers but for rounding."""
    for module in model.modules():
        if isinstance(module, FeedForward) and module.intermediate_act_fn == module.gelu:
            module.intermediate_act_fn = functional.gelu


def _rates(model: SASRec) -> list[tuple[float, float, float]]:
    """Return the dropout rates of each layer's attention, its output and its feed-forward."""
    return [
        (
            layer.multi_head_attention.attn_dropout.p,
            layer.multi_head_attention.out_dropout.p,
            layer.feed_forward.dropout.p,
        )
        for layer in model.trm_encoder.layer
    ]


def _drawn(shape: Sequence[int], rate: float) -> Tensor | None:
    """Draw a mask with the numbers that torch's dropout takes from the generator."""
    return torch.empty(shape).bernoulli_(1 - rate).div_(1 - rate) if rate else None


def _drawn_quickly(shape: Sequence[int], rate: float, device: torch.device) -> Tensor | None:
    """Draw a mask from random bits, 16 for each value: its rate is rounded to 1/65536, its mean is 1."""
    if not rate:
        return None
    kept, count = max(round((1 - rate) * _LEVELS), 1), math.prod(shape)
    bits = torch.randint(-(1 << 63), (1 << 63) - 1, (-(-count // 4),), device=device).view(torch.int16)
    return (bits[:count].view(shape) < kept - _LEVELS // 2).to(torch.float32).mul_(_LEVELS / kept)


def _cut(mask: Tensor | None, some: Rows) -> Tensor | None:
    return None if mask is None else mask[some.rows, : some.items.shape[1]]


def _groups(items: Tensor, lengths: Tensor) -> list[Rows]:
    """Return the rows of a batch, in groups of similar length if much of it is padding."""
    groups = length_groups(lengths)
    if len(groups) == 1:
        return [Rows(slice(None), items[:, : int(lengths.max())], lengths - 1)]
    return [Rows(rows, items[rows, : int(lengths[rows[-1]])], lengths[rows] - 1) for rows in groups]


def _layer(layer: Any, x: Tensor, visible: Tensor, masks: Sequence[Tensor | None]) -> Tensor:
    """Run a layer of RecBole's encoder on [B, L, D]; ``visible`` [B, 1, L, L] is added to the scores."""
    attention = layer.multi_head_attention
    heads, (rows, length, width) = attention.num_attention_heads, x.shape
    parts = (attention.query, attention.key, attention.value)
    weight, bias = torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])
    joined = functional.linear(x, weight, bias).view(rows, length, 3, heads, width // heads)
    query, key, value = joined.permute(2, 0, 3, 1, 4).unbind(0)
    scores = (query / attention.sqrt_attention_head_size) @ key.transpose(-1, -2) + visible
    chances = _dropped(torch.softmax(scores, dim=-1), masks[0])
    attended = attention.dense((chances @ value).transpose(1, 2).reshape(rows, length, width))
    return _feed_forward(layer.feed_forward, attention.LayerNorm(_added(x, attended, masks[1])), masks[2])


def _last_layer(layer: Any, x: Tensor, visible: Tensor, last: Tensor, masks: Sequence[Tensor | None]) -> Tensor:
    """Run the last layer on [B, L, D] for the states at ``last`` [B] alone; ``visible`` is [B, L]; returns [B, D]."""
    attention = layer.multi_head_attention
    heads, (rows, _, width) = attention.num_attention_heads, x.shape
    size = width // heads
    own = x[torch.arange(rows, device=x.device), last]
    query = (attention.query(own) / attention.sqrt_attention_head_size).view(rows, heads, size)
    # q (W x) = (q W) x: no keys are needed, and no key bias, which adds the same number to all scores of a row
    reading = torch.einsum("bhd,hde->bhe", query, attention.key.weight.view(heads, size, width))
    chances = _dropped(torch.softmax(reading @ x.transpose(1, 2) + visible[:, None], dim=-1), masks[0])
    value = torch.einsum("bhe,hde->bhd", chances @ x, attention.value.weight.view(heads, size, width))
    value = value + chances.sum(dim=-1, keepdim=True) * attention.value.bias.view(heads, size)
    attended = attention.dense(value.reshape(rows, width))
    return _feed_forward(layer.feed_forward, attention.LayerNorm(_added(own, attended, masks[1])), masks[2])


def _feed_forward(layer: Any, x: Tensor, mask: Tensor | None) -> Tensor:
    output: Tensor = layer.LayerNorm(_added(x, layer.dense_2(layer.intermediate_act_fn(layer.dense_1(x))), mask))
    return output


def _dropped(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask


def _added(x: Tensor, more: Tensor, mask: Tensor | None) -> Tensor:
    """Return ``x + more`` after dropout of ``more``, in one pass."""
    return x + more if mask is None else torch.addcmul(x, more, mask)
