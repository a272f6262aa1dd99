"""The training states of a run, and what they need beside them to be gone on with."""

from __future__ import annotations

import logging
from typing import Any

from recbole.trainer.trainer import NCLTrainer

from recbole_lcrec.config import registry, settings_from
from recbole_lcrec.distributed import group
from recbole_lcrec.experiment.experiment import Experiment
from recbole_lcrec.training.states import StateFolder, StateSettings
from recbole_lcrec.training.trainer import FeatureTrainer
from recbole_lcrec.usertext import NO_USER_TEXTS
from recbole_lcrec.utils.files import fingerprint, remove, write_json
from recbole_lcrec.utils.run_files import FACTS, RESUME

logger = logging.getLogger(__name__)


def write_facts(experiment: Experiment) -> None:
    """Note what a resumed run has to be given: from now on it goes on from the newest training state."""
    report = {}
    if registry.has_index(experiment.config["model"]):
        report = experiment.dataset.catalogue.indexed.report
    facts = {"data": data_fingerprint(experiment), "index": report}
    write_json(experiment.output_dir / RESUME / FACTS, facts)


def keep_states(experiment: Experiment) -> None:
    """Have the training of a run keep states.

    Raises:
        UserError: For options of the states that are out of range.
    """
    settings, trainer = settings_from(StateSettings, experiment.config), experiment.trainer
    if not isinstance(trainer, FeatureTrainer) or isinstance(trainer, NCLTrainer):
        logger.info(
            "%s trains by a loop of its own, which keeps no states: if this run is stopped, --resume starts from the "
            "beginning.", experiment.config["model"],
        )  # fmt: skip
    elif settings.keep_last:
        trainer.course.states = StateFolder(experiment.output_dir / RESUME, settings)
        trainer.course.facts = lambda: {"seconds": experiment.timer.so_far()}


def forget_states(experiment: Experiment) -> None:
    """Remove the training states of a finished run (unless ``keep_states`` is set)."""
    if not experiment.config["keep_states"] and group.is_main():
        remove(experiment.output_dir / RESUME)


def data_fingerprint(experiment: Experiment) -> str:
    """Return a key of all data that a training depends on: interactions, features, and a catalogue's words."""
    train = experiment.train_data._dataset
    parts: list[Any] = [experiment.split_sha256]
    for name in ("inter_feat", "item_feat", "user_feat", "kg_feat"):
        features = getattr(train, name, None)
        if features is not None:
            parts += [[str(column), features[column].numpy()] for column in sorted(features.columns)]
    catalogue = getattr(train, "catalogue", None)
    if catalogue is not None:
        text, said = catalogue.text, getattr(catalogue, "user_texts", NO_USER_TEXTS)
        parts += [list(text.items), list(text.titles), list(text.descriptions)]
        for user in sorted({*said.preferences, *said.intentions}):
            parts.append([user, repr(said.preferences.get(user)), repr(said.intentions.get(user))])
    return fingerprint(parts)
