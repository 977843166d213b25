"""rows -> rows before tokenization: which answer each training row is trained on.

A curation method is one module of this package with `VERSION` (part of the cache key: raise it when its choices change),
`SOURCE`, `Options`, and

    fingerprint(options, context)         JSON of the content behind its options: judge, generator, prompt files
    check(questions, options, context)    raises every UserError that can be known before the first answer
    curate(questions, workbench, options) the `Choice`s of each question, in their order: what it is trained on

plus one line in the table below. It asks the `Workbench` (workbench.py) for answers and verdicts, each a cached step of
its own that a kill only interrupts. What generates answers and what judges them are named choices among its options; see
generators/ and judges/.
"""

from __future__ import annotations

METHODS: dict[str, str] = {
    "s3ft": "the model's own answer where it is right, else its paraphrase of gold, else gold (arXiv 2502.08130)",
    "ssr": "the model's own answer where it is right, else gold (arXiv 2409.04787)",
    "sdft": "the model's paraphrase of gold where it is right, else gold (arXiv 2402.13669)",
    "rft": "gold and the model's own right answers that calculate differently (arXiv 2308.01825)",
}
