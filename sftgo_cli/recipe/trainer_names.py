"""Names that the Trainer knows, for completion in editors and for answers before transformers is imported.

Optimizers with the package that each needs, learning-rate schedules and trackers, as of transformers 5.23; a test compares
them with the installed version. `muon` is ours, on torch.optim.Muon.
"""

from __future__ import annotations

MUON = "muon"
SCHEDULE_FREE = "schedule_free_"

TORCH = ("adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop", MUON)
PACKAGES: dict[str, tuple[str, ...]] = {
    "bitsandbytes": (
        "adamw_8bit",
        "adamw_bnb_8bit",
        "ademamix",
        "ademamix_8bit",
        "lion_8bit",
        "lion_32bit",
        "paged_adamw_32bit",
        "paged_adamw_8bit",
        "paged_ademamix_32bit",
        "paged_ademamix_8bit",
        "paged_lion_32bit",
        "paged_lion_8bit",
        "rmsprop_bnb",
        "rmsprop_bnb_8bit",
        "rmsprop_bnb_32bit",
    ),
    "torchao": ("adamw_torch_4bit", "adamw_torch_8bit"),
    "schedulefree": ("schedule_free_adamw", "schedule_free_radam", "schedule_free_sgd"),
    "optimi": ("stable_adamw",),
    "grokadamw": ("grokadamw",),
    "torch_xla": ("adamw_torch_xla",),
    "torch_npu": ("adamw_torch_npu_fused",),
    "torchdistx": ("adamw_anyprecision",),
}
INSTALL = {
    "bitsandbytes": "pip install bitsandbytes",
    "torchao": "pip install torchao",
    "schedulefree": "pip install schedulefree",
    "optimi": "pip install torch-optimi",
    "grokadamw": "pip install grokadamw",
    "torch_xla": "pip install torch_xla, on a TPU",
    "torch_npu": "pip install torch_npu, on an Ascend NPU",
    "torchdistx": "pip install git+https://github.com/pytorch/torchdistx",
}
OPTIMIZERS: dict[str, str | None] = {
    **dict.fromkeys(TORCH),
    **{name: package for package, names in PACKAGES.items() for name in names},
}

_LOW_RANK = "it projects the gradients of chosen layers to a low rank, which no recipe key describes; use tuning: lora"
_FUSED = "it changes the weights during the backward pass, before the whole step's loss is known; use adafactor"
REFUSED_OPTIMIZERS: dict[str, str] = {
    **dict.fromkeys(
        (
            "galore_adamw",
            "galore_adamw_8bit",
            "galore_adafactor",
            "galore_adamw_layerwise",
            "galore_adamw_8bit_layerwise",
            "galore_adafactor_layerwise",
            "apollo_adamw",
            "apollo_adamw_layerwise",
        ),
        _LOW_RANK,
    ),
    **dict.fromkeys(("lomo", "adalomo"), _FUSED),
}

SCHEDULES = (
    "cosine",
    "linear",
    "constant",
    "constant_with_warmup",
    "cosine_with_restarts",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "polynomial",
    "inverse_sqrt",
    "warmup_stable_decay",
    "reduce_lr_on_plateau",
    "greedy",
)
BY_METRIC = ("reduce_lr_on_plateau", "greedy")  # schedules that an evaluation moves
WITHOUT_WARMUP = ("constant", *BY_METRIC)
WITHOUT_ARGUMENTS = ("constant", "constant_with_warmup")

TRACKERS = {  # the package of each
    "azure_ml": "azureml-core",
    "clearml": "clearml",
    "codecarbon": "codecarbon",
    "comet_ml": "comet_ml",
    "dagshub": "dagshub",
    "dvclive": "dvclive",
    "flyte": "flytekit",
    "mlflow": "mlflow",
    "neptune": "neptune",
    "swanlab": "swanlab",
    "tensorboard": "tensorboard",
    "trackio": "trackio",
    "wandb": "wandb",
}


def schedule_free(optimizer: str) -> bool:
    """Whether the optimizer averages the weights itself instead of lowering the learning rate."""
    return optimizer.startswith(SCHEDULE_FREE)
