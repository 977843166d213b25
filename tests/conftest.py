"""For every test: no network, one thread (numbers must not depend on the machine), and a cache that is thrown away."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; also for the processes that tests start

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this test session share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def shared_cache(session_folder: Path) -> Path:
    """`$SFTGO_CACHE` of the session: never the user's own, and data is prepared once."""
    cache = session_folder / "sftgo-cache"
    os.environ["SFTGO_CACHE"] = str(cache)
    return cache
