"""The recipe's sections and their defaults: the one place where a key, its type and its meaning stand.

Names are the Hugging Face ones where one exists. `load.py` turns YAML into these models; `training/arguments.py` maps
`TrainingSection` to the installed `transformers.TrainingArguments`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from sftgo_cli.recipe.options import JudgeChoice, MethodChoice, StrictModel

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
OpenFraction = Annotated[float, Field(gt=0.0, lt=1.0)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what numpy takes
NonEmpty = Annotated[str, Field(pattern=r"\S")]
SafeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length=100)]  # also a file's name
Interval = Literal["no", "steps", "epoch"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
MAX_GROUPS = 127  # group_ids are int8
NumGroups = Annotated[int, Field(ge=1, le=MAX_GROUPS)]
Role = Literal["system", "developer", "user", "assistant", "tool", "function", "ipython"]
Format = Literal["auto", "alpaca", "messages", "sharegpt", "prompt_completion", "text", "tokenized"]


class ModelSection(StrictModel):
    """Which base model, at which revision, in which compute type."""

    name_or_path: NonEmpty = Field(description="Hub id, local folder, or builtin:tiny")
    revision: str | None = Field(None, description="Branch, tag or commit on the Hub")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("bfloat16", description="Compute type")
    attn_implementation: str | None = Field(
        None, description="sdpa, eager, flash_attention_2, ...; null lets it choose"
    )
    trust_remote_code: bool = Field(False, description="Run code that comes with the model")
    quantization: Literal["nf4", "fp4", "int8"] | None = Field(
        None, description="Load the frozen base weights quantized (QLoRA); needs the extra `quantization`"
    )


class SourceSection(StrictModel):
    """One data source: where its rows are and how they are read."""

    path: NonEmpty = Field(description="Hub id, local file or folder, or builtin:NAME")
    name: str | None = Field(None, description="Configuration of a Hub data set")
    split: str = Field("train", description="Split to read")
    revision: str | None = Field(None, description="Branch, tag or commit on the Hub")
    format: Format = Field("auto", description="Row format; auto finds it from the columns")
    columns: dict[str, str] = Field(default_factory=dict, description="Our column name: the data's column name")
    max_samples: PositiveInt | None = Field(None, description="Use at most the first N rows")


class TrainSource(SourceSection):
    """A training source; `weight` w draws floor(w n) of its n rows each epoch (w > 1 repeats)."""

    weight: Positive = Field(1.0, description="Share of the source's rows drawn each epoch; above 1 repeats rows")


class EvalSource(StrictModel):
    """A named evaluation set: a source of its own, or a fraction held out of the training rows."""

    path: NonEmpty | None = Field(None, description="Hub id, local file or folder, or builtin:NAME")
    name: str | None = Field(None, description="Configuration of a Hub data set")
    split: str = Field("train", description="Split to read")
    revision: str | None = Field(None, description="Branch, tag or commit on the Hub")
    format: Format = Field("auto", description="Row format; auto finds it from the columns")
    columns: dict[str, str] = Field(default_factory=dict, description="Our column name: the data's column name")
    max_samples: PositiveInt | None = Field(None, description="Use at most the first N rows")
    fraction: OpenFraction | None = Field(None, description="Hold out this fraction of the training rows instead")


class DataSection(StrictModel):
    """Training and evaluation rows, and how they become tokens."""

    train: list[TrainSource] = Field(min_length=1, description="Sources, mixed by weight")
    eval: dict[SafeName, EvalSource] = Field(default_factory=dict, description="Named evaluation sets")
    max_length: Annotated[int, Field(ge=2)] = Field(2048, description="Longest sample in tokens")
    on_overlong: Literal["truncate", "drop", "error"] = Field("truncate", description="What happens to longer samples")
    train_on: Literal["assistant", "completion", "all"] = Field("assistant", description="Which tokens are supervised")
    chat_template: str | None = Field(None, description="Name of a shipped template, a .jinja file, or inline Jinja")
    packing: bool = Field(True, description="Put several whole samples in one sequence of max_length")
    max_unsupervised_fraction: Fraction = Field(
        0.01, description="Refuse to train when more rows than this have no supervised token"
    )


class ColumnGroups(StrictModel):
    """Groups that a column of the data gives: one integer per token of the row."""

    name: NonEmpty = Field(description="Column with one group per token, 0 = least important")
    num_groups: NumGroups = Field(description="Number of groups")


class SegmentGroups(StrictModel):
    """Groups that the segments of the responses give (`{text: ..., group: 1}`)."""

    num_groups: NumGroups = Field(2, description="Number of groups")


class GroupingSection(StrictModel):
    """How tokens come into groups: by score within each sample, over all tokens, or as the rows say; one key decides."""

    important_fraction: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(
        None, description="Share of each sample's tokens that is important (two groups); default 0.3"
    )
    boundaries: list[OpenFraction] | None = Field(
        None, description="Cumulative fractions from the top, strictly increasing: more than two groups"
    )
    quantiles: list[OpenFraction] | None = Field(
        None, description="As boundaries, but cut over all training tokens together instead of per sample"
    )
    thresholds: list[Finite] | None = Field(
        None, description="Scores, strictly increasing; a token's group is the number of them that it reaches"
    )
    column: ColumnGroups | None = Field(None, description="Groups from a column: {name: ..., num_groups: ...}")
    roles: list[list[Role]] | None = Field(
        None, description="Groups by role of the message, least important first: [[system, user], [assistant]]"
    )
    segments: SegmentGroups | None = Field(
        None, description="Groups from the segments of the responses: {num_groups: ...}"
    )
    special_tokens: Literal["important", "unimportant", "scored"] = Field(
        "important", description="Group of special tokens and the end of turn, which are frequent and so score low"
    )
    invert: bool = Field(False, description="Rank by the negated score (a control)")

    def cuts(self) -> list[float] | None:
        """The cumulative fractions from the top, one fewer than there are groups; None where no fraction decides."""
        if self.boundaries is not None or self.quantiles is not None:
            return list(self.boundaries if self.boundaries is not None else self.quantiles or ())
        if any(key is not None for key in (self.thresholds, self.column, self.roles, self.segments)):
            return None
        return [0.3 if self.important_fraction is None else self.important_fraction]

    def num_groups(self) -> int:
        """Number of groups G."""
        given = self.column or self.segments
        if given is not None:
            return given.num_groups
        if self.roles is not None:
            return len(self.roles)
        cuts = self.thresholds if self.thresholds is not None else self.cuts()
        return len(cuts or ()) + 1


class TrainingSection(StrictModel):
    """The Trainer's own option names, with our defaults; the refused ones are listed in `REFUSED_TRAINING_KEYS`."""

    output_dir: NonEmpty = Field(description="The run's folder, relative to the working directory")
    num_train_epochs: Positive = Field(3.0, description="Passes over the training rows")
    max_steps: Annotated[int, Field(ge=-1)] = Field(
        -1, description="Stop after this many optimizer steps; -1: by epochs"
    )
    learning_rate: NonNegative = Field(
        1.0e-5, description="Peak learning rate; about 1e-5 for full fine-tuning, 1e-4 for LoRA"
    )
    per_device_train_batch_size: PositiveInt = Field(
        8, description="Rows (bins when packing) per micro-batch and device"
    )
    per_device_eval_batch_size: PositiveInt = Field(8, description="Rows per evaluation batch and device")
    gradient_accumulation_steps: PositiveInt = Field(1, description="Micro-batches per optimizer step")
    lr_scheduler_type: str = Field("cosine", description="linear, cosine, constant, constant_with_warmup, ...")
    lr_scheduler_kwargs: dict[str, Any] | None = Field(None, description="Extra arguments of the scheduler")
    warmup_ratio: Fraction | None = Field(None, description="Share of the steps that warms the learning rate up")
    warmup_steps: NonNegativeInt | None = Field(
        None, description="Steps that warm the learning rate up; instead of warmup_ratio"
    )
    optim: str = Field("adamw_torch", description="Optimizer: adamw_torch, adamw_torch_fused, adafactor, ...")
    optim_args: str | None = Field(None, description="Extra arguments of the optimizer, as key=value,...")
    weight_decay: NonNegative = Field(0.0, description="Decay of the weights")
    adam_beta1: Fraction = Field(0.9, description="Decay of the first moment")
    adam_beta2: Fraction = Field(0.999, description="Decay of the second moment")
    adam_epsilon: Positive = Field(1e-8, description="Adam's epsilon")
    max_grad_norm: NonNegative = Field(1.0, description="Clip gradients to this norm; 0 does not clip")
    seed: Seed = Field(42, description="Seed of everything random")
    data_seed: Seed | None = Field(None, description="Order of the rows; default: seed")
    gradient_checkpointing: bool = Field(False, description="Recompute activations to save memory")
    gradient_checkpointing_kwargs: dict[str, Any] | None = Field(None, description="Extra arguments of checkpointing")
    torch_compile: bool = Field(False, description="Compile the model")
    torch_compile_backend: str | None = Field(None, description="Backend of torch.compile")
    torch_compile_mode: str | None = Field(None, description="Mode of torch.compile")
    tf32: bool | None = Field(None, description="Allow TF32 on the GPU; null keeps the default")
    use_cpu: bool = Field(False, description="Train on the CPU even if there is a GPU")
    full_determinism: bool = Field(False, description="Deterministic kernels only (slower)")
    neftune_noise_alpha: Positive | None = Field(None, description="Strength of NEFTune noise")
    train_sampling_strategy: Literal["random", "sequential", "group_by_length"] = Field(
        "random", description="Order of the training rows"
    )
    logging_strategy: Literal["no", "steps", "epoch"] = Field("steps", description="When a line goes to metrics.jsonl")
    logging_steps: PositiveInt = Field(10, description="Steps between log lines")
    logging_first_step: bool = Field(True, description="Log the first step too")
    report_to: str | list[str] = Field("none", description="Trackers: none, wandb, tensorboard, ... or a list")
    run_name: SafeName | None = Field(None, description="The run's name for trackers")
    project: str = Field("huggingface", description="The trackers' project")
    disable_tqdm: bool | None = Field(None, description="Hide the progress bar; null shows it on a terminal")
    eval_strategy: Interval | None = Field(None, description="Default: epoch when there are evaluation sets, else no")
    eval_steps: PositiveInt | None = Field(None, description="Steps between evaluations; default: logging_steps")
    eval_delay: NonNegative = Field(0.0, description="Epochs or steps before the first evaluation")
    eval_on_start: bool = Field(False, description="Evaluate before training")
    save_strategy: Interval = Field("epoch", description="When a checkpoint is saved")
    save_steps: PositiveInt = Field(500, description="Steps between checkpoints")
    save_total_limit: Annotated[int, Field(ge=2)] | None = Field(
        2, description="Checkpoints kept; at least two, so that one is whole while another is written"
    )
    load_best_model_at_end: bool = Field(False, description="End with the best checkpoint")
    metric_for_best_model: str | None = Field(None, description="Default: eval_<first set>_loss")
    greater_is_better: bool | None = Field(None, description="Whether a larger metric is better; null: by its name")
    early_stopping_patience: PositiveInt | None = Field(
        None, description="Stop after N evaluations without improvement"
    )
    early_stopping_threshold: NonNegative = Field(0.0, description="What counts as an improvement")
    push_to_hub: bool = Field(False, description="Upload the finished run to the Hub")
    hub_model_id: str | None = Field(None, description="Name of the Hub repository")
    hub_private_repo: bool | None = Field(None, description="Whether the repository is private")
    dataloader_num_workers: NonNegativeInt = Field(0, description="Processes that load data")
    dataloader_pin_memory: bool = Field(True, description="Pin host memory for faster copies")
    dataloader_persistent_workers: bool = Field(False, description="Keep the workers between epochs")
    dataloader_prefetch_factor: PositiveInt | None = Field(None, description="Batches each worker loads ahead")
    ddp_backend: str | None = Field(None, description="nccl, gloo, ...; null chooses")
    ddp_timeout: PositiveInt = Field(1800, description="Seconds to wait for other processes")
    ddp_bucket_cap_mb: PositiveInt | None = Field(None, description="Size of gradient buckets in MB")
    deepspeed: str | None = Field(None, description="DeepSpeed JSON file")


