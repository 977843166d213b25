"""The fused head inside a model that FSDP2 shards over two processes: value and gradients of the whole model's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.equivalence.sharded_ranks import CASES, VOCABULARY

WORLD = 2
MOST = {"float64": 1e-12, "float32": 1e-6}


@pytest.mark.slow
def test_a_sharded_head_is_the_whole_one(tmp_path: Path) -> None:
    """Tied to the embeddings, a group of its own, and frozen; every rank has rows of its own, gradients are averaged."""
    command = [sys.executable, "-m", "tests.equivalence.sharded_ranks"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(WORLD), str(tmp_path / "meeting")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[2],
        )
        for rank in range(WORLD)
    ]
    outputs = [rank.communicate(timeout=300) for rank in ranks]
    assert all(rank.returncode == 0 for rank in ranks), outputs[0][1] + outputs[1][1]
    found = [json.loads(stdout.splitlines()[-1]) for stdout, _ in outputs]
    assert len(found[0]) == 2 * 2 * len(CASES)
    for case in found[0]:
        most = MOST[case.split()[1]]
        for rank in found:
            gradients, plain = rank[case]["gradients"], rank[case]["plain"]
            assert rank[case]["gathered"], case  # the fused path ran, on the whole weight
            assert rank[case]["loss"] < most, case
            assert ("lm_head.weight" in gradients) == case.startswith("untied")
            assert gradients.get("lm_head.weight", 0.0) < most, case
            for name, error in gradients.items():  # what lies below the head rounds by itself, whole or sharded
                assert error < max(most, 2 * plain[name]), (case, name)
        assert sum(rank[case]["shard_rows"] for rank in found) == VOCABULARY
