"""The options that every run has, with their types: what modules read that serve all models.

Options of one stage or one model are frozen settings objects next to the code that they steer (see
:func:`recbole_lcrec.config.settings_from`); those here belong to RecBole, or to the run as a whole. Each is looked up
when it is read, so that a search knows which options the data depend on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    import torch
    from recbole.utils import ModelType

Value = TypeVar("Value")


class RunOption(Generic[Value]):
    """An attribute that reads an option.

    Args:
        name: The option's name; the attribute's own if None.
    """

    def __init__(self, name: str | None = None) -> None:
        self._name = name

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = self._name or name

    def __get__(self, run: RunOptions, owner: type) -> Value:
        found: Value = run.config[self._name]
        return found


class RunOptions:
    """A typed view of a configuration.

    Args:
        config: An :class:`LCRecConfig`, or any mapping of option names to values.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config: Any = config

    model = RunOption[str]()
    model_type: RunOption[ModelType] = RunOption("MODEL_TYPE")
    stage = RunOption[str | None]()

    output_dir = RunOption[str | None]()
    checkpoint_dir = RunOption[str]()
    cache_dir = RunOption[str]()
    state = RunOption[str | None]()
    show_progress = RunOption[bool]()
    logger = RunOption[list[str]]()
    wandb_project = RunOption[str]()
    seed = RunOption[int]()
    reproducibility = RunOption[bool]()
    device: RunOption[torch.device] = RunOption()
    use_gpu = RunOption[bool]()
    parallel = RunOption[str]()

    dataset = RunOption[str]()
    data_path = RunOption[str]()
    dataset_url = RunOption[str | None]()
    download = RunOption[bool]()
    benchmark_filename = RunOption[list[str] | None]()
    field_separator = RunOption[str]()
    encoding = RunOption[str | None]()
    rm_dup_inter = RunOption[str | None]()
    user_field = RunOption[str]("USER_ID_FIELD")
    item_field = RunOption[str]("ITEM_ID_FIELD")
    label_field = RunOption[str]("LABEL_FIELD")
    length_field = RunOption[str]("ITEM_LIST_LENGTH_FIELD")
    list_suffix = RunOption[str]("LIST_SUFFIX")
    max_history = RunOption[int]("MAX_ITEM_LIST_LENGTH")

    epochs = RunOption[int]()
    eval_step = RunOption[int]()
    shuffle = RunOption[bool]()
    train_batch_size = RunOption[int]()
    gradient_accumulation_steps = RunOption[int]()
    train_neg_sample_args = RunOption[dict[str, Any]]()
    learner = RunOption[str]()
    learning_rate = RunOption[float]()
    exact_dropout = RunOption[bool]()
    keep_states = RunOption[bool]()
    preference_stage = RunOption[str | None]()

    eval_args = RunOption[dict[str, Any]]()
    eval_task = RunOption[str]()
    eval_batch_size = RunOption[int]()
    num_beams = RunOption[int]()
    topk = RunOption[list[int]]()
    valid_metric = RunOption[str]()
    valid_metric_bigger = RunOption[bool]()
    metric_decimal_place = RunOption[int]()
    loss_decimal_place = RunOption[int | None]()
    valid_users = RunOption[int | None]()
    exclude_history = RunOption[bool]()

    @property
    def saved_folder(self) -> Path | None:
        """Folder of the finished run that is loaded; None for a new run."""
        saved = self.config["saved_run"]
        return Path(saved) if saved else None

    def making(self) -> dict[str, Any]:
        """Return the arguments common to all functions that make something and keep it in the cache."""
        return {
            "cache_dir": Path(self.cache_dir),
            "seed": self.seed,
            "device": str(self.device),
            "show_progress": bool(self.show_progress),
        }

    @property
    def eval_modes(self) -> dict[str, str]:
        """Phase ("valid", "test") -> RecBole's mode of evaluation, e.g. "full" or "uni100"."""
        modes: dict[str, str] = self.eval_args["mode"]
        return modes
