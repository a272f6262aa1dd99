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


class Option(Generic[Value]):
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

    model = Option[str]()
    model_type: Option[ModelType] = Option("MODEL_TYPE")
    stage = Option[str | None]()

    output_dir = Option[str | None]()
    checkpoint_dir = Option[str]()
    cache_dir = Option[str]()
    state = Option[str | None]()
    show_progress = Option[bool]()
    seed = Option[int]()
    reproducibility = Option[bool]()
    device: Option[torch.device] = Option()
    use_gpu = Option[bool]()
    parallel = Option[str]()

    dataset = Option[str]()
    data_path = Option[str]()
    dataset_url = Option[str | None]()
    download = Option[bool]()
    benchmark_filename = Option[list[str] | None]()
    field_separator = Option[str]()
    encoding = Option[str | None]()
    rm_dup_inter = Option[str | None]()
    user_field = Option[str]("USER_ID_FIELD")
    item_field = Option[str]("ITEM_ID_FIELD")
    label_field = Option[str]("LABEL_FIELD")
    length_field = Option[str]("ITEM_LIST_LENGTH_FIELD")
    list_suffix = Option[str]("LIST_SUFFIX")
    max_history = Option[int]("MAX_ITEM_LIST_LENGTH")

    epochs = Option[int]()
    eval_step = Option[int]()
    shuffle = Option[bool]()
    train_batch_size = Option[int]()
    gradient_accumulation_steps = Option[int]()
    train_neg_sample_args = Option[dict[str, Any]]()
    learner = Option[str]()
    learning_rate = Option[float]()
    keep_states = Option[bool]()

    eval_args = Option[dict[str, Any]]()
    eval_task = Option[str]()
    eval_batch_size = Option[int]()
    num_beams = Option[int]()
    topk = Option[list[int]]()
    valid_metric = Option[str]()
    valid_metric_bigger = Option[bool]()
    valid_users = Option[int | None]()
    exclude_history = Option[bool]()

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
