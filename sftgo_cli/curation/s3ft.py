"""S3FT (arXiv 2502.08130): the model's own answer where it is right, else its paraphrase of gold, else gold.

    target = y1 if judge(y1) else y2 if judge(y2) else y,   y1 = M(x),   y2 = M(paraphrase(x, y))

Then any objective trains on the targets. The paper: Mistral-7B-Instruct-v0.2 as model and judge, LoRA r 8, alpha 16,
dropout 0.1; judges are the final number (GSM8K), the row's tests (MBPP), a model (NQ). Its prompts are unpublished; ours
are files [R]. `paraphrase: null` leaves the second step out (SSR, arXiv 2409.04787).
"""

from __future__ import annotations

from pydantic import Field

from sftgo_cli.curation.self_training import SelfTrainingOptions, check, curate, fingerprint

__all__ = ["Options", "check", "curate", "fingerprint"]

VERSION = 2
PATH_OPTIONS = ("paraphrase",)  # its content is in the fingerprint
SOURCE = "S3FT, arXiv 2502.08130 section 3; prompts ours [R]"


class Options(SelfTrainingOptions):
    """Recipe options of `curation: [{name: s3ft}]`."""

    paraphrase: str | None = Field(
        "paraphrase",
        min_length=1,
        description="Prompt that asks for gold in the model's own words: a file, or paraphrase, paraphrase_math, "
        "paraphrase_code, paraphrase_qa; null: none",
    )
