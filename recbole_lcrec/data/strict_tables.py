"""How RecBole's datasets get their tables: read by our strict reader, into the frames that RecBole expects.

RecBole 1.2.1 reads with pandas and relies on behaviour that pandas 3 has changed: filling in place changes a copy, and
``Series.agg(len)`` is the length of the column, not of each of its lists. The mixin here provides the frames that
RecBole had with pandas 2, and refuses what RecBole would accept, drop or trip over later.
"""

from __future__ import annotations

import builtins
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import recbole.data.dataset.dataset
import recbole.data.dataset.kg_dataset
import recbole.data.dataset.sequential_dataset
from recbole.data.dataset import Dataset
from recbole.utils import FeatureSource, FeatureType

from recbole_lcrec.config.intervals import filter_columns, parse_intervals
from recbole_lcrec.config.protocol import needs_labels
from recbole_lcrec.config.run_options import RunOptions
from recbole_lcrec.data.ids import check_histories, check_same_ids
from recbole_lcrec.data.presplit import recent_histories
from recbole_lcrec.utils.errors import UserError
from recbole_lcrec.utils.table import MISSING_WORDS, Header, Table, is_number, read_header, read_table

_MISSING = MISSING_WORDS | {""}
_MOST = 1 << 30  # values of a padded column (8 GiB), and characters of a column's tokens (numpy holds 4 bytes each)


def _len(values: Any) -> Any:
    """Return ``len(values)``; for a pandas column of lists, the length of each."""
    return values.map(builtins.len) if isinstance(values, pd.Series) else builtins.len(values)


for _module in (
    recbole.data.dataset.dataset,
    recbole.data.dataset.kg_dataset,
    recbole.data.dataset.sequential_dataset,
):
    _module.len = _len  # type: ignore[attr-defined]  # they call ``feat[field].agg(len)`` and expect it per row


