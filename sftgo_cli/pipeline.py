"""The order of the data stages: tokenise, hold out, score, group. The only file that knows it.

Every stage is cached by content (cache.py). Sources are tokenised one by one; scores and groups of the training rows are
computed over all of them together, evaluation sets with the training set's statistics. A stage never contains a method's
name: it asks the method's module.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli import methods
from sftgo_cli.cache import CachedStage, cached
from sftgo_cli.columns import GROUP_IDS, LABELS, PINNED, TOKEN_SCORES
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.load import LoadedRecipe, load_recipe
from sftgo_cli.recipe.schema import EvalSource, Recipe, TrainSource

if TYPE_CHECKING:
    from datasets import Dataset

    from sftgo_cli.data.preparation_report import PreparationReport
    from sftgo_cli.data.rows import TokenTable

Say = Callable[[str], None]
TOKENIZE_VERSION = 1
GROUP_VERSION = 1
HOLDOUT_VERSION = 1
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
class PreparedData:
    """What training and evaluation read: training rows, evaluation sets by name, reports of all sources."""

    train: Rows
    evaluation: dict[str, Rows]
    reports: list[PreparationReport]
    tokenizer: Any
    template: str | None
    num_groups: int

    def content_keys(self) -> dict[str, Any]:
        """The content keys that identify the training data of a run."""
        return {f"train.{number}": key for number, key in enumerate(self.train.keys)}


def load(path: Path, overrides: Sequence[str]) -> LoadedRecipe:
    """The recipe with its overrides, checked against the methods that exist. Raises UserError(s)."""
    return load_recipe(path, overrides, methods)


def prepare(loaded: LoadedRecipe, say: Say, score: bool = True, use_cache: bool = True) -> PreparedData:
    """Run or reuse every data stage of a recipe.

    Args:
        say: gets one line about every stage that does work.
        score: False stops after tokenising (a check of the data).

    Raises:
        UserError: anything wrong with the data, the tokenizer, the template or the scores.
    """
    from sftgo_cli.data.templates import resolve_chat_template
    from sftgo_cli.data.tokenizer import load_tokenizer

    recipe = loaded.recipe
    tokenizer = load_tokenizer(recipe.model, loaded.source_dir)
    template = resolve_chat_template(recipe.data.chat_template, tokenizer, loaded.source_dir)
    stage = _Tokenizing(loaded, tokenizer, template, say)
    reports: list[PreparationReport] = []
    train = stage.rows({f"train.{number}": source for number, source in enumerate(recipe.data.train)}, reports)
    named = {name: source for name, source in recipe.data.eval.items() if source.fraction is None}
    evaluation = {name: stage.rows({name: source}, reports) for name, source in named.items()}
    _check_supervised(reports, recipe)
    fractions = {name: source.fraction for name, source in recipe.data.eval.items() if source.fraction is not None}
    train, heldout = _hold_out(train, fractions, say)
    evaluation = {name: {**evaluation, **heldout}[name] for name in recipe.data.eval}
    if score:
        ungrouped = train
        train = _grouped(ungrouped, ungrouped, recipe, say)
        evaluation = {name: _grouped(rows, ungrouped, recipe, say) for name, rows in evaluation.items()}
    return PreparedData(train, evaluation, reports, tokenizer, template, recipe.grouping.num_groups())


@dataclass(frozen=True)
class _Tokenizing:
    """Tokenises sources under the cache."""

    loaded: LoadedRecipe
    tokenizer: Any
    template: str | None
    say: Say

    def rows(self, sources: dict[str, TrainSource] | dict[str, EvalSource], reports: list[PreparationReport]) -> Rows:
        """Tokenised rows of the labelled sources; appends their reports."""
        from datasets import Dataset

        from sftgo_cli.data.preparation_report import PreparationReport

        datasets, keys = [], []
        for label, source in sources.items():
            stage = self._source(label, source)
            described = json.loads((stage.path / "report.json").read_text(encoding="utf-8"))
            reports.append(PreparationReport.from_json(described["report"]))
            datasets.append(Dataset.from_file(str(stage.path / "rows.arrow")).select_columns(described["columns"]))
            keys.append(stage.key)
        return Rows(datasets, keys)

    def _source(self, label: str, source: TrainSource | EvalSource) -> CachedStage:
        from sftgo_cli.data.prepare import prepare_rows
        from sftgo_cli.data.sources import resolve_source, source_fingerprint
        from sftgo_cli.data.tokenizer import tokenizer_fingerprint

        data = self.loaded.recipe.data
        resolved = resolve_source(source, self.loaded.source_dir, label)
        keep = _source_columns(self.loaded.recipe)
        ingredients = {
            "content": source_fingerprint(resolved),
            "source": {"label": label, **source.model_dump(include={"format", "columns", "max_samples"})},
            "data": data.model_dump(include={"max_length", "on_overlong", "train_on"}),
            "tokenizer": tokenizer_fingerprint(self.tokenizer),
            "chat_template": self.template,
            "keep_columns": list(keep),
        }

        def build(folder: Path) -> None:
            self.say(f"tokenizing {label}: {source.path}")
            prepared = prepare_rows(resolved, source, data, self.tokenizer, self.template, keep, folder / "rows.arrow")
            described = {"report": prepared.report.to_json(), "columns": prepared.dataset.column_names}
            (folder / "report.json").write_text(json.dumps(described), encoding="utf-8")

        return cached("tokenize", TOKENIZE_VERSION, ingredients, build, self.say)


def _source_columns(recipe: Recipe) -> tuple[str, ...]:
    """Columns of the data that the scorer reads and that must therefore reach the tokenised rows."""
    module = methods.module("scoring", recipe.scoring.name)
    return tuple(module.source_columns(recipe.scoring.options)) if hasattr(module, "source_columns") else ()


def _check_supervised(reports: list[PreparationReport], recipe: Recipe) -> None:
    """Refuse data in which too many rows have nothing to learn from."""
    allowed = recipe.data.max_unsupervised_fraction
    for report in reports:
        if report.rows_unsupervised > allowed * report.rows_in:
            named = [row for rows in report.dropped.values() for row in rows.first_rows][:5]
            raise UserError(
                f"{report.rows_unsupervised} of {report.rows_in} rows have no supervised token (allowed: {allowed:.0%})",
                f"{report.source}, rows {', '.join(named)}",
                "fix the rows, or raise data.max_unsupervised_fraction",
            )


def _hold_out(train: Rows, fractions: dict[str, float], say: Say) -> tuple[Rows, dict[str, Rows]]:
    """Take the evaluation sets by fraction out of every training source; no row is in two sets."""
    heldout: dict[str, Rows] = {}
    taken = 0.0
    for name, fraction in fractions.items():
        kept_datasets, kept_keys, held_datasets, held_keys = [], [], [], []
        for dataset, key in zip(train.datasets, train.keys, strict=True):
            rest, held, stage_key = _split(dataset, key, name, fraction / (1.0 - taken), say)
            kept_datasets.append(rest)
            kept_keys.append(f"{stage_key}-train")
            held_datasets.append(held)
            held_keys.append(f"{stage_key}-heldout")
        train, heldout[name] = Rows(kept_datasets, kept_keys), Rows(held_datasets, held_keys)
        taken += fraction
    return train, heldout


def _split(dataset: Dataset, key: str, name: str, fraction: float, say: Say) -> tuple[Dataset, Dataset, str]:
    from datasets import Dataset

    from sftgo_cli.data.prepare import split_heldout

    def build(folder: Path) -> None:
        for part, rows in zip(("train", "heldout"), split_heldout(dataset, fraction, HOLDOUT_SEED), strict=True):
            dataset.select(rows).flatten_indices(cache_file_name=str(folder / f"{part}.arrow"))

    ingredients = {"rows": key, "set": name, "fraction": fraction, "seed": HOLDOUT_SEED}
    stage = cached("hold_out", HOLDOUT_VERSION, ingredients, build, say)
    rest, held = (Dataset.from_file(str(stage.path / f"{part}.arrow")) for part in ("train", "heldout"))
    return rest, held, stage.key


def _grouped(rows: Rows, fit_on: Rows, recipe: Recipe, say: Say) -> Rows:
    """The rows with the columns token_scores and group_ids beside them."""
    scored = _scored(rows, fit_on, recipe, say)
    grouping = recipe.grouping
    settings = {"cuts": grouping.cuts(), **grouping.model_dump(include={"special_tokens", "invert"})}

    def build(folder: Path) -> None:
        import numpy as np

        from sftgo_cli.grouping import group_tokens

        for number, dataset in enumerate(scored.datasets):
            chunks = _table([dataset], (LABELS, PINNED, TOKEN_SCORES)).chunks()
            _write_column(folder / f"{number}.arrow", GROUP_IDS, np.int8, (
                (chunk.row_offsets, group_tokens(
                    chunk.columns[TOKEN_SCORES], chunk.row_offsets, chunk.supervised, chunk.columns[PINNED],
                    grouping.cuts(), grouping.special_tokens, grouping.invert,
                ))
                for chunk in chunks
            ))  # fmt: skip

    stage = cached("group", GROUP_VERSION, {"scores": scored.keys, "grouping": settings}, build, say)
    return _beside(scored, stage)


def _scored(rows: Rows, fit_on: Rows, recipe: Recipe, say: Say) -> Rows:
    """The rows with token_scores beside them."""
    choice = recipe.scoring
    module = methods.module("scoring", choice.name)
    token_columns, row_columns = module.columns(choice.options)

    def build(folder: Path) -> None:
        import numpy as np

        say(f"scoring {rows.num_rows} rows with {choice.name}")
        fitted = _table(fit_on.datasets, token_columns, row_columns)
        for number, dataset in enumerate(rows.datasets):
            table = _table([dataset], token_columns, row_columns)
            scores = module.score(table, fitted, choice.options)
            offsets = (chunk.row_offsets for chunk in table.chunks())
            pairs = zip(offsets, scores, strict=True)
            _write_column(folder / f"{number}.arrow", TOKEN_SCORES, np.float32, pairs)

    ingredients = {
        "scorer": choice.name,
        "scorer_version": module.VERSION,
        "options": choice.options.model_dump(),
        "rows": rows.keys,
        "fit_on": fit_on.keys,
    }
    return _beside(rows, cached("score", 1, ingredients, build, say))


def _table(datasets: Sequence[Dataset], token_columns: Sequence[str], row_columns: Sequence[str] = ()) -> TokenTable:
    from sftgo_cli.data.rows import TokenTable

    return TokenTable(datasets, token_columns, row_columns)


def _write_column(path: Path, name: str, dtype: Any, chunks: Any) -> None:
    """Write one list column as an Arrow stream that `datasets` memory-maps."""
    import pyarrow as pa

    from sftgo_cli.columns import features
    from sftgo_cli.data.rows import list_array

    schema = features([name]).arrow_schema
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for row_offsets, values in chunks:
            array = list_array(values.astype(dtype, copy=False), row_offsets)
            writer.write_batch(pa.record_batch([array.cast(schema.field(0).type)], schema=schema))


def _beside(rows: Rows, stage: CachedStage) -> Rows:
    """Put a stage's column files beside the data sets they were computed from; no copy."""
    from datasets import Dataset, concatenate_datasets

    wider = [
        concatenate_datasets([dataset, Dataset.from_file(str(stage.path / f"{number}.arrow"))], axis=1)
        for number, dataset in enumerate(rows.datasets)
    ]
    return Rows(wider, [f"{stage.key}-{number}" for number in range(len(wider))])


