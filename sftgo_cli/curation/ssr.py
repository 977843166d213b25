"""SSR (arXiv 2409.04787): the model's own answer where it is right, else gold; S3FT without the paraphrase.

target = y1 if judge(y1) else y,   y1 = M(x)
"""

from __future__ import annotations

from sftgo_cli.curation.self_training import SelfTrainingOptions, check, curate, fingerprint

__all__ = ["Options", "check", "curate", "fingerprint"]

VERSION = 1
SOURCE = "SSR (selective self-rehearsal), arXiv 2409.04787"


class Options(SelfTrainingOptions):
    """Recipe options of `curation: [{name: ssr}]`."""
