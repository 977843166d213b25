"""SDFT (arXiv 2402.13669): the model's paraphrase of the gold answer where it is accepted, else gold.

    target = y2 if judge(y2) else y,   y2 = M(paraphrase(x, y))

S3FT's baseline; not the `sdft` of TRL, which distills on policy. Prompts are ours [R].
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from sftgo_cli.curation.self_training import SelfTrainingOptions, check, curate, fingerprint

__all__ = ["Options", "check", "curate", "fingerprint"]

VERSION = 2
PATH_OPTIONS = ("paraphrase",)  # its content is in the fingerprint
SOURCE = "SDFT (self-distillation fine-tuning), arXiv 2402.13669; prompts ours [R]"


class Options(SelfTrainingOptions):
    """Recipe options of `curation: [{name: sdft}]`."""

    own_answers: ClassVar[bool] = False

    paraphrase: str = Field(
        "paraphrase",
        min_length=1,
        description="Prompt that asks for gold in the model's own words: a file, or the name of a shipped one",
    )
