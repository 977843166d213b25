"""The cached data stages that need no model: tokenizing a source, and holding evaluation rows out of the training rows.

Also the shape in which stages hand rows on: `Rows`, data sets after each other with the content key of each.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli.cache import CachedStage, cached
from sftgo_cli.columns import LABELS, LOSS_WEIGHT, PROMPT_KEY, ROW_ID, ROW_KEY, TOKEN_WEIGHTS
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.data_section import DataSection, EvalSource, TrainSource

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from datasets import Dataset

    from sftgo_cli.data.preparation_report import PreparationReport
    from sftgo_cli.data.segments import GivenGroups

Say = Callable[[str], None]
TOKENIZE_VERSION = 6
HOLDOUT_VERSION = 2
PARTS = ("train", "heldout")
# Keys of `data` that say what becomes of a row.
ROW_OPTIONS = {
    "max_length",
    "on_overlong",
    "train_on",
    "system_prompt",
    "special_tokens_in_text",
    "on_bad_row",
    "on_left_out",
}
HOLDOUT_SEED = 0  # not training.seed: runs that differ in their seed must be measured on the same rows


@dataclass(frozen=True)
class Rows:
    """Data sets with the same kind of rows after each other (the training sources, or one evaluation set)."""

    datasets: list[Dataset]
    keys: list[str]  # cache key of each: the content they were made from

    @property
    def num_rows(self) -> int:
        """Rows of all data sets together."""
        return sum(len(dataset) for dataset in self.datasets)


@dataclass(frozen=True)
class Tokenizing:
    """What all sources of a recipe are tokenized with."""

    data: DataSection
    recipe_dir: Path
    tokenizer: Any
    template: str | None
    keep_columns: tuple[str, ...]  # columns of the data with a number per token that a method or the grouping reads
    say: Say
    keep_row_columns: tuple[str, ...] = ()  # columns of the data with a number per row that the objective reads
    given: GivenGroups | None = None  # which groups the rows themselves give


def tokenized(
    sources: dict[str, TrainSource] | dict[str, EvalSource], job: Tokenizing, shown: str | None = None
) -> tuple[Rows, list[PreparationReport]]:
    """Tokenized rows of the labelled sources, each cached by content, and what became of their rows.

    Args:
        shown: what people are told that is tokenized; None: the sources' paths.
    """
    from datasets import Dataset

    from sftgo_cli.data.preparation_report import PreparationReport
    from sftgo_cli.data.remote_files import shown as shown_path

    datasets: list[Dataset] = []
    keys: list[str] = []
    reports = []
    for label, source in sources.items():
        before = Rows(datasets, keys) if isinstance(source, TrainSource) and job.data.deduplicate else None
        stage = _tokenized_source(label, source, job, shown or shown_path(str(source.path)), before)
        described = json.loads((stage.path / "report.json").read_text(encoding="utf-8"))
        reports.append(PreparationReport.from_json(described["report"]))
        datasets.append(Dataset.from_file(str(stage.path / "rows.arrow")).select_columns(described["columns"]))
        keys.append(stage.key)
    return Rows(datasets, keys), reports


def _tokenized_source(
    label: str, source: TrainSource | EvalSource, job: Tokenizing, shown: str, before: Rows | None
) -> CachedStage:
    """Args: before: the training rows that equal rows are not to repeat; None keeps equal rows."""
    from sftgo_cli.data.holdout import column_of
    from sftgo_cli.data.prepare import prepare_rows
    from sftgo_cli.data.sources import resolve_source, source_fingerprint
    from sftgo_cli.data.templates import chosen_template
    from sftgo_cli.data.tokenizer import tokenizer_fingerprint

    resolved = resolve_source(source, job.recipe_dir, label)
    template = job.template
    if source.chat_template is not None:
        template = chosen_template(job.data, job.tokenizer, job.recipe_dir, source.chat_template)
    ingredients = {
        "content": source_fingerprint(resolved),
        "source": {"label": label, **source.model_dump(include={"format", "columns", "max_samples"})},
        "data": job.data.model_dump(include=ROW_OPTIONS),
        "tokenizer": tokenizer_fingerprint(job.tokenizer),
        "chat_template": template,
        "keep_columns": list(job.keep_columns),
    }
    if job.keep_row_columns:
        ingredients["keep_row_columns"] = list(job.keep_row_columns)
    if before is not None:
        ingredients["without_rows_of"] = list(before.keys)
    if job.given is not None:
        ingredients["given_groups"] = asdict(job.given)

    def build(folder: Path) -> None:
        job.say(f"tokenizing {label} ({shown})")
        prepared = prepare_rows(
            resolved,
            source,
            job.data,
            job.tokenizer,
            template,
            job.keep_columns,
            folder / "rows.arrow",
            every_few_seconds(label, job.say),
            job.keep_row_columns,
            job.given,
            None if before is None else set(column_of(before.datasets, ROW_KEY).tolist()),
        )
        described = {"report": prepared.report.to_json(), "columns": prepared.dataset.column_names}
        (folder / "report.json").write_text(json.dumps(described), encoding="utf-8")

    return cached("tokenize", TOKENIZE_VERSION, ingredients, build, job.say)


def every_few_seconds(label: str, say: Say, seconds: float = 5.0) -> Callable[[int], None]:
    """Says how many rows are done and at which rate, at most every `seconds`; how many there are is not known before."""
    start = last = time.monotonic()

    def report(num_rows: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= seconds:
            last = now
            say(f"tokenizing {label}: {num_rows:,} rows, {num_rows / (now - start):,.0f} rows/s")

    return report


def held_out(train: Rows, fractions: dict[str, float], say: Say) -> tuple[Rows, dict[str, Rows]]:
    """Take the evaluation sets by fraction out of the training sources; no row, and no prompt, is in two sets.

    Args:
        fractions: set name -> fraction of all training rows.
    """
    heldout: dict[str, Rows] = {}
    taken = 0.0
    for name, fraction in fractions.items():
        train, heldout[name] = _split(train, name, fraction / (1.0 - taken), say)
        taken += fraction
    return train, heldout


def _split(train: Rows, name: str, fraction: float, say: Say) -> tuple[Rows, Rows]:
    from datasets import Dataset, concatenate_datasets

    from sftgo_cli.data.holdout import split_heldout

    def build(folder: Path) -> None:
        keys = [dataset.select_columns([ROW_ID, PROMPT_KEY]) for dataset in train.datasets]
        parts = dict(zip(PARTS, split_heldout(concatenate_datasets(keys), fraction, HOLDOUT_SEED), strict=True))
        start = 0
        for number, dataset in enumerate(train.datasets):
            for part, rows in parts.items():
                own = [row - start for row in rows if start <= row < start + len(dataset)]
                _write_rows(dataset, own, folder / f"{number}-{part}.arrow")
            start += len(dataset)

    ingredients = {"rows": train.keys, "set": name, "fraction": fraction, "seed": HOLDOUT_SEED}
    stage = cached("hold_out", HOLDOUT_VERSION, ingredients, build, say)
    sides = []
    for part in PARTS:
        files = [stage.path / f"{number}-{part}.arrow" for number in range(len(train.datasets))]
        keys = [f"{stage.key}-{number}-{part}" for number in range(len(files))]
        sides.append(Rows([Dataset.from_file(str(file)) for file in files], keys))
    return sides[0], sides[1]


def _write_rows(dataset: Dataset, rows: Sequence[int], path: Path) -> None:
    import pyarrow as pa

    if rows:
        dataset.select(rows).flatten_indices(cache_file_name=str(path))
        return
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, dataset.features.arrow_schema):
        pass  # `datasets` writes no file for no rows


def write_column(
    path: Path, name: str, dtype: Any, chunks: Iterable[tuple[npt.NDArray[np.int64], npt.NDArray[Any]]]
) -> None:
    """Write one list column, (row offsets, flat values) per chunk; see `write_columns`."""
    write_columns(path, {name: dtype}, ((row_offsets, {name: values}) for row_offsets, values in chunks))


def write_columns(
    path: Path,
    dtypes: dict[str, Any],
    chunks: Iterable[tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[Any]]]],
) -> None:
    """Write list columns of one layout, (row offsets, flat values by name) per chunk, as an Arrow stream that `datasets`
    memory-maps.

    Args:
        dtypes: the columns in their order, each with its numpy type.
    """
    import pyarrow as pa

    from sftgo_cli.columns import features
    from sftgo_cli.data.rows import list_array

    schema = features(list(dtypes)).arrow_schema
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for row_offsets, values in chunks:
            arrays = [
                list_array(values[name].astype(dtype, copy=False), row_offsets).cast(schema.field(name).type)
                for name, dtype in dtypes.items()
            ]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def beside(rows: Rows, stage: CachedStage) -> Rows:
    """Put a stage's column files (`0.arrow`, ...) beside the data sets they were computed from; no copy.

    A column that the data set has already is replaced: the stage was asked for its own.
    """
    from datasets import Dataset, concatenate_datasets

    wider = []
    for number, dataset in enumerate(rows.datasets):
        written = Dataset.from_file(str(stage.path / f"{number}.arrow"))
        replaced = [name for name in written.column_names if name in dataset.column_names]
        wider.append(concatenate_datasets([dataset.remove_columns(replaced), written], axis=1))
    return Rows(wider, [f"{stage.key}-{number}" for number in range(len(wider))])


def check_new_folder(folder: Path) -> None:
    """Raises UserError when the folder exists and is not empty, or is a file."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError("the output folder is not empty", str(folder), "give a new folder")


def save_columns(rows: Rows, folder: Path) -> None:
    """Write the finished columns of all data sets for `datasets.load_from_disk`. Raises as `check_new_folder`."""
    from datasets import concatenate_datasets

    check_new_folder(folder)
    present = {name for dataset in rows.datasets for name in dataset.column_names}
    filled = [_with_weights(dataset, present) for dataset in rows.datasets]
    concatenate_datasets(filled).save_to_disk(str(folder))


def _with_weights(dataset: Dataset, present: Sequence[str] | set[str]) -> Dataset:
    """The data set with the weight columns that any source has: where one was left out it is 1 everywhere."""
    from sftgo_cli.columns import features

    for name in sorted({TOKEN_WEIGHTS, LOSS_WEIGHT} & (set(present) - set(dataset.column_names))):
        lengths = [len(labels) for labels in dataset[LABELS]]
        ones: list[Any] = [1.0] * len(lengths) if name == LOSS_WEIGHT else [[1.0] * length for length in lengths]
        dataset = dataset.add_column(name, ones, feature=features([name])[name])
    return dataset
