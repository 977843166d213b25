"""The recipe as a whole: its sections (each in a file of its own) and their defaults.

One place where a key, its type and its meaning stand. Names are the Hugging Face ones where one exists. `load.py` turns
YAML into these models.
"""

from __future__ import annotations

from pydantic import Field

from sftgo_cli.recipe.data_section import DataSection
from sftgo_cli.recipe.field_types import PositiveInt
from sftgo_cli.recipe.grouping_section import GroupingSection
from sftgo_cli.recipe.model_section import ModelSection
from sftgo_cli.recipe.options import JudgeChoice, MethodChoice, StrictModel
from sftgo_cli.recipe.training_section import TrainingSection


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
    tasks: list[str] = Field(default_factory=list, description="Refused: run lm_eval on the finished run instead")


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
