"""The shards of a scoring job in one or several processes: each opens the scorer once and pulls one shard at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sftgo_cli.scoring.shards import Report, ScoringJob, Shard, opened, portable
from sftgo_cli.worker_processes import Crew, Work, work_through


def compute_shards(job: ScoringJob, todo: Sequence[Shard], report: Report) -> None:
    """Compute the shards in `job.context.num_processes` processes, or with one in this one; `report` is told about each.

    Raises:
        SftgoError: the first that a scoring process met.
        EnvironmentProblem: a scoring process was killed.
        RuntimeError: any other error of a scoring process, its traceback as a note.
    """
    num_processes = job.context.num_processes
    crew = Crew("scoring", open_scoring, portable(job) if num_processes > 1 else job, num_processes)
    work_through(crew, todo, report, lambda: report(None))


def open_scoring(job: ScoringJob) -> Work[Shard, Shard]:
    """A scoring process: computes shard after shard, each durable before it is reported."""
    compute = opened(job)

    def work(shards: Iterator[Shard]) -> Iterator[Shard]:
        for shard in shards:
            compute(shard)
            yield shard

    return work
