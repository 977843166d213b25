"""per-token losses -> the loss of one optimizer step.

An objective is one module of this package with `Options` (its recipe options), `local_loss(tokens, totals, options,
progress)` and `mixing_weight(options, progress)`, plus one line in the table below. `group_losses.py` holds what they share.
"""

from __future__ import annotations

METHODS: dict[str, str] = {
    "sft_go": "(1 - w) cross-entropy + w worst group per sample (SFT-GO, arXiv 2506.15021)",
    "cross_entropy": "token-mean cross-entropy: standard supervised fine-tuning",
}