REFUSED_TRAINING_KEYS: dict[str, str] = {
    "label_smoothing_factor": "the loss is exactly the objective's; remove it",
    "use_liger_kernel": "it replaces the loss and drops per-token weights; sftgo has its own head",
    "auto_find_batch_size": "it would change the optimizer step's rows silently; set per_device_train_batch_size",
    "ignore_data_skip": "resuming would train rows twice; sftgo restores the exact position",
    "context_parallel_size": "context parallelism would split samples across ranks; not supported",
    "average_tokens_across_devices": "always exact over the whole optimizer step; remove it",
    "dataloader_drop_last": "no row is ever dropped; remove it",
    "bf16": "set model.dtype: bfloat16",
    "fp16": "set model.dtype: float16",
    "logging_nan_inf_filter": "it hides divergence; sftgo stops instead",
    "logging_dir": "the run's folder holds metrics.jsonl; trackers choose their own folder",
    "group_by_length": "use train_sampling_strategy: group_by_length",
    "remove_unused_columns": "per-token columns must reach the loss; remove it",
    "resume_from_checkpoint": "run the same command again: it resumes by itself",
    "fsdp": "sharding is how the machine runs: -- --config_file configs/accelerate/fsdp2.yaml",
    "fsdp_config": "sharding is how the machine runs: -- --config_file configs/accelerate/fsdp2.yaml",
    "hub_strategy": "the finished run is uploaded once, when it is complete; remove it",
    "do_train": "use `sftgo train`",
    "do_eval": "use `sftgo eval` or training.eval_strategy",
    "local_rank": "ranks come from the launcher",
}


