"""What the start of a training imports, seen from outside: in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SCRIPT = """
import gc, json, sys
from sftgo_cli.training.imports import import_libraries
collections = []
gc.callbacks.append(lambda phase, info: collections.append(phase))
import_libraries()
during = len(collections)
import transformers, transformers.utils
gc.collect()
print(json.dumps({
    "collections": during,
    "enabled": gc.isenabled(),
    "frozen": gc.get_freeze_count(),
    "scipy": "scipy.optimize" in sys.modules,
    "told": transformers.utils.is_scipy_available(),
    "trainer": transformers.Trainer.__module__,
    "losses": "ForCausalLM" in transformers.loss.loss_utils.LOSS_MAPPING,
}))
"""


@pytest.mark.slow
def test_no_collection_while_importing_and_nothing_of_scipy() -> None:
    import importlib.util

    finished = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    found = json.loads(finished.stdout.splitlines()[-1])
    assert found["collections"] == 0
    assert found["enabled"]
    assert found["frozen"] > 100_000
    assert not found["scipy"]
    assert found["told"] == (importlib.util.find_spec("scipy") is not None)  # others see what is there
    assert found["trainer"] == "transformers.trainer"
    assert found["losses"]
