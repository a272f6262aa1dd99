"""Where a trial runs: in the search's own folders, or in folders of its machine from which results are sent back."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_lcrec.config.loader import dump_values, load_values
from recbole_lcrec.io import remove
from recbole_lcrec.saved_run import CONFIG
from recbole_lcrec.tuning.delivery import Delivery
from recbole_lcrec.tuning.shipping import OUT, machine_folder

if TYPE_CHECKING:
    from recbole_lcrec.tuning.trial import TrialInputs

TRIALS, TENSORBOARD, POPULATION = "trials", "tensorboard", "population"


class SharedPlace:
    """The search's own folders, which this machine sees.

    Attributes:
        inputs: What all trials share.
    """

    def __init__(self, inputs: TrialInputs) -> None:
        self.inputs = inputs

    def clear(self, trial: str) -> None:
        """Remove what an earlier start of a trial left."""
        for parent in (TRIALS, TENSORBOARD):
            self.forget(f"{parent}/{trial}")

    def fetch(self, name: str) -> Path:
        """Return the path of something in the output folder, which need not be there."""
        return self.inputs.folder / name

    def forget(self, name: str) -> None:
        """Remove something from the output folder."""
        remove(self.inputs.folder / name)

    def send(self, trial: str) -> None:
        """See that the output folder has what the trial wrote."""

    def hand_over(self, name: str) -> None:
        """See that the output folder has a file that was written to the same place here."""

    def leave(self, trial: str) -> None:
        """See that the output folder has the trial's log, and leave nothing else behind."""


class OwnPlace(SharedPlace):
    """Folders of this machine; the search's output folder is reached through Ray.

    Args:
        inputs: As the search made them.
    """

    def __init__(self, inputs: TrialInputs) -> None:
        shipment = inputs.shipment
        assert shipment is not None
        unpacked, folder = shipment.unpacked(), machine_folder(shipment.name) / OUT
        folder.mkdir(exist_ok=True)
        places = {path: str(unpacked / name) for path, name in shipment.places.items()}
        super().__init__(dataclasses.replace(inputs, folder=folder, places=places))
        self._back = {str(folder): str(inputs.folder), **{there: path for path, there in places.items()}}
        self._delivery = Delivery(shipment.depot, folder)

    def fetch(self, name: str) -> Path:
        """Bring something of the output folder here and return its path; it need not be there."""
        return self._delivery.fetch(name)

    def forget(self, name: str) -> None:
        """Remove something here and from the output folder."""
        self._delivery.forget(name)

    def send(self, trial: str) -> None:
        """Send all that changed, file by file and folder by folder; what a resume goes on from comes last."""
        folder = self.inputs.folder_of(trial)
        for path in [*sorted(folder.iterdir()), *sorted((folder / POPULATION).glob("epoch-*"))]:
            if path.name == CONFIG:
                self._delivery.send(f"{TRIALS}/{trial}/{CONFIG}", self._config(path))
            elif path.name != POPULATION and not path.name.startswith("."):
                self._delivery.send(str(path.relative_to(self.inputs.folder)))
        self._delivery.send(f"{TENSORBOARD}/{trial}")

    def hand_over(self, name: str) -> None:
        """Send a file and remove it here."""
        self._delivery.send(name)
        remove(self.inputs.folder / name)

    def leave(self, trial: str) -> None:
        """Send the logs, which are complete only now; remove the trial's folders."""
        self._delivery.send(f"{TRIALS}/{trial}/trial.log")
        self._delivery.send(f"{TENSORBOARD}/{trial}")
        for parent in (TRIALS, TENSORBOARD):
            shutil.rmtree(self.inputs.folder / parent / trial, ignore_errors=True)

    def _config(self, path: Path) -> bytes:
        """Return the options of a trial with the search's paths, as they stand there if it runs on that machine."""

        def back(value: Any) -> Any:
            for here, there in self._back.items() if isinstance(value, str) else ():
                value = value.replace(here, there)
            return value

        options: Mapping[str, Any] = load_values(path)
        options = {name: back(value) for name, value in options.items()}
        return dump_values(options).encode()


def place_of(inputs: TrialInputs) -> SharedPlace:
    """Return where this process is to run its trials."""
    return SharedPlace(inputs) if inputs.shipment is None else OwnPlace(inputs)