class AnswerCheck(StrictModel):
    """How the answers that a model gives to the questions of a set are judged."""

    judge: JudgeChoice = Field(description="Who decides whether an answer is right: {name: numeric}, ...")
    max_new_tokens: PositiveInt = Field(256, description="Where an answer is cut, in tokens; a cut one is wrong")


class EvaluationSection(StrictModel):
    """What `sftgo eval` measures; default: every set of `data.eval`."""

    sets: list[str] | None = Field(None, description="Names from data.eval; null means all of them")
    answers: dict[str, AnswerCheck] = Field(
        default_factory=dict, description="Sets whose questions are answered and judged: {heldout: {judge: numeric}}"
    )
    tasks: list[str] = Field(default_factory=list, description="lm-evaluation-harness tasks (extra)")


class Recipe(StrictModel):
    """A whole recipe, every default filled in."""

    model: ModelSection
    data: DataSection
    curation: list[MethodChoice] = Field(default_factory=list)
    scoring: MethodChoice
    grouping: GroupingSection = Field(default_factory=lambda: GroupingSection.model_validate({}))
    objective: MethodChoice
    tuning: MethodChoice
    training: TrainingSection
    evaluation: EvaluationSection = Field(default_factory=lambda: EvaluationSection.model_validate({}))


DEFAULT_METHODS: dict[str, str] = {"scoring": "tfidf", "objective": "sft_go", "tuning": "lora"}

