"""RecBole's trainers with a stage of pre-training, with safe files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from recbole.trainer.trainer import PretrainTrainer

from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.utils.files import atomic_path


class PretrainFeatures(PretrainTrainer):
    """What RecBole's trainers with a pre-training stage (S3Rec, RaCT) need in addition: safe files, one checkpoint.

    RecBole pickles its configuration into the files of the pre-training and takes the last of them for the model's
    checkpoint. Here they are ``<model>-<dataset>-<epoch>.pth`` in the output folder, with tensors and numbers only
    (``pre_model_path`` of the next stage takes one), and the checkpoint is ours.
    """

    def save_pretrained_model(self, epoch: int, saved_model_file: str) -> None:
        """Write the weights to a file that ``torch.load(..., weights_only=True)`` reads."""
        state = {
            "epoch": epoch,
            "state_dict": self.model.state_dict(),
            "other_parameter": self.model.other_parameter(),
        }
        self.announce()
        with atomic_path(saved_model_file) as temporary:
            torch.save(state, temporary)

    def pretrain(self, train_data: Any, verbose: bool = True, show_progress: bool = False) -> Any:
        """Pre-train for ``pretrain_epochs``; the last state is the checkpoint, and a file for the next stage."""
        run = RunOptions(self.config)
        self.epochs = self.pretrain_epochs  # the schedule's length
        result = super().pretrain(train_data, verbose, show_progress)
        self._save_checkpoint(self.pretrain_epochs - 1, verbose=verbose)
        name = f"{run.model}-{run.dataset}-{self.pretrain_epochs}.pth"
        last = Path(run.checkpoint_dir) / name
        self.save_pretrained_model(self.pretrain_epochs - 1, str(last))
        self.logger.info("The next stage starts with --pre_model_path=%s", last)
        return result
