"""A trained model in use: recommendations with titles, search, neighbours, and what stands behind a recommendation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lcrec.config import registry
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.data.known_users import KnownUsers
from recbole_lcrec.data.text import clean_text
from recbole_lcrec.evaluation.queries import SEARCH
from recbole_lcrec.experiment import Experiment, load_experiment
from recbole_lcrec.experiment.asking import Asking, Lists
from recbole_lcrec.model.interface import SearchesRows
from recbole_lcrec.recommending.explaining import steps_of
from recbole_lcrec.recommending.items import KnownItems
from recbole_lcrec.recommending.lists import MODEL, Explanation, Influence, ItemList, Recommendations, Step
from recbole_lcrec.recommending.meanings import CodeMeanings
from recbole_lcrec.recommending.similarity import item_vectors
from recbole_lcrec.utils import arguments
from recbole_lcrec.utils.errors import UserError, shortened
from recbole_lcrec.utils.recbole_patches import quiet

PREFERENCES = "preferenceobtain"
_ANSWER_TOKENS = 80
UNKNOWN = ("error", "skip")


class Recommender:
    """A trained model of this package or of RecBole, asked for items.

    Models differ in what they can be asked; a method that a model cannot answer raises a ``UserError``.

    Args:
        experiment: An experiment, trained or loaded.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.users = KnownUsers(experiment.dataset)
        self._changed()

    @classmethod
    def load(cls, run_dir: str | Path, **options: Any) -> Recommender:
        """Load a finished run.

        Args:
            run_dir: Its folder.
            options: Options to change, such as ``data_path``, ``num_beams`` or ``exclude_history``.

        Raises:
            UserError: If the folder holds no finished run, or its data are no longer there.
        """
        with quiet():
            return cls(load_experiment(run_dir, options))

    @property
    def model_name(self) -> str:
        """Name of the model."""
        return RunOptions(self.experiment.config).model

    @property
    def dataset_name(self) -> str:
        """Name of the data set."""
        return RunOptions(self.experiment.config).dataset

    @property
    def has_paths(self) -> bool:
        """Whether the model generates paths of codes."""
        return registry.is_generative(self.model_name)

    @cached_property
    def reads_histories(self) -> bool:
        """Whether the model recommends after any history; others know only the users of the data set."""
        return Asking(self.experiment, 1).takes_histories

    def recommend(
        self,
        histories: Iterable[Iterable[str]],
        k: int = 10,
        *,
        titles: bool = True,
        unknown: str = "error",
        among: Iterable[str] | None = None,
    ) -> Recommendations:
        """Recommend items for histories of item tokens; with ``exclude_history``, no item of the history itself.

        An empty history gets the most frequent items in training, as no model is trained on empty histories.

        Args:
            histories: Item tokens, oldest first; the last MAX_ITEM_LIST_LENGTH count.
            k: Items per history; fewer if there are not enough to choose from.
            titles: Whether to return titles, too.
            unknown: What to do with items that the model does not know: ``error``, or ``skip`` and count them.
            among: Item tokens to choose from, such as new arrivals; None for all.

        Raises:
            UserError: For other arguments, or a model that scores users and not histories.
        """
        asked = arguments.item_lists("recommend: histories", histories, may_be_empty=True)
        asking, chosen = self._asking("recommend", k, among)
        asked, skipped = self.without_unknown(asking, asked, unknown)
        known = [number for number, history in enumerate(asked) if history]
        lists = self._in_steps(asking, known, lambda some: asking.of_histories([asked[number] for number in some]))
        return self._recommendations(len(asked), known, lists, k, chosen, titles, skipped=skipped)

    def recommend_users(
        self, users: Iterable[str], k: int = 10, *, titles: bool = True, among: Iterable[str] | None = None
    ) -> Recommendations:
        """Recommend items to users of the data set, after their last interaction; new ones with ``exclude_history``.

        Users without a history in the data get the most frequent items in training.

        Args:
            users: User tokens.
            k: Items per user; fewer if there are not enough to choose from.
            titles: Whether to return titles, too.
            among: Item tokens to choose from; None for all.

        Raises:
            UserError: For other arguments, or an unknown user.
        """
        names = self.known_users(users)
        ids = [self.users.id_of(name) for name in names]
        asking, chosen = self._asking("recommend_users", k, among)
        known = [number for number, user in enumerate(ids) if self.users.has_history(user)]
        lists = self._in_steps(
            asking, known, lambda some: asking.of_users([ids[number] for number in some], self.users)
        )
        return self._recommendations(len(names), known, lists, k, chosen, titles, users=tuple(names))

    def search(self, text: str, k: int = 10, *, history: Iterable[str] | None = None) -> ItemList:
        """Return the items that the model finds for a free text (task itemsearch).

        Args:
            text: What the user is looking for, such as "a gift for a child who likes space".
            k: Number of items to return.
            history: The user's item tokens, oldest first, or None.

        Raises:
            UserError: For a model that has not learned the task, or an unknown item.
        """
        self._require_task("search", SEARCH)
        k = arguments.whole_number("search: k", k)
        words = clean_text(text) if isinstance(text, str) else ""
        if not words:
            raise UserError(f"search: expected some words, found {text!r}.")
        rows = self.items.places("search: history", [] if history is None else history)
        with self._evaluating():
            found, scores = self.experiment.model.search_rows(words, rows, k)
        there = found[0] >= 0
        names = [str(self.items.tokens[row]) for row in found[0][there].tolist()]
        return ItemList(self.items.scored(names, scores[0][there].tolist()), MODEL)

    def similar_items(self, item: str, k: int = 10) -> ItemList:
        """Return the items nearest to one, by the cosine of their vectors (`recommending.similarity` says which).

        Raises:
            UserError: For an unknown item, or a model without vectors of items.
        """
        k = arguments.whole_number("similar_items: k", k)
        vectors, source = self._vectors
        place = self.items.place("similar_items", item)
        cosines = vectors @ vectors[place]
        cosines[[n for n, token in enumerate(self.items.tokens[:1]) if token is None] + [place]] = -np.inf
        best = np.argsort(-cosines, kind="stable")[: min(k, int((cosines > -np.inf).sum()))]
        names = [str(self.items.tokens[n]) for n in best.tolist()]
        return ItemList(self.items.scored(names, cosines[best].tolist()), source)

    def preferences(self, history: Iterable[str]) -> str:
        """Return what the language model says about the preferences behind a history (task preferenceobtain).

        Args:
            history: Item tokens, oldest first.

        Raises:
            UserError: For a model that has not learned the task, an unknown item or an empty history.
        """
        self._require_task("preferences", PREFERENCES)
        rows = self.items.places("preferences: history", history)
        if not len(rows):
            raise UserError("preferences: the history is empty. Give the item tokens of a user, oldest first.")
        with self._evaluating():
            return str(self.experiment.model.preferences_of(rows, _ANSWER_TOKENS))

    def path_of(self, item: str) -> tuple[str, ...]:
        """Return the index tokens of an item's path, e.g. ``("<a_12>", "<b_201>", "<c_7>", "<d_88>")``.

        Raises:
            UserError: For an unknown item, or a model without an item index.
        """
        self._require_index("path_of")
        self.items.place("path_of", item)
        return tuple(self.experiment.model.catalogue.index.path(str(item)))

    def explain(self, history: Iterable[str], item: str) -> Explanation:
        """Explain the score of an item after a history.

        For generative models: what each code of the item's path stands for, its log-probability after the history and
        the preceding codes (with ``item_score_weight``, its share of the score), and the best other code in its place.
        For all models that read histories: what the score would be without each item of the history.

        Args:
            history: Item tokens, oldest first; the last MAX_ITEM_LIST_LENGTH count.
            item: Item token.

        Raises:
            UserError: For an unknown item, an empty history, or a model that scores users and not histories.
        """
        asking, _ = self._asking("explain", 1, None)
        expected = "explain: history: expected a list of item tokens, such as ['i1', 'i2']"
        tokens = arguments.item_list(expected, history)
        place = self.items.place("explain", item)
        tokens, item = tokens[-RunOptions(self.experiment.config).max_history :], str(item)
        shorter = [[*tokens[:n], *tokens[n + 1 :]] for n in range(len(tokens))] if len(tokens) > 1 else []
        score, *without = asking.scores_of([tokens, *shorter], item)
        others: list[float | None] = [*without] or [None]
        influences = tuple(
            Influence(one, self.items.title(one), other, None if other is None else score - other)
            for one, other in zip(tokens, others, strict=True)
        )
        steps: tuple[Step, ...] = ()
        if registry.is_generative(self.model_name):
            rows = self.items.places("explain: history", tokens)
            with asking.evaluating():
                steps = steps_of(self.experiment.model, self._meanings, rows, place)
        return Explanation(item, self.items.title(item), score, steps, influences)

    def title_of(self, item: str) -> str | None:
        """Return the title of an item; None if it has none.

        Raises:
            UserError: For an unknown item.
        """
        self.items.place("title_of", item)
        return self.items.title(str(item))

    def history_of(self, user: str) -> tuple[str, ...]:
        """Return the items of a user of the data set, oldest first; for general models, distinct ones by RecBole's id.

        Raises:
            UserError: For an unknown user.
        """
        number = self.users.id_of(user)
        if not number:
            raise UserError(f"history_of: user {shortened(user)} is not in the data set.")
        ids = self.users.sequence(number) if self.users.is_sequential else self.users.seen.of_user(number)
        dataset = self.experiment.dataset
        return tuple(str(token) for token in dataset.field2id_token[dataset.iid_field][ids])

    def known_users(self, users: Iterable[str]) -> list[str]:
        """Return users as :meth:`recommend_users` reads them.

        Raises:
            UserError: For anything other than user tokens, or an unknown user.
        """
        names = arguments.item_list("recommend_users: users: expected user tokens, such as ['u1', 'u7']", users)
        self.users.require("recommend_users", names)
        return names

    def known_parts(self, histories: Iterable[Iterable[str]], unknown: str = "error") -> tuple[list[list[str]], int]:
        """Return histories as :meth:`recommend` reads them, and how many items it skips; the model is not asked.

        Raises:
            UserError: For what ``recommend`` refuses.
        """
        asked = arguments.item_lists("recommend: histories", histories, may_be_empty=True)
        asking, _ = self._asking("recommend", 1, None)
        if any(asked):
            asking.require_histories()
        return self.without_unknown(asking, asked, unknown)

    def find_items(self, words: str, limit: int = 20) -> ItemList:
        """Return items whose titles contain all the words, the most frequent ones in training first.

        Args:
            words: Words or parts of words, in any order; case does not matter.
            limit: Most items to return.
        """
        return self.items.found(str(words), arguments.whole_number("find_items: limit", limit))

    def add_items(
        self,
        titles: Mapping[str, str],
        descriptions: Mapping[str, str] | None = None,
        embeddings: np.ndarray | None = None,
    ) -> None:
        """Give new items paths of their own; nothing is trained. See :meth:`Experiment.add_items`."""
        self.experiment.add_items(titles, descriptions, embeddings)
        self._changed()

    def save(self, folder: str | Path) -> Path:
        """Write the run with the items that were added to it into a new folder, from which it can be loaded.

        Args:
            folder: A new or empty folder.

        Returns:
            The folder's absolute path.

        Raises:
            UserError: If there are files in the folder, or the run's own files are no longer there.
        """
        return self.experiment.save(folder)

    # ---- what the methods above are made of --------------------------------------------------------------------

    def without_unknown(
        self, asking: Asking, histories: Sequence[list[str]], unknown: str
    ) -> tuple[list[list[str]], int]:
        """Return histories without items that the model does not know, and how many were left out.

        Raises:
            UserError: If there are any under ``error``.
        """
        if unknown not in UNKNOWN:
            raise UserError(f"recommend: unknown: expected error or skip, found {unknown!r}.")
        kept = [[item for item in history if asking.known(item)] for history in histories]
        skipped = sum(map(len, histories)) - sum(map(len, kept))
        if skipped and unknown == "error":
            example = next(item for history in histories for item in history if not asking.known(item))
            raise UserError(
                f"recommend: {skipped} item(s) of the histories are not known to the model, e.g. {example!r}. Item "
                "tokens are the raw ids of the data set's .inter and .item files. Leave them out, or use unknown=skip."
            )
        return kept, skipped

    def _asking(self, method: str, k: int, among: Iterable[str] | None) -> tuple[Asking, list[str] | None]:
        k = arguments.whole_number(f"{method}: k", k)
        expected = f"{method}: among: expected a non-empty list of item tokens"
        chosen = None if among is None else arguments.item_list(expected, among)
        return Asking(self.experiment, k, chosen), chosen

    @staticmethod
    def _in_steps(asking: Asking, known: Sequence[int], ask: Callable[[Sequence[int]], Lists]) -> Lists:
        items: list[list[str]] = []
        scores: list[list[float]] = []
        for start in range(0, len(known), asking.step):
            tokens, values = ask(known[start : start + asking.step])
            items += tokens
            scores += values
        return items, scores

    def _recommendations(
        self,
        n: int,
        known: Sequence[int],
        lists: Lists,
        k: int,
        among: Sequence[str] | None,
        titles: bool,
        **about: Any,
    ) -> Recommendations:
        """Return the lists of ``n`` askers: the model's for the known ones, popular items for the others."""
        made: list[ItemList | None] = [None] * n
        for number, items, scores in zip(known, *lists, strict=True):
            made[number] = ItemList(self.items.scored(items, scores, titles=titles), MODEL)
        popular = self.items.popular(k, among, titles=titles) if len(known) < n else None
        return Recommendations(tuple(one or popular for one in made), **about)  # type: ignore[misc]

    def _changed(self) -> None:
        """Drop everything that was derived from the items."""
        self.items = KnownItems(self.experiment)
        for name in ("_vectors", "_meanings"):
            self.__dict__.pop(name, None)

    @cached_property
    def _vectors(self) -> tuple[np.ndarray, str]:
        return item_vectors(self.experiment)

    @cached_property
    def _meanings(self) -> CodeMeanings:
        catalogue = self.experiment.model.catalogue
        return CodeMeanings(catalogue.text, catalogue.index, self.items.counts)

    def _evaluating(self) -> Any:
        return Asking(self.experiment, 1).evaluating()

    def _require_index(self, method: str) -> None:
        if not registry.has_index(self.model_name):
            raise UserError(f"{method}: {self.model_name} has no item index. Use a model that has one (LCRec, TIGER).")

    def _require_task(self, method: str, task: str) -> None:
        if not isinstance(self.experiment.model, SearchesRows):
            raise UserError(f"{method}: {self.model_name} does not learn task {task}. Use LCRec.")
        texts = self.experiment.model.catalogue.user_texts
        learned = task in self.experiment.config["tasks"]
        if not learned or not (texts.intentions if task == SEARCH else texts.preferences):
            why = f"tasks={self.experiment.config['tasks']}" if not learned else "no user has a text for it"
            raise UserError(
                f"{method}: the run has not learned task {task} ({why}). Train LCRec with it, and with user_text."
            )
