"""The names of the files in the folder of a run."""

from __future__ import annotations

CONFIG, RESULT, LOG, EVALUATION = "config.yaml", "result.json", "run.log", "evaluation.json"
CHECKPOINT = "checkpoint"
RANKS = "ranks.csv.gz"
REPORT = "report.html"
"""What was run and how it did, for people; for an index that was built alone, its quality."""
RECORD = "comparison.json"
"""A comparison as data."""
EMBEDDINGS = "embeddings.safetensors"
"""The items' embeddings, where the model reads them."""
NEW_ITEMS = "new_items.json"
"""Items that were added to a finished run, with their texts."""
TENSORBOARD, WANDB, MLFLOW, LOGGERS = "tensorboard", "wandb", "mlruns", "loggers.json"
"""Folders of the loggers, and the file with the names by which wandb and MLflow know the run."""
STARTING = "starting.yaml"
"""The options of a run that has not yet come to the point of replacing what the folder holds."""
RESUME, FACTS = "resume", "run.json"
"""Folder of the training states, and its file that is written once index, tokenizer and texts are complete."""
ASSETS = (CONFIG, "index.json", NEW_ITEMS, EMBEDDINGS, "quantizer", "tokenizer", "lm", "user_texts.json")
"""What a saved run is loaded from, apart from its checkpoint."""
OF_EVALUATION = (EVALUATION, "evaluation.log")
OF_A_RUN = (
    *ASSETS,
    *(RESULT, CHECKPOINT, RESUME, RANKS, TENSORBOARD, WANDB, MLFLOW, LOGGERS),
    *OF_EVALUATION,
    *("report.json", REPORT),
)
"""What a run writes, apart from its log."""
