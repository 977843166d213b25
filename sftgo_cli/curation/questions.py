"""What passes between the parts of curation: questions, wanted answers, answers, verdicts. Plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sftgo_cli.data.messages import Message
from sftgo_cli.recipe.model_section import ModelSection


@dataclass(frozen=True)
class Question:
    """One row: the conversation up to its answer, the gold answer, and all its columns under our names."""

    row_id: str
    where: str  # for messages: train.jsonl:12
    messages: list[Message]
    gold: str
    values: dict[str, Any]
    tools: list[dict[str, Any]] | None = None

    @property
    def prompt(self) -> str:
        """The text of the last message of the user."""
        asked = [message["content"] for message in self.messages if message["role"] == "user"]
        return str(asked[-1]) if asked else ""


@dataclass(frozen=True)
class Request:
    """One answer that is wanted: to the end of `messages`, which is a question's conversation or a prompt around it."""

    question: Question
    messages: list[Message]
    seed: int  # of this answer alone, so that neither the batch nor the process it falls into changes it
    prompt_hash: str = ""  # of the prompt file that was put around the question; empty without one
    sample: int = 0  # which of several answers to the same conversation


@dataclass(frozen=True)
class Answer:
    """A generated answer, special tokens removed and outer white space stripped."""

    text: str
    finished: bool  # ended by itself; False: cut at max_new_tokens
    num_tokens: int  # generated, the end of turn included
    near_ties: int = 0  # tokens for which another one was as likely up to rounding
    cost: float = 0.0  # in the currency of the options; 0 where nothing is paid
    failure: str = ""  # why there is no answer of the model's own making: refused, filtered, given up


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is accepted, and why, in a few words that a person can check: `got 17, gold is 18`."""

    accepted: bool
    reason: str


@dataclass(frozen=True)
class CurationContext:
    """What generators and judges get besides their options; the same in every process they start."""

    model: ModelSection  # the base model of the recipe
    recipe_dir: Path  # relative paths in options begin here
    tokenizer: Any  # the base model's
    template: str | None  # source of the chat template of the base model's prompts
    find_run: Callable[[Path], Path]  # a recipe's file -> the folder of its finished run; raises UserError
    num_processes: int  # `-n`
    use_cpu: bool
    say: Callable[[str], None]
    console: Any  # rich console for progress, or None
    system_prompt: str | None = None  # data.system_prompt, before the questions that have none


CUT = Verdict(False, "not finished within max_new_tokens")
UNFIT = Verdict(False, "its prompt does not fit the model's context")
EMPTY = Verdict(False, "empty")


def unusable(answer: Answer) -> Verdict | None:
    """Why an answer is rejected before any judge is asked; None where a judge decides."""
    if answer.failure:
        return Verdict(False, answer.failure)
    if not answer.finished:
        return CUT if answer.num_tokens else UNFIT
    return None if answer.text else EMPTY


Done = Callable[[list[tuple[int, Answer]]], None]  # (number of the request, its answer), as they are finished
Verdicts = Callable[[list[tuple[Question, str]]], list[Verdict]]  # questions with candidate answers -> their verdicts


@dataclass(frozen=True)
class Choice:
    """One row that a method makes of a question: the chosen target, where it is from, and what led there."""

    question: Question
    target: str
    target_source: str  # model, paraphrase or gold
    facts: dict[str, Any] = field(default_factory=dict)  # more columns of the row: own_answer, own_answer_verdict, ...
    copy: int = 0  # 0 for the first row of a question; further ones get ids of their own