class StrictTables(Dataset):
    """Mixin of every dataset: tables are read strictly, and wrong ones are refused with file, line and column."""

    inter_feat: Any

    def _from_scratch(self) -> None:
        self._rest_fields: Any
        self._only_filters: dict[str, list[str]] = {}  # file suffix -> columns that only a filter uses
        try:
            super()._from_scratch()
        except (ValueError, KeyError, TypeError, AssertionError, NotImplementedError) as error:
            step = _step_of_recbole(error)
            if step is None:
                raise
            raise UserError(
                f"RecBole refuses data set {self.dataset_name} with these options: {error} (in {step}). Look at "
                "the options that name columns of the data set."
            ) from error

    def _load_data(self, token: str, dataset_path: str) -> None:
        try:
            super()._load_data(token, dataset_path)
        except OSError as error:
            raise UserError(f"the data set in {Path(dataset_path).absolute()} cannot be read: {error}.") from error
        self._check_filter_columns()
        self._check_ids_match()

    @property
    def in_time_order(self) -> bool:
        """Whether interactions are sorted by time; a ready split is in the order of its files."""
        return RunOptions(self.config).eval_args["order"] == "TO" and self.benchmark_filename_list is None

    # Reading

    def _load_feat(self, filepath: str, source: FeatureSource | str) -> pd.DataFrame | None:
        """Return the wanted columns of an atomic file, and note their types, as RecBole does.

        Returns:
            One column per field: tokens as str (object) with NaN for missing ones, floats as float64, sequences as
            arrays; None if no column is wanted.

        Raises:
            UserError: For anything that is wrong with the file, naming its line.
        """
        run = RunOptions(self.config)
        suffix = source.value if isinstance(source, FeatureSource) else source
        header = read_header(Path(filepath), run.field_separator, run.encoding)
        wanted = self._wanted_columns(header, source, suffix)
        if not wanted and suffix in ("kg", "link"):
            raise UserError(f"option load_col loads no column of {header.path}: name them, or '*' for all of them.")
        if not wanted and suffix != "inter":
            return None
        self._check_types(header, suffix)
        for name in wanted if suffix != "link" else ():
            self._note_type(header, name, source)
        table = read_table(header, wanted)
        for name in self._id_fields(suffix):
            if name in table.cells:
                table.require_ids(name)
        if suffix == "inter":
            self._check_interactions(table)
        columns = {name: self._column(table, name) for name in wanted}
        return pd.DataFrame(columns, index=pd.RangeIndex(len(table)))

    def _wanted_columns(self, header: Header, source: FeatureSource | str, suffix: str) -> list[str]:
        """Return the columns to load: those of load_col and unload_col, and those that filters and labels use."""
        load_col, unload_col = self._get_load_and_unload_col(source)
        names = list(header.types)
        wanted = [name for name in names if load_col is None or name in load_col]
        wanted = [name for name in wanted if unload_col is None or name not in unload_col]
        if suffix not in ("inter", "user", "item"):
            return wanted
        looked_at = filter_columns(self.config.final_config_dict)
        label = self.label_field if suffix == "inter" and self._makes_labels_of_column() else None
        wanted += [name for name in names if name == label and name not in wanted]
        more = [name for name in names if name in looked_at and name not in wanted]
        if more and not wanted:
            more += self._id_fields(suffix)
        self._only_filters[suffix] = [name for name in more if name in looked_at]
        return [name for name in names if name in wanted or name in more]

    def _id_fields(self, suffix: str) -> list[str]:
        """Return the columns of a file that hold ids, one in every row."""
        user, item, config = self.uid_field, self.iid_field, self.config
        graph = [config[f"{name}_ID_FIELD"] for name in ("HEAD_ENTITY", "RELATION", "TAIL_ENTITY")]
        fields = {"inter": [user, item], "user": [user], "item": [item], "kg": graph}
        return fields.get(suffix, [item, config["ENTITY_ID_FIELD"]] if suffix == "link" else [])

    def _check_types(self, header: Header, suffix: str) -> None:
        for name in self._id_fields(suffix):
            header.require(name, "token")
        if suffix == "inter":
            header.require(self.time_field, "float")
            if self.benchmark_filename_list is not None:
                header.require(f"{self.iid_field}{RunOptions(self.config).list_suffix}", "token_seq")

    def _note_type(self, header: Header, name: str, source: FeatureSource | str) -> None:
        before = self.field2source.get(name)
        if before not in (None, source) and name not in (self.uid_field, self.iid_field):
            first = before.value if isinstance(before, FeatureSource) else before
            raise UserError(
                f"{header.path}: column {name} is in .{first} too, and models would mix them up. Rename one of them, "
                "or leave one out with load_col or unload_col."
            )
        kind = FeatureType(header.types[name])
        self.field2source[name], self.field2type[name] = source, kind
        if kind in (FeatureType.TOKEN, FeatureType.FLOAT):
            self.field2seqlen[name] = 1
        if kind in (FeatureType.FLOAT, FeatureType.FLOAT_SEQ):
            self.field2bucketnum[name] = 2

    def _column(self, table: Table, name: str) -> Any:
        if name in table.numbers:
            return table.numbers[name]
        cells, kind = table.cells[name], table.header.types[name]
        if kind == "token":
            _refuse_long_tokens(table, name, cells)
            return pd.Series([np.nan if cell in _MISSING else cell for cell in cells], dtype=object)
        lists = self._sequences(table, name, cells)
        longest = max(map(len, lists), default=0)
        limit = (self.config["seq_len"] or {}).get(name)
        if limit:
            lists = [one[:limit] if len(one) > limit else one for one in lists]
            longest = min(limit, longest)
        self.field2seqlen[name] = longest
        is_history = self.benchmark_filename_list is not None and name.endswith(RunOptions(self.config).list_suffix)
        if len(lists) * longest > _MOST and not is_history:  # histories are cut to MAX_ITEM_LIST_LENGTH
            row = max(range(len(lists)), key=lambda row: len(lists[row]))
            raise UserError(
                f"{table.at(row)}: {longest} values in column {name}; padding all {len(lists)} rows to that "
                f"length would take more than {_MOST >> 27} GiB. Cut them with seq_len, e.g. "
                f'--seq_len="{{{name}: 50}}".'
            )
        return pd.Series(lists, dtype=object)

    def _sequences(self, table: Table, name: str, cells: Sequence[str]) -> list[np.ndarray]:
        """Return the values of each cell of a sequence column, as RecBole does: str, or float64."""
        separator = self.config["seq_separator"]
        split = [[] if cell in _MISSING else list(filter(None, cell.split(separator))) for cell in cells]
        if table.header.types[name] == "token_seq":
            _refuse_long_tokens(table, name, [token for tokens in split for token in tokens])
            return [np.array(tokens) for tokens in split]
        for row, values in enumerate(split):
            if wrong := [value for value in values if not is_number(value)]:
                raise UserError(
                    f"{table.at(row)}: {wrong[0]!r} in column {name}:float_seq is not a finite number that fits a "
                    f"float32. Expected numbers separated by {separator!r} (seq_separator)."
                )
        return [np.array(list(map(float, values))) for values in split]

    # What interactions need

    def _makes_labels_of_column(self) -> bool:
        return needs_labels(self.config) and not self.config["threshold"]

    def _check_interactions(self, table: Table) -> None:
        """Refuse interactions without ids, without a needed time or label, and empty files."""
        path, types = table.header.path, table.header.types
        loaded = {*table.cells, *table.numbers}
        wanted = [self.uid_field, self.iid_field] + ([self.time_field] if self.in_time_order else [])
        if missing := [name for name in wanted if name not in loaded]:
            raise UserError(
                f"{path}: column(s) {', '.join(map(str, missing))} missing. Expected a header with "
                f"{self.uid_field}:token, {self.iid_field}:token and {self.time_field}:float, found "
                f"{', '.join(types)}; if they have other names, set USER_ID_FIELD, ITEM_ID_FIELD and TIME_FIELD (and "
                "load_col, if you set it)."
            )
        if self._makes_labels_of_column() and self.label_field not in table.numbers:
            raise UserError(
                f"{path}: no column {self.label_field}:float (LABEL_FIELD), and no option threshold, but "
                f"with these options {RunOptions(self.config).model} learns from, or is measured by, whether a row is "
                'liked. Derive labels from a column, e.g. --threshold="{rating: 4}"; or name the column that holds '
                "them in LABEL_FIELD."
            )
        if not len(table):
            raise UserError(f"{path}: no interaction found. Expected one line per interaction after the header.")
        empty = np.flatnonzero(np.isnan(table.numbers[self.time_field])) if self.in_time_order else np.empty(0, int)
        if len(empty):
            raise UserError(f"{table.at(empty[0])}: no {self.time_field}. Every interaction needs a number there.")

    def _load_inter_feat(self, token: str, dataset_path: str) -> None:
        run = RunOptions(self.config)
        super()._load_inter_feat(token, dataset_path)
        if self.benchmark_filename_list is not None:
            files = f"{token}.{{{','.join(map(str, self.benchmark_filename_list))}}}.inter"
            column = f"{self.iid_field}{run.list_suffix}"
            if column in self.inter_feat:
                items = {item for history in self.inter_feat[column] for item in history.tolist()}
                check_histories(items, self.inter_feat[self.iid_field], column, files)
            recent_histories(self, run.max_history)

    def _benchmark_presets(self) -> None:
        # RecBole asks for this name even if the item column has another one
        self.item_id_list_field = f"{self.iid_field}{RunOptions(self.config).list_suffix}"
        super()._benchmark_presets()

    def _check_filter_columns(self) -> None:
        for name in filter_columns(self.config.final_config_dict):
            if name not in self.field2type:
                found = ", ".join(self.field2type)
                raise UserError(
                    f"a filter (val_interval or threshold) names column {name}, which no file of data set "
                    f"{self.dataset_name} has; loaded are {found}."
                )

    def _check_ids_match(self) -> None:
        for what, field, feat in (("item", self.iid_field, self.item_feat), ("user", self.uid_field, self.user_feat)):
            if feat is not None:
                names = (f"{self.dataset_name}.inter", f"{self.dataset_name}.{what}")
                check_same_ids(what, self.inter_feat[field], names[0], feat[field], names[1])

    # Filtering and filling

    def _data_filtering(self) -> None:
        super()._data_filtering()
        self._refuse_nothing_left()
        for suffix, names in self._only_filters.items():
            feat = vars(self)[f"{suffix}_feat"]
            threshold = self.config["threshold"] or {}
            for name in names:
                if name not in threshold:  # RecBole makes labels of that one and drops it afterwards
                    self._del_col(feat, name)
                    self._rest_fields = self._rest_fields[self._rest_fields != name]

    def _reset_index(self) -> None:
        self._refuse_nothing_left()
        super()._reset_index()

    def _refuse_nothing_left(self) -> None:
        for name in ("inter_feat", *self.feat_name_list):
            if not len(vars(self)[name]):
                what = "interaction" if name == "inter_feat" else f"row of .{name.removesuffix('_feat')}"
                raise UserError(
                    f"no {what} of {self.dataset_name} is left after filtering. Loosen user_inter_num_interval, "
                    "item_inter_num_interval or val_interval."
                )

    def _parse_intervals_str(self, intervals_str: str | None) -> Any:
        return None if intervals_str is None else parse_intervals(intervals_str)

    def _filter_by_field_value(self) -> None:
        """Filter as RecBole does, after checking that each filter fits its column's type."""
        given = self.config["val_interval"]
        as_text: dict[str, Any] = {}
        for name, value in (given or {}).items():
            kind = self.field2type[name]
            if kind == FeatureType.FLOAT and isinstance(value, str):
                as_text[name] = value
            elif kind == FeatureType.TOKEN and isinstance(value, list):
                as_text[name] = [str(one) for one in value]
            else:
                expected = "a list of its values" if kind == FeatureType.TOKEN else "no filter, as for any list"
                raise UserError(
                    f"option val_interval is {value} for column {name} of type {kind.value}; expected {expected}."
                )
        self.config["val_interval"] = as_text
        try:
            super()._filter_by_field_value()
        finally:
            self.config["val_interval"] = given

    def _fill_nan(self) -> None:
        """Fill missing values: tokens with padding (0), numbers with their mean, lists with empty ones.

        RecBole fills ``feat[field]`` in place, which changes a copy with pandas 3.
        """
        for name in self.feat_name_list:
            feat = vars(self)[name]
            for field in feat:
                kind = self.field2type[field]
                if kind == FeatureType.TOKEN:
                    feat[field] = feat[field].fillna(0)
                elif kind == FeatureType.FLOAT:
                    feat[field] = feat[field].fillna(feat[field].mean())
                else:  # items named only by interactions have no list: NaN
                    empty = np.array([], dtype=np.int64 if kind == FeatureType.TOKEN_SEQ else np.float64)
                    lists = [empty if isinstance(value, float) else value for value in feat[field]]
                    feat[field] = pd.Series(lists, index=feat.index, dtype=object)


def _step_of_recbole(error: Exception) -> str | None:
    """Return the name of RecBole's method that an error came from, or None if it came from our own code."""
    ours, theirs = str(Path(__file__).parents[1]), str(Path(recbole.data.dataset.__file__).parents[2])
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith((ours, theirs))
    ]
    return None if frames[-1].filename.startswith(ours) else frames[-1].name.strip("_")


def _refuse_long_tokens(table: Table, name: str, tokens: Sequence[str]) -> None:
    """Refuse a column whose distinct tokens RecBole could not hold: each takes the space of the longest."""
    sizes = Counter(map(len, tokens))
    longest = max(sizes, default=0)
    if longest * sizes.total() > _MOST and longest * len(set(tokens)) > _MOST:
        row = next(row for row, cell in enumerate(table.cells[name]) if len(cell) >= longest)
        raise UserError(
            f"{table.at(row)}: a token of {longest} characters in column {name}; padding all others to that length "
            f"would take more than {_MOST >> 28} GiB. Shorten it, or leave the column out of load_col."
        )