def save_columns(rows: Rows, folder: Path) -> None:
    """Write the finished columns of the training rows for `datasets.load_from_disk`.

    Raises:
        UserError: the folder exists and is not empty.
    """
    from datasets import concatenate_datasets

    if folder.exists() and any(folder.iterdir()):
        raise UserError("the output folder is not empty", str(folder), "give a new folder")
    concatenate_datasets(_same_columns(rows.datasets)).save_to_disk(str(folder))


def _same_columns(datasets: list[Dataset]) -> list[Dataset]:
    """All data sets with the weight columns that any of them has; where one was left out it was 1 everywhere."""
    from sftgo_cli.columns import LOSS_WEIGHT, TOKEN_WEIGHTS

    present = {name for dataset in datasets for name in dataset.column_names}
    filled = []
    for dataset in datasets:
        for name in sorted({TOKEN_WEIGHTS, LOSS_WEIGHT} & (present - set(dataset.column_names))):
            ones = [1.0] * len(dataset) if name == LOSS_WEIGHT else [[1.0] * len(labels) for labels in dataset[LABELS]]
            dataset = dataset.add_column(name, ones)
        filled.append(dataset)
    return filled


def train(
    loaded: LoadedRecipe,
    num_processes: int | None,
    launch_flags: Sequence[str],
    arguments: Sequence[str],
    say: Say,
    console: Any,
) -> int:
    """Check the folder, run the data stages, then train here or in ranks of their own; returns the exit code.

    Args:
        num_processes: `-n`, or None for one per accelerator.
        launch_flags: flags for `accelerate launch`.
        arguments: the command line that a rank runs: `train RECIPE overrides`.
    """
    from sftgo_cli.run_dir import RunIdentity, check_output_dir
    from sftgo_cli.training import launch

    recipe = loaded.recipe
    folder = check_output_dir(recipe.training.output_dir)
    data = prepare(loaded, say)
    if launch.inside_launcher():
        launch.check_expected()
    else:
        planned = launch.plan_launch(num_processes, launch_flags, recipe.training.use_cpu)
        print_reports(data, console)
        if planned is not None:
            return launch.run_ranks(planned, arguments)
    from sftgo_cli.training.run import TrainingInputs
    from sftgo_cli.training.run import train as train_ranks
    from sftgo_cli.tuning.base_model import model_fingerprint

    stages = {"data": data.content_keys(), "model": model_fingerprint(recipe.model, loaded.source_dir)}
    inputs = TrainingInputs(
        recipe=recipe,
        recipe_text=loaded.text,
        recipe_dir=loaded.source_dir,
        identity=RunIdentity(loaded.resolved_in(folder), stages, launch.world_size(), str(loaded.source_dir)),
        train=data.train.datasets,
        evaluation={name: rows.datasets for name, rows in data.evaluation.items()},
        tokenizer=data.tokenizer,
        template=data.template,
        tuner=methods.module("tuning", recipe.tuning.name),
        objective=methods.module("objective", recipe.objective.name),
    )
    train_ranks(inputs, say, console)
    return 0


def print_reports(data: PreparedData, console: Any) -> None:
    """The length and token table of every source, always printed before training."""
    from sftgo_cli.report.data_table import data_notes, data_table

    console.print(data_table(data.reports))
    for note in data_notes(data.reports):
        console.print(note, highlight=False)
