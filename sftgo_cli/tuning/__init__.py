"""model -> model with its trainable set.

A tuner is one module of this package with `Options` (its recipe options) and `apply(model, options, say)`,
plus one line in the table below.
"""

from __future__ import annotations

METHODS: dict[str, str] = {
    "full": "every parameter",
    "lora": "low-rank adapters (LoRA, arXiv 2106.09685; DoRA, arXiv 2402.09353; rsLoRA, arXiv 2312.03732)",
}
