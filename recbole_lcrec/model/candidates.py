"""What models share that rank candidates with a tuned language model, without an item index.

They cannot search the catalogue: every candidate costs a forward pass. They are evaluated on a target among sampled
items (RecBole's modes uniN and popN), which is not comparable with ranking the whole catalogue; every other model can
be evaluated in the same mode, and then meets the same candidates.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType

from recbole_lcrec.config import settings_from
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.decoding.continuations import Continuations
from recbole_lcrec.distributed.group import wants_fsdp
from recbole_lcrec.instruction.text_dataset import TextCatalogue
from recbole_lcrec.model.instruction_tuned import InstructionTuned
from recbole_lcrec.model.lm import LMSettings, build_lm, save_architecture, trial_lm
from recbole_lcrec.model.sample_logits import SampleLogits, SampleLogitsSettings
from recbole_lcrec.usertext import SAVED_TEXTS, write_published
from recbole_lcrec.utils.errors import UserError

logger = logging.getLogger(__name__)


class CandidateRanker(InstructionTuned, SequentialRecommender):
    """Base class of models that give each candidate a score of its own.

    A subclass implements ``score`` on histories and candidates; RecBole's ``predict`` and ``recommend_rows`` are built
    on it here.

    Attributes:
        settings: Classes that its options are read into, each checked before data are read.
        catalogue: Text and prompts of the items.
        lm: The language model.

    Args:
        config: The experiment's configuration.
        dataset: The training part of a TextDataset.
    """

    input_type = InputType.POINTWISE
    settings: ClassVar[tuple[Any, ...]] = (LMSettings, SampleLogitsSettings)

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        run = RunOptions(config)
        if not run.show_progress:
            from transformers.utils.logging import disable_progress_bar

            disable_progress_bar()  # while weights load
        self._exclude_history = run.exclude_history
        settings = settings_from(LMSettings, config)
        self.catalogue: TextCatalogue = dataset.catalogue
        self.prepare_prompts(config)
        self.lm = build_lm(settings, self.catalogue.tokenizer, (), run.saved_folder)
        self._adapter_only = settings.tuning == "lora"
        self._logits_at = SampleLogits(self.lm, settings_from(SampleLogitsSettings, config), once=wants_fsdp(config))
        self._continuations = Continuations(self.lm)
        modes = run.eval_modes
        logger.info(
            "%s ranks candidates (validation: %s, test: %s): compare it with models evaluated in the same mode only.",
            type(self).__name__, modes["valid"], modes["test"],
        )  # fmt: skip

    @classmethod
    def check_models(cls, config: Any) -> None:
        """Build the language model once, and check what it supports.

        Raises:
            UserError: For a model of another kind, or options that it does not support.
        """
        lm = trial_lm(settings_from(LMSettings, config))
        SampleLogits(lm, settings_from(SampleLogitsSettings, config), once=wants_fsdp(config))

    def prepare_prompts(self, config: Any) -> None:
        """Note what the prompts have in common, before the language model is loaded; ``catalogue`` is set.

        Raises:
            UserError: For a tokenizer that does not suit the prompts.
        """

    def score(self, histories: Sequence[np.ndarray], candidates: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """Return the scores of each history's candidates, higher is better.

        Args:
            histories: Catalogue rows, oldest first, int64 [n] each.
            candidates: Catalogue rows, int64 [c] each.

        Returns:
            float32 [c] per history.
        """
        raise TypeError(f"{type(self).__name__} does not implement score")

    def predict(self, interaction: Interaction) -> torch.Tensor:
        """Return the score of each row's item after its history, float32 [B].

        The prompt of rows that share a history (candidates of one user) is run once.
        """
        ids = interaction[self.ITEM_SEQ].cpu().numpy()
        lengths = interaction[self.ITEM_SEQ_LEN].tolist()
        items = self.catalogue.row_of_id[interaction[self.ITEM_ID].cpu().numpy()]
        groups: dict[bytes, list[int]] = {}
        for row, length in enumerate(lengths):
            groups.setdefault(ids[row, :length].tobytes(), []).append(row)
        places = list(groups.values())
        histories = [self.catalogue.row_of_id[ids[rows[0], : lengths[rows[0]]]] for rows in places]
        result = torch.empty(len(items), dtype=torch.float32)
        for rows, scores in zip(places, self.score(histories, [items[rows] for rows in places]), strict=True):
            result[rows] = scores
        return result.to(self.device)

    def full_sort_predict(self, interaction: Interaction) -> torch.Tensor:
        """Refuse: ranking the whole catalogue takes a forward pass per item.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{type(self).__name__} ranks candidates; it cannot rank the whole catalogue.")

    def recommend_rows(
        self,
        histories: Sequence[np.ndarray],
        k: int,
        among: np.ndarray | None = None,
        users: Sequence[int] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the best k of the candidates for each history: (catalogue rows, scores), [B, k].

        With ``exclude_history`` candidates that are in a history have score -inf.

        Args:
            histories: Catalogue rows, oldest first; the last MAX_ITEM_LIST_LENGTH count.
            k: Items per history; fewer if there are not that many.
            among: Catalogue rows to choose from, int64 [n].
            users: Not used: the model knows histories alone.

        Raises:
            UserError: Without candidates.
        """
        if among is None:
            raise UserError(
                f"recommend: {type(self).__name__} ranks candidates and cannot search the whole catalogue. Give the "
                "items to choose from: recommend(histories, k, among=[...])."
            )
        limit = int(self.max_seq_length)
        scores = torch.stack(self.score([history[-limit:] for history in histories], [among] * len(histories)))
        if self._exclude_history:
            seen = np.stack([np.isin(among, history) for history in histories])
            scores = scores.masked_fill(torch.from_numpy(seen), -torch.inf)
        order = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
        return among[order.numpy()], scores.gather(1, order).numpy()

    def score_row(self, histories: Sequence[np.ndarray], row: int) -> list[float]:
        """Return the score of a catalogue row after each history of catalogue rows."""
        limit = int(self.max_seq_length)
        scores = self.score([history[-limit:] for history in histories], [np.array([row])] * len(histories))
        return [float(one) for one in torch.cat(scores)]

    def save_assets(self, folder: Path) -> None:
        """Write what a saved run needs in addition to the weights: tokenizer, user texts, the LM's architecture."""
        self.catalogue.tokenizer.save_pretrained(folder / "tokenizer")
        save_architecture(self.lm, folder / "lm")
        if self.catalogue.user_texts:
            write_published(folder / SAVED_TEXTS, self.catalogue.user_texts, self.catalogue.text.items)
