"""What transformers, safetensors and peft say when a model cannot be loaded -> one line that says what to do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sftgo_cli.errors import EnvironmentProblem, SftgoError, UserError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

DOWNLOAD_AGAIN = "download or save the folder again"
PICKLE_FIX = "weights must be safetensors, not pickle: load the model once where you trust it and save_pretrained() it"
LIBRARY_FIX = "update transformers where it knows this architecture, or give another model"


def load_error(name: str, where: str, error: Exception) -> SftgoError:
    """The error for the user; exit 3 for a package or a device that is missing, else 2."""
    text = str(error).strip()
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    if isinstance(error, ImportError):
        packages = re.findall(r"pip install (?:-U |--upgrade )?[`\'\"]?([\w.\-\[\]>=<]+)", text)
        fix = f"pip install {' '.join(dict.fromkeys(packages))}" if packages else "install the package that it names"
        return EnvironmentProblem(f"the model {name!r} needs a package: {first}", where, fix)
    if type(error).__name__ == "SafetensorError":
        return UserError(f"the weights of {name!r} are damaged: {first}", where, DOWNLOAD_AGAIN)
    if type(error).__name__ == "OutOfMemoryError":
        return EnvironmentProblem(
            f"the memory is too small for the model {name!r}: {first}", where, "use a smaller model"
        )
    if isinstance(error, RuntimeError) and re.search(r"\b(GPU|CUDA|XPU|accelerator)\b", text):
        return EnvironmentProblem(
            f"cannot load the model {name!r} on this machine: {first}", where, "use an accelerator"
        )
    if "safetensors" in text:
        fix = PICKLE_FIX
    elif "trust_remote_code" in text:
        fix = "it runs code of its own; set model.trust_remote_code: true if you trust it"
    elif "does not recognize this architecture" in text:
        fix = LIBRARY_FIX
    elif isinstance(error, OSError):
        fix = "give a local folder, a Hub id that you can reach, or builtin:tiny"
    else:
        fix = f"check the folder's config.json, or {DOWNLOAD_AGAIN}"
        first = first if isinstance(error, ValueError) else f"{type(error).__name__}: {first}"
    return UserError(f"cannot load the model {name!r}: {first}", where, fix)


NOT_REPEATABLE = {
    "reformer": "its attention hashes tokens into random buckets, so that losses differ from call to call"
}


def architecture_fault(config: PretrainedConfig, where: str) -> UserError:
    """Why an architecture that is no causal language model is refused."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES as SEQ_TO_SEQ

    kind = config.model_type
    if kind in NOT_REPEATABLE:
        return UserError(f"{kind} cannot be measured or trained: {NOT_REPEATABLE[kind]}", where, "give another model")
    if kind in SEQ_TO_SEQ or getattr(config, "is_encoder_decoder", False):
        return UserError(f"{kind} is an encoder-decoder, not a causal language model", where, "give a decoder")
    import transformers

    what = f"transformers {transformers.__version__} has no causal language model of type {kind}"
    return UserError(what, where, "give a causal language model (a decoder)")


def check_report(report: dict[str, Any], name: str, where: str, parameters: set[str]) -> None:
    """The loading report must name no weight that is missing or of another shape: such weights would be random.

    Args:
        report: `output_loading_info` of transformers; tied weights are not missing in it.
        parameters: the model's; buffers are computed.

    Raises:
        UserError: a weight is missing or has another shape (names the first).
    """
    missing = sorted(set(report["missing_keys"]) & parameters)
    if missing:
        raise UserError(
            f"{len(missing)} of the model's {len(parameters)} weights are not in {name!r} and would be random: "
            + ", ".join(missing[:3])
            + (", ..." if len(missing) > 3 else ""),
            where,
            f"{DOWNLOAD_AGAIN}; a model without a language-model head cannot be trained as one",
        )
    misfit = sorted(report["mismatched_keys"])
    if misfit:
        key, stored, expected = misfit[0]
        raise UserError(
            f"{len(misfit)} weights of {name!r} do not fit its config.json: {key} is {list(stored)}, not {list(expected)}",
            where,
            "give the config.json that belongs to the weights",
        )
