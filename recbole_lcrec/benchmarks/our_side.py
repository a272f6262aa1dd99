"""How long this package takes for the works of :mod:`recbole_lcrec.benchmarks.recbole3_side`, on the same data.

Each function runs in a process of its own and returns CPU seconds per unit of work.
"""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path
from typing import Any

from recbole_lcrec.benchmarks.made_up import Sizes, write_atomic_files, write_lm

_LEAST = 2
"""Number of warm-up batches, which are not timed."""


def rqvae_start(sizes: Sizes, folder: str) -> float:
    """Return the seconds of the k-means start, encoder included."""
    import numpy as np
    import torch

    from recbole_lcrec.quantizer.codebooks import initialise
    from recbole_lcrec.quantizer.kmeans import one_thread

    training = _rqvae(sizes)
    with one_thread():
        pass  # scikit-learn is imported
    started = time.process_time()
    with torch.no_grad():
        initialise(training.model, training.model.encoder(training.inputs), np.random.default_rng(0))
    return time.process_time() - started


def rqvae_epoch(sizes: Sizes, folder: str) -> float:
    """Return the seconds of an epoch in float32."""
    training = _rqvae(sizes)
    training._epoch(quantized=True)
    started = time.process_time()
    training._epoch(quantized=True)
    return time.process_time() - started


def _rqvae(sizes: Sizes) -> Any:
    import torch

    from recbole_lcrec.config.settings import restored
    from recbole_lcrec.quantizer.quantizer_settings import QuantizerSettings
    from recbole_lcrec.quantizer.rqvae import RQVAE
    from recbole_lcrec.quantizer.training import _Training

    settings = restored(
        QuantizerSettings,
        {
            "num_levels": sizes.levels,
            "codebook_size": sizes.codes,
            "latent_dim": sizes.latent,
            "rqvae_layers": list(sizes.encoder),
            "rqvae_beta": 0.25,
            "rqvae_loss_weight": 1.0,
            "rqvae_learning_rate": 1e-3,
            "rqvae_weight_decay": 0.01,
            "rqvae_batch_size": sizes.rqvae_batch,
            "rqvae_epochs": 1,
            "rqvae_patience": 1,
            "sinkhorn_epsilon": 0.003,
            "sinkhorn_iterations": 50,
            "rqvae_precision": "float32",
        },
    )
    torch.manual_seed(0)
    model, data = RQVAE(sizes.dimensions, settings), torch.from_numpy(sizes.embeddings())
    model.fit_scale(data)
    training = _Training(model, model.normalise(data), 0)
    training.batch_size = sizes.rqvae_batch
    return training


def tiger_training(sizes: Sizes, folder: str) -> float:
    """Return the seconds per training sample of TIGER."""
    return _training(_tiger(sizes, folder), sizes.batch, sizes.steps)


def tiger_evaluation(sizes: Sizes, folder: str) -> float:
    """Return the seconds per user that TIGER is asked about."""
    return _evaluation(_tiger(sizes, folder), sizes.asked)


def lcrec_training(sizes: Sizes, folder: str) -> float:
    """Return the seconds per training sample of LC-Rec."""
    return _training(_lcrec(sizes, folder), 16, sizes.batch * sizes.steps // 16)


def lcrec_evaluation(sizes: Sizes, folder: str) -> float:
    """Return the seconds per user that LC-Rec is asked about."""
    return _evaluation(_lcrec(sizes, folder), sizes.asked)


def _tiger(sizes: Sizes, folder: str) -> Any:
    return _built("TIGER", sizes, folder, {"train_batch_size": sizes.batch, "train_samples": None, "user_buckets": 1})


def _lcrec(sizes: Sizes, folder: str) -> Any:
    options = {
        "base_model": str(write_lm(sizes, Path(folder))),
        "recipe": "paper",
        "tasks": ["seqrec"],
        "task_samples": None,
        "history_loss_weight": 0.0,
        "history_windows": False,
        "train_batch_size": 16,
        "max_length": 512,
    }
    return _built("LCRec", sizes, folder, options)


def _built(model: str, sizes: Sizes, folder: str, options: dict[str, Any]) -> Any:
    from recbole_lcrec.experiment import build

    write_atomic_files(sizes, Path(folder))
    common = {
        "data_path": folder,
        "cache_dir": f"{folder}/cache",
        "output_dir": f"{folder}/ours",
        "index_file": f"{folder}/index.json",
        "num_levels": sizes.levels,
        "codebook_size": sizes.codes,
        "index_mapping": "optimal",
        "num_beams": sizes.beams,
        "topk": [10],
        "valid_metric": "NDCG@10",
        "valid_users": sizes.asked,
        "show_progress": False,
        "state": "WARNING",
        "use_gpu": False,
    }
    return build(model, "made", {**common, **options})


def _training(experiment: Any, batch: int, steps: int) -> float:
    trainer, model = experiment.trainer, experiment.model.train()
    batches = iter(experiment.train_data)
    for warm in islice(batches, _LEAST):
        trainer._train_step([warm], model.calculate_loss, 0, 0)
    started, samples = time.process_time(), 0
    for number, some in enumerate(islice(batches, steps)):
        trainer._train_step([some], model.calculate_loss, 0, number)
        samples += len(some)
    return (time.process_time() - started) / samples


def _evaluation(experiment: Any, users: int) -> float:
    experiment.model.eval()
    started = time.process_time()
    experiment.evaluate("valid")
    return (time.process_time() - started) / users
