"""Find out, by numbers, how beams may be run through a given language model.

Folding relies on the model using the position ids and the 4D mask that it is given. Some architectures take these
arguments and ignore them, others have a window, a recurrent state or an attention kernel that folding does not fit:
nothing fails, the ranking is just wrong. So before a way is trusted, it is compared on a small probe with a plain
forward without any cache.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from recbole_lcrec.decoding.architecture import attention_kernel, base_model, evaluating, model_dtype
from recbole_lcrec.decoding.forward import FORWARDS, BeamForward, Mode, PlainForward
from recbole_lcrec.decoding.prefix import SharedPrefix
from recbole_lcrec.utils.lm_config import number_of

logger = logging.getLogger(__name__)

PROBE_PARENTS = ((0, 0, 0), (2, 0, 2, 1), (3, 0, 0, 2))
"""Which beam each beam of a step continues: beams branch, die out, change places."""

PROBE_LENGTH = 8
"""Tokens of the longer probe prompt; the other one is left-padded."""

PROBE_PREFIX = 3
"""Tokens that both probe prompts have before these."""

LONGEST_PROBE = 1024
"""Largest sliding window for which the probe is made longer than the window; beyond, it would cost too much."""

_known: WeakKeyDictionary[nn.Module, dict[Hashable, Mode]] = WeakKeyDictionary()


@torch.no_grad()
def choose_mode(lm: nn.Module, max_length: int | None = None) -> Mode:
    """Return the fastest way of running beams that gives this model's true logits.

    A left-padded random batch and a small tree of random beams are run through every way and compared with a plain
    forward that uses no cache. Meanwhile the model is in evaluation mode; afterwards its mode is restored. No global
    random number is drawn.

    Args:
        lm: A causal language model of transformers, also one wrapped by peft.
        max_length: Most tokens, prompt and all beams' tokens together, that one user's sequence will hold, if known.
            It only matters for models that attend to a window: these are folded only if the whole sequence fits.

    Returns:
        ``"fold"``, else ``"expand"``, else ``"recompute"``, which requires nothing special of a model.
    """
    window = attention_window(lm)
    folds = window is None or (max_length is not None and max_length <= window)
    length = PROBE_LENGTH if folds or window is None or window > LONGEST_PROBE else window + 4
    with evaluating(lm):
        probe = _Probe(lm, length)
        reasons = [] if folds else [f"fold: it attends to a window of {window} tokens"]
        candidates: tuple[Mode, ...] = ("fold", "expand") if folds else ("expand",)
        for mode in candidates:
            reason = probe.objection(mode)
            if reason is None:
                break
            reasons.append(f"{mode}: {reason}")
        else:
            mode = "recompute"
    if reasons:
        logger.info("Beams of %s are run in mode '%s' (%s).", type(base_model(lm)).__name__, mode, "; ".join(reasons))
    return mode


def remembered_mode(lm: nn.Module, max_length: int) -> Mode:
    """Return `choose_mode` of a model, computed once per model and per setting that may change the answer."""
    window = attention_window(lm)
    fits = window is None or max_length <= window
    key = (fits, attention_kernel(lm), _compute_dtype(lm), _device(lm).type, torch.get_float32_matmul_precision())
    answers = _known.setdefault(lm, {})
    if key not in answers:
        answers[key] = choose_mode(lm, max_length if fits else None)
    return answers[key]


def attention_window(lm: nn.Module) -> int | None:
    """Return the smallest number of tokens to which a layer of the model limits attention; None without a limit.

    Names as in transformers' configurations: sliding windows (Mistral, Gemma), chunks (Llama 4), local attention
    (GPT-Neo).
    """
    config = base_model(lm).config
    sizes = [number_of(config, name) for name in ("sliding_window", "attention_chunk_size", "window_size")]
    return min((size for size in sizes if isinstance(size, int) and size > 0), default=None)


class _Probe:
    """A random batch with random beams, and the model's true logits for them."""

    def __init__(self, lm: nn.Module, length: int) -> None:
        self._lm = lm
        generator = torch.Generator().manual_seed(0)
        device = _device(lm)
        vocabulary = base_model(lm).get_input_embeddings().weight.shape[0]

        def draw(n_tokens: int) -> Tensor:
            return torch.randint(vocabulary, (2, n_tokens), generator=generator).to(device)

        self._input_ids = draw(length)
        self._attention_mask = torch.ones_like(self._input_ids)
        self._attention_mask[0, :3] = 0
        self._steps = [
            (draw(len(parents)), torch.tensor(parents, device=device).expand(2, -1)) for parents in PROBE_PARENTS
        ]
        self._prefix = SharedPrefix(draw(PROBE_PREFIX)[0])
        self._truth = self._logits(PlainForward)

    def _logits(self, way: type[BeamForward]) -> Tensor:
        """Return the logits [rows, V] after the prompts and after every beam of every step."""
        extra = sum(map(len, PROBE_PARENTS))
        forward = way(self._lm, self._input_ids, self._attention_mask, extra, self._prefix)
        states = [forward.start()]
        states += [forward.advance(tokens, parents).flatten(0, 1) for tokens, parents in self._steps]
        logits = [forward.readout.logits(part) for part in states]
        return torch.cat(logits).to(torch.promote_types(logits[0].dtype, torch.float32))

    def objection(self, mode: Mode) -> str | None:
        """Return why ``mode`` must not be used, or None when its logits are the true ones."""
        try:
            logits = self._logits(FORWARDS[mode])
        except Exception as error:  # the errors of architectures that do not support this cannot be listed
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        difference = relative_difference(logits, self._truth)
        tolerance = _tolerance(_compute_dtype(self._lm))
        # Not "difference > tolerance": a NaN must count as a difference.
        return None if difference <= tolerance else f"its logits differ from a plain forward's by {difference:.1e}"


def relative_difference(logits: Tensor, truth: Tensor) -> float:
    """Return the maximum over rows of |logits - truth| relative to the spread of ``truth``, both [rows, V] (RMS).

    Relative, because a freshly initialised model has logits so small that the absolute error of any mask would pass.
    """
    spread = (truth - truth.mean(dim=-1, keepdim=True)).norm(dim=-1)
    error = (logits - truth).norm(dim=-1) / spread.clamp(min=torch.finfo(truth.dtype).tiny)
    return error.max().item()


def _tolerance(dtype: torch.dtype) -> float:
    """Return eight roundings of ``dtype``, or of the format in which float32 matrices are multiplied; at least 1e-4.

    Measured on tiny models: 2e-6 in float32 and 2e-2 in bfloat16 for correct logits; 5e-3 for wrong positions in a
    freshly initialised model, 1 and more once attention matters.
    """
    # "high" lets float32 products use TF32 (10 bits of mantissa), "medium" bfloat16 (7 bits).
    product = {"high": 2.0**-10, "medium": 2.0**-7}.get(torch.get_float32_matmul_precision(), 0.0)
    eps = max(torch.finfo(dtype).eps, product if dtype == torch.float32 else 0.0)
    return max(1e-4, 8 * eps)


def _compute_dtype(lm: nn.Module) -> torch.dtype:
    """Return the coarsest dtype that the model computes in, including autocast."""
    device_type = _device(lm).type
    return torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else model_dtype(lm)


def _device(lm: nn.Module) -> torch.device:
    return base_model(lm).get_input_embeddings().weight.device
