"""The options that every run has, with their types: what modules read that serve all models.

Options of one stage or one model are frozen settings objects beside the code that they steer (see
:func:`recbole_lcrec.config.settings_from`); these here belong to RecBole, or to the run as a whole. Each is looked up
when it is read, so that a search knows which options the data depend on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    pass

if TYPE_CHECKING:
    import torch
    from recbole.utils import ModelType

Value = TypeVar("Value")


class ReadOption(Generic[Value]):
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

    model = ReadOption[str]()
    model_type: ReadOption[ModelType] = ReadOption("MODEL_TYPE")
    stage = ReadOption[str | None]()

    output_dir = ReadOption[str | None]()
    checkpoint_dir = ReadOption[str]()
    cache_dir = ReadOption[str]()
    state = ReadOption[str | None]()
    show_progress = ReadOption[bool]()
    seed = ReadOption[int]()
    reproducibility = ReadOption[bool]()
    device: ReadOption[torch.device] = ReadOption()
    use_gpu = ReadOption[bool]()
    parallel = ReadOption[str]()

    dataset = ReadOption[str]()
    data_path = ReadOption[str]()
    dataset_url = ReadOption[str | None]()
    download = ReadOption[bool]()
    benchmark_filename = ReadOption[list[str] | None]()
    field_separator = ReadOption[str]()
    encoding = ReadOption[str | None]()
    rm_dup_inter = ReadOption[str | None]()
    user_field = ReadOption[str]("USER_ID_FIELD")
    item_field = ReadOption[str]("ITEM_ID_FIELD")
    label_field = ReadOption[str]("LABEL_FIELD")
    length_field = ReadOption[str]("ITEM_LIST_LENGTH_FIELD")
    list_suffix = ReadOption[str]("LIST_SUFFIX")
    max_history = ReadOption[int]("MAX_ITEM_LIST_LENGTH")

    epochs = ReadOption[int]()
    eval_step = ReadOption[int]()
    shuffle = ReadOption[bool]()
    train_batch_size = ReadOption[int]()
    gradient_accumulation_steps = ReadOption[int]()
    train_neg_sample_args = ReadOption[dict[str, Any]]()
    learner = ReadOption[str]()
    learning_rate = ReadOption[float]()
    keep_states = ReadOption[bool]()

    eval_args = ReadOption[dict[str, Any]]()
    eval_task = ReadOption[str]()
    eval_batch_size = ReadOption[int]()
    num_beams = ReadOption[int]()
    topk = ReadOption[list[int]]()
    valid_metric = ReadOption[str]()
    valid_metric_bigger = ReadOption[bool]()
    valid_users = ReadOption[int | None]()
    exclude_history = ReadOption[bool]()

    @property
    def saved_folder(self) -> Path | None:
        """Folder of the finished run that is loaded; None for a new run."""
        saved = self.config["saved_run"]
        return Path(saved) if saved else None

    @property
    def eval_modes(self) -> dict[str, str]:
        """Phase ("valid", "test") -> RecBole's mode of evaluation, e.g. "full" or "uni100"."""
        modes: dict[str, str] = self.eval_args["mode"]
        return modes
