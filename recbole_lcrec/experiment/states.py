"""The training states of a run, and what else is needed to continue from them."""

from __future__ import annotations

import logging
from typing import Any

from recbole_lcrec.config import registry, settings_from
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.distributed import group
from recbole_lcrec.experiment.experiment import Experiment
from recbole_lcrec.model.interface import HasUserTexts, PreparesCatalogue
from recbole_lcrec.training.states import StateFolder, StateSettings
from recbole_lcrec.usertext import NO_USER_TEXTS
from recbole_lcrec.utils.files import fingerprint, remove, write_json
from recbole_lcrec.utils.run_files import FACTS, RESUME

logger = logging.getLogger(__name__)


def write_facts(experiment: Experiment) -> None:
    """Record what a resumed run needs: from now on, it continues from the newest training state."""
    report = {}
    if registry.has_index(RunOptions(experiment.config).model):
        report = experiment.dataset.catalogue.indexed.report
    facts = {"data": data_fingerprint(experiment), "index": report}
    write_json(experiment.output_dir / RESUME / FACTS, facts)


def keep_states(experiment: Experiment) -> None:
    """Make the training of a run keep states.

    Raises:
        UserError: For options of the states that are out of range.
    """
    settings, trainer = settings_from(StateSettings, experiment.config), experiment.trainer
    if not trainer.keeps_states:
        logger.info(
            "%s trains in a loop of its own, which keeps no states: if this run is stopped, --resume starts from the "
            "beginning.", RunOptions(experiment.config).model,
        )  # fmt: skip
    elif settings.keep_last:
        folder = StateFolder(experiment.output_dir / RESUME, settings)
        trainer.keep_states(folder, lambda: {"seconds": experiment.timer.so_far()})


def forget_states(experiment: Experiment) -> None:
    """Remove the training states of a finished run (unless ``keep_states`` is set)."""
    if not RunOptions(experiment.config).keep_states and group.is_main():
        remove(experiment.output_dir / RESUME)


def data_fingerprint(experiment: Experiment) -> str:
    """Return a key of all data that a training depends on: interactions, features, and a catalogue's texts."""
    train = experiment.train_data._dataset
    parts: list[Any] = [experiment.split_sha256]
    for name in ("inter_feat", "item_feat", "user_feat", "kg_feat"):
        features = vars(train).get(name)
        if features is not None:
            parts += [[str(column), features[column].numpy()] for column in sorted(features.columns)]
    catalogue = train.catalogue if isinstance(train, PreparesCatalogue) else None
    if catalogue is not None:
        text, said = catalogue.text, catalogue.user_texts if isinstance(catalogue, HasUserTexts) else NO_USER_TEXTS
        parts += [list(text.items), list(text.titles), list(text.descriptions)]
        for user in sorted({*said.preferences, *said.intentions}):
            parts.append([user, repr(said.preferences.get(user)), repr(said.intentions.get(user))])
    return fingerprint(parts)