# What people type out of habit from other tools, and what it is called here: hints in error messages only.
FOREIGN_KEYS: dict[str, str] = {
    "base_model": "model.name_or_path",
    "model_name_or_path": "model.name_or_path",
    "model_name": "model.name_or_path",
    "torch_dtype": "model.dtype",
    "flash_attention": "model.attn_implementation",
    "load_in_4bit": "model.quantization: nf4",
    "load_in_8bit": "model.quantization: int8",
    "max_seq_length": "data.max_length",
    "max_seq_len": "data.max_length",
    "sequence_len": "data.max_length",
    "cutoff_len": "data.max_length",
    "sample_packing": "data.packing",
    "dataset": "data.train",
    "datasets": "data.train",
    "dataset_name": "data.train.0.path",
    "val_set_size": "data.eval: {heldout: {fraction: ...}}",
    "train_on_inputs": "data.train_on",
    "assistant_only_loss": "data.train_on: assistant",
    "completion_only_loss": "data.train_on: completion",
    "template": "data.chat_template",
    "micro_batch_size": "training.per_device_train_batch_size",
    "batch_size": "training.per_device_train_batch_size",
    "train_batch_size": "training.per_device_train_batch_size",
    "lr": "training.learning_rate",
    "epochs": "training.num_train_epochs",
    "num_epochs": "training.num_train_epochs",
    "optimizer": "training.optim",
    "lr_scheduler": "training.lr_scheduler_type",
    "grad_accum": "training.gradient_accumulation_steps",
    "save_steps_ratio": "training.save_steps",
    "adapter": "tuning: {name: lora}",
    "finetuning_type": "tuning: {name: lora}",
    "use_peft": "tuning: {name: lora}",
    "lora_r": "tuning.r",
    "lora_rank": "tuning.r",
    "lora_alpha": "tuning.lora_alpha",
    "lora_dropout": "tuning.lora_dropout",
    "lora_target": "tuning.target_modules",
    "lora_target_modules": "tuning.target_modules",
    "lambda": "objective.mixing_weight",
    "wandb_project": "training.project",
}
