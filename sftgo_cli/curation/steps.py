"""A long step of curation: numbered results under a content key, each kept as soon as it is there, asked for once.

A finished step is a folder of the cache; an unfinished one is a journal that the next run goes on with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sftgo_cli.cache import cached, canonical_json, stage_key
from sftgo_cli.curation.journal import Journal
from sftgo_cli.curation.questions import CurationContext
from sftgo_cli.progress import Advance, Work, shown_progress

VERSION = 1
RESULTS = "results.json"

Keep = Callable[[list[tuple[int, Any]]], None]
Compute = Callable[[Sequence[int], Keep], None]


@dataclass(frozen=True)
class Step:
    """`compute(todo, keep)` hands the result of every number of `todo` to `keep` once, in any order; results are JSON.

    `ingredients` are all that the results depend on."""

    name: str
    work: Work
    ingredients: dict[str, Any]
    compute: Compute


def results_of(step: Step, context: CurationContext) -> list[Any]:
    """The results in the order of their numbers, computed or found.

    Raises:
        whatever `compute` raises; what it had handed over stays for the next run.
    """
    if not step.work.total:
        return []
    key = stage_key(step.name, VERSION, step.ingredients)

    def build(folder: Path) -> None:
        journal = Journal(key)
        todo = [number for number in range(step.work.total) if number not in journal.results]
        if todo:
            _announce(step.work, len(todo), context)
            with shown_progress(replace(step.work, todo=len(todo)), context.say, context.console) as tell:
                step.compute(todo, _keeper(journal, tell))
        ordered = [journal.results[number] for number in range(step.work.total)]
        (folder / RESULTS).write_text(json.dumps(ordered, ensure_ascii=True), encoding="ascii")

    stage = cached(step.name, VERSION, step.ingredients, build, context.say)
    Journal(key).remove()
    results: list[Any] = json.loads((stage.path / RESULTS).read_text(encoding="ascii"))
    return results


def _announce(work: Work, todo: int, context: CurationContext) -> None:
    earlier = work.total - todo
    finished = f" ({earlier:,} of {work.total:,} were finished before)" if earlier else ""
    context.say(f"{work.verb} with {work.method}: {todo:,} {work.unit}{finished}")


def _keeper(journal: Journal, tell: Advance) -> Keep:
    def keep(results: list[tuple[int, Any]]) -> None:
        journal.append(results)
        tell(len(results))

    return keep


def digest(value: Any) -> str:
    """sha256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()
