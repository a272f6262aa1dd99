"""LC-Rec (arXiv 2311.09049): a language model tuned on alignment tasks recommends by generating item indices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_lcrec.config import settings_from
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.decoding import (
    ItemScores,
    Mode,
    PathStep,
    SharedPrefix,
    TokenTrie,
    choose_mode,
    constrained_beam_search,
    path_steps,
    score_paths,
)
from recbole_lcrec.decoding.architecture import base_model
from recbole_lcrec.decoding.batching import prompts_at_once, run_halving, similar_lengths
from recbole_lcrec.decoding.beam import MAX_CHUNK
from recbole_lcrec.decoding.item_scores import NUMBERS_PER_ITEM
from recbole_lcrec.decoding.readout import HeadReadout
from recbole_lcrec.distributed.group import wants_fsdp
from recbole_lcrec.evaluation.queries import EVAL_TEMPLATES, SEARCH
from recbole_lcrec.index.build import IndexSettings
from recbole_lcrec.index.catalogue import Catalogue
from recbole_lcrec.instruction.dataset import InstructionCatalogue
from recbole_lcrec.instruction.loader import left_pad
from recbole_lcrec.instruction.prompt_settings import InstructionSettings
from recbole_lcrec.instruction.prompts import Context
from recbole_lcrec.instruction.templates import PREFERENCEOBTAIN, Template
from recbole_lcrec.model.generative import GenerativeRecommender, HistoryFrame, Request, excluded_rows
from recbole_lcrec.model.instruction_tuned import check_author
from recbole_lcrec.model.item_inputs import ItemInputs, ItemVectorSettings, feed_items, item_log_probs
from recbole_lcrec.model.lm import LMSettings, build_lm, save_architecture, trial_lm
from recbole_lcrec.model.path_policy import PathPolicy
from recbole_lcrec.model.preferences import PreferenceSettings
from recbole_lcrec.model.sample_logits import SampleLogits, SampleLogitsSettings
from recbole_lcrec.quantizer import QuantizerSettings, quantizer_class
from recbole_lcrec.usertext import SAVED_TEXTS, UserTextSettings, write_published
from recbole_lcrec.utils.errors import Mistakes, UserError
from recbole_lcrec.utils.run_files import EMBEDDINGS

BatchFunction = Callable[[np.ndarray, torch.Tensor, torch.Tensor, SharedPrefix], None]


class LCRec(PathPolicy, GenerativeRecommender):
    """LC-Rec on any causal language model.

    Args:
        config: The experiment's configuration.
        dataset: The training part of an LCRecDataset.
    """

    settings = (
        *GenerativeRecommender.settings,
        InstructionSettings,
        ItemVectorSettings,
        UserTextSettings,
        LMSettings,
        SampleLogitsSettings,
        PreferenceSettings,
    )
    catalogue: InstructionCatalogue
    wordings = {task: len(templates) for task, templates in EVAL_TEMPLATES.items()}

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings, items = settings_from(LMSettings, config), settings_from(ItemVectorSettings, config)
        saved = RunOptions(config).saved_folder
        self.tokenizer = self.catalogue.tokenizer
        self.lm = build_lm(settings, self.tokenizer, self.catalogue.index.index_tokens(), saved)
        self._adapter_only = settings.tuning == "lora"
        self._reads_embeddings = items.item_features
        if items.are_read:
            self._feed_items(items.item_prefixes)
        self._item_loss_weight, self.item_score_weight = items.item_loss_weight, items.item_score_weight
        self._logits_at = self._sample_logits(self.lm, config)
        prompts = settings_from(InstructionSettings, config)
        self.keeps_apart = prompts.nests_histories and self._logits_at.passes_over()
        self._without_words = "seqrec" if "seqrec" in prompts.tasks else "nextitem"
        level_of_token = torch.full((base_model(self.lm).get_input_embeddings().weight.shape[0],), -1)
        sizes = torch.tensor(self.catalogue.index.level_sizes)
        level_of_token[self.catalogue.code_ids] = torch.arange(len(sizes)).repeat_interleave(sizes)
        self.register_buffer("_level_of_token", level_of_token, persistent=False)
        self._max_length = settings.max_length + self.catalogue.paths.shape[1]
        self._mode: Mode | None = None
        self._prefixes: dict[Template, SharedPrefix] = {}

    @classmethod
    def check_options(cls, config: Any) -> None:
        """See the base class.

        Raises:
            UserError: Also if the model does not learn the task that it is to be evaluated in, or options of item
                vectors contradict each other or lack what they need.
        """
        mistakes = Mistakes()
        with mistakes.caught():
            super().check_options(config)
        with mistakes.caught():
            items, prompts = settings_from(ItemVectorSettings, config), settings_from(InstructionSettings, config)
            task = cls.asked(config).eval_task
            mistakes.expect(
                task not in ("seqrec", "nextitem") or task in prompts.tasks,
                f"eval_task={task}: expected one of the tasks that are learned, tasks={prompts.tasks}.",
            )
            if items.are_read:
                mistakes.expect(
                    settings_from(LMSettings, config).tuning != "lora",
                    "history_input=item: adapters read tokens only. Use tuning=full, or recipe=paper.",
                )
                mistakes.expect(
                    not (settings_from(SampleLogitsSettings, config).packing and prompts.history_loss_weight),
                    "history_input=item with history_loss_weight does not go with packing. Leave packing out.",
                )
            if items.item_features and RunOptions(config).saved_folder is None:
                cls._check_embeddings(config, mistakes)
        with mistakes.caught():
            settings_from(PreferenceSettings, config).check_beside(config)
        mistakes.finish()

    @staticmethod
    def _check_embeddings(config: Any, mistakes: Mistakes) -> None:
        """Note if there are no embeddings for ``item_features`` to read."""
        index_file = settings_from(IndexSettings, config).index_file
        without = f"index_file={index_file}" if index_file else ""
        quantizer = settings_from(QuantizerSettings, config).quantizer
        if not quantizer_class(quantizer).needs_embeddings:
            without = without or f"quantizer={quantizer}"
        mistakes.expect(
            not without,
            f"item_features reads the embeddings that the index was built from; with {without} there are none. "
            "Set item_features to False, or build the index from embeddings.",
        )

    @classmethod
    def check_models(cls, config: Any) -> None:
        """Build the language model once, as far as that is possible without an index, and check what it supports.

        Raises:
            UserError: For a model of another kind, or options that it does not support.
        """
        check_author(config)
        cls._sample_logits(trial_lm(settings_from(LMSettings, config)), config)

    @classmethod
    def _sample_logits(cls, lm: Any, config: Any) -> SampleLogits:
        """Return the object that computes a language model's logits of samples.

        Raises:
            UserError: For options that the model does not support.
        """
        logits = SampleLogits(lm, settings_from(SampleLogitsSettings, config), once=wants_fsdp(config))
        items = settings_from(ItemVectorSettings, config)
        if items.are_read and settings_from(InstructionSettings, config).history_loss_weight:
            logits.require_aside("history_input=item with history_loss_weight")
        if items.item_loss_weight and not isinstance(logits.readout, HeadReadout):
            raise UserError(
                f"item_loss_weight: the logits of {type(base_model(lm)).__name__} are more than a linear layer on "
                "hidden states, so there is no state to compare items with. Set it to 0, or use another base_model."
            )
        return logits

    def use_catalogue(self, catalogue: Catalogue) -> None:
        """See the base class; histories may hold the new catalogue's items."""
        super().use_catalogue(catalogue)
        lm = self._modules.get("lm")  # not there while the model is being made
        inputs = lm and base_model(lm).get_input_embeddings()
        if isinstance(inputs, ItemInputs):
            inputs.use_items(torch.from_numpy(catalogue.paths), self._features(catalogue))

    def generate(
        self, requests: Sequence[Request], trie: TokenTrie, num_beams: int, prompt: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the best items per request by constrained beam search: (catalogue rows, scores), both [B, K]."""
        trie, softmax = trie.to(self.device), self.softmax(self.evaluation.normalization)
        excluded, items = excluded_rows(requests, self.device), self._item_scores(trie)
        found: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

        def search(numbers: np.ndarray, ids: torch.Tensor, mask: torch.Tensor, prefix: SharedPrefix) -> None:
            closed = None if excluded is None else excluded[numbers]
            rows, scores = constrained_beam_search(
                self.lm, ids, mask, trie, num_beams, self._decoding_mode(), prefix, softmax, closed, items
            )
            found.update(zip(numbers.tolist(), zip(rows, scores, strict=True), strict=True))

        self._in_batches(requests, prompt, min(num_beams, len(trie.paths)) * (trie.n_levels - 1), search)
        rows, scores = zip(*(found[number] for number in range(len(requests))), strict=True)
        return torch.stack(rows), torch.stack(scores)

    def score(self, requests: Sequence[Request], paths: torch.Tensor, prompt: int) -> torch.Tensor:
        """Return the scores [B, C] of candidate paths [B, C, L] after each request."""
        paths, softmax = paths.to(self.device), self.softmax(self.evaluation.normalization)
        items = self._item_scores(self._whole_trie())
        found: dict[int, torch.Tensor] = {}

        def score(numbers: np.ndarray, ids: torch.Tensor, mask: torch.Tensor, prefix: SharedPrefix) -> None:
            candidates = paths[torch.from_numpy(numbers).to(self.device)]
            scores = score_paths(self.lm, ids, mask, candidates, self._decoding_mode(), prefix, softmax, items)
            found.update(zip(numbers.tolist(), scores, strict=True))

        appended = min(paths.shape[1], MAX_CHUNK) * (paths.shape[2] - 1)
        self._in_batches(requests, prompt, appended, score)
        return torch.stack([found[number] for number in range(len(requests))])

    def history_frame(self) -> HistoryFrame:
        """See the base class; only for wordings with no other text of the catalogue than the history's paths."""
        builder = self.catalogue.builder
        template = self._template(Request(np.zeros(0, np.int64)), self.prompts[0])
        before, between, behind = (ids.tolist() for ids in builder.around_history(template))
        return HistoryFrame(before, between, behind, builder.settings.max_length)

    def steps(self, request: Request, path: torch.Tensor) -> list[PathStep]:
        """Return what each code of a path [L] (vocabulary ids) competed with, in the first wording in use."""
        found: list[PathStep] = []
        path, trie, softmax = path.to(self.device), self._whole_trie(), self.softmax(self.evaluation.normalization)
        items = self._item_scores(trie)

        def run(numbers: np.ndarray, ids: torch.Tensor, mask: torch.Tensor, prefix: SharedPrefix) -> None:
            found[:] = path_steps(self.lm, ids, mask, path, trie, self._decoding_mode(), prefix, softmax, items)

        self._in_batches([request], self.prompts[0], len(path) - 1, run)
        return found

    def search_rows(self, text: str, history: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the best k rows of the whole catalogue for free words (task itemsearch): (rows, scores), [1, k].

        Args:
            text: What is looked for.
            history: The user's catalogue rows, oldest first; it may be empty.
            k: Items to return.
        """
        request = Request(history[-int(self.max_seq_length) :], text, searching=True)
        rows, scores = self.generate([request], self._whole_trie(), max(k, self.num_beams), 0)
        return rows[:, :k].cpu().numpy(), scores[:, :k].float().cpu().numpy()

    def preferences_of(self, history: np.ndarray, max_tokens: int) -> str:
        """Return what the model says of a user's preferences (task preferenceobtain), in its own words.

        Args:
            history: Catalogue rows, oldest first.
            max_tokens: Maximum number of tokens in the answer.
        """
        prompt = self.catalogue.builder.prompt(PREFERENCEOBTAIN[0], Context(history[-int(self.max_seq_length) :]))
        return self.written_behind(prompt, max_tokens, without=self.catalogue.code_ids.tolist())

    def save_assets(self, folder: Path) -> None:
        """Write what a saved run needs apart from the weights: index, tokenizer, user texts, the LM's architecture."""
        self.catalogue.indexed.save(folder, embeddings=self._reads_embeddings)
        self.tokenizer.save_pretrained(folder / "tokenizer")
        save_architecture(self.lm, folder / "lm")
        if self.catalogue.user_texts:
            write_published(folder / SAVED_TEXTS, self.catalogue.user_texts, self.catalogue.text.items)

    def _feed_items(self, prefixes: bool) -> None:
        trained = torch.from_numpy(self.catalogue.trained_paths) if prefixes else None
        feed_items(self.lm, torch.from_numpy(self.catalogue.paths), trained, self._features(self.catalogue))

    def _features(self, catalogue: Catalogue) -> torch.Tensor | None:
        """Return what ``item_features`` feeds for each catalogue item, float32 [n_rows, F]; None for nothing."""
        if not self._reads_embeddings:
            return None
        if catalogue.embeddings is None:  # only in a saved run: else check_options has refused it
            raise UserError(
                f"item_features: the run has no {EMBEDDINGS}. Bring the file back, or leave item_features as it was "
                "in training."
            )
        return torch.from_numpy(catalogue.embeddings)

    def _item_vectors(self) -> torch.Tensor:
        """Return the vectors of all catalogue rows, [n_rows, D]."""
        inputs: ItemInputs = base_model(self.lm).get_input_embeddings()
        return inputs.vectors()

    @torch.no_grad()
    def _item_scores(self, trie: TokenTrie) -> ItemScores | None:
        """Return the scoring of whole items of a trie, which may lack some of the catalogue's."""
        if not self.item_score_weight:
            return None
        columns, vectors = self.rows_of(trie.paths), self._item_vectors()

        def log_probs(states: torch.Tensor) -> torch.Tensor:
            return item_log_probs(states, vectors)[:, columns]

        return ItemScores(trie, log_probs, self.item_score_weight)

    def _in_batches(
        self,
        requests: Sequence[Request],
        prompt: int,
        beam_tokens: int,
        run: BatchFunction,
    ) -> None:
        """Write the requests' prompts in the task's wording and run them in batches of similar length.

        Args:
            requests: What is asked.
            prompt: Number of the wording.
            beam_tokens: Tokens that all beams of a request append together.
            run: Gets the numbers of a batch's requests int64 [B], their left-padded prompts without the instruction
                (input_ids, attention_mask), int64 [B, T], and the instruction.
        """
        per_item = 4 * NUMBERS_PER_ITEM if self.item_score_weight else 0
        per_prompt = per_item * len(self.catalogue.paths)
        templates = [self._template(request, prompt) for request in requests]
        for template in dict.fromkeys(templates):
            numbers = np.array([number for number, other in enumerate(templates) if other is template])
            prompts = [self._prompt(requests[number], template) for number in numbers]
            prefix = self._prefix(template, prompts)
            rests = [ids[len(prefix) :] for ids in prompts]
            run_numbers = partial(self._run_batch, numbers, rests, prefix, run)
            limit = prompts_at_once(self.lm, max(map(len, prompts)), beam_tokens, per_prompt)
            for places in similar_lengths([len(rest) for rest in rests], limit):
                run_halving(run_numbers, places)

    def _run_batch(
        self,
        numbers: np.ndarray,
        rests: Sequence[np.ndarray],
        prefix: SharedPrefix,
        run: BatchFunction,
        places: np.ndarray,
    ) -> None:
        ids, mask = left_pad([rests[place] for place in places], self.catalogue.builder.pad_id)
        run(numbers[places], ids.to(self.device), mask.to(self.device), prefix)

    def _prompt(self, request: Request, template: Template) -> np.ndarray:
        return self.catalogue.builder.prompt(template, Context(request.history, intention=request.query))

    def _prefix(self, template: Template, prompts: Sequence[np.ndarray]) -> SharedPrefix:
        """Return the instruction that all prompts of a wording begin with; an empty one if some do not."""
        if template not in self._prefixes:
            ids = self.catalogue.builder.shared_prefix(template)
            self._prefixes[template] = SharedPrefix(torch.from_numpy(ids).long())
        prefix = self._prefixes[template]
        ids = prefix.ids.numpy()
        same = all(len(ids) < len(prompt) and np.array_equal(prompt[: len(ids)], ids) for prompt in prompts)
        return prefix if same else SharedPrefix(prefix.ids[:0])

    def _template(self, request: Request, prompt: int) -> Template:
        """Return the wording for a request; without the text that the task needs, that of seqrec (or nextitem)."""
        if request.searching:
            known = bool(len(request.history))
            return next(one for one in EVAL_TEMPLATES[SEARCH] if ("history" in one.fields) == known)
        text, task = self.catalogue.text, self.evaluation.eval_task
        answerable = {
            "itemsearch": bool(request.query),
            "fusionseqrec": any(text.titles[row] for row in request.history),
        }
        templates = EVAL_TEMPLATES[task]
        return templates[prompt] if answerable.get(task, True) else EVAL_TEMPLATES[self._without_words][0]

    def _decoding_mode(self) -> Mode:
        """Check once, on the device the model runs on, whether beams may be folded into one sequence."""
        if self._mode is None:
            self._mode = choose_mode(self.lm, max_length=self._max_length)
        return self._mode
