"""tokenized rows -> token_scores: how important each supervised token is, higher = more important.

A scorer is one module of this package with `VERSION` (part of the cache key: raise it when its numbers change), `SOURCE`,
`Options` (its recipe options) and `columns(options)` (the per-token and the per-row columns it reads), plus one line in
the table below. A scorer that reads a column of the data names it with `source_columns(options)`. There are three kinds.

Statistics: `score(rows, fit_on, options)` yields float32[N] per chunk of `rows`. They are scored with the statistics of
`fit_on` (the training rows), so evaluation sets are scored as the training set was.

A model (see shards.py for how its work is divided, kept and resumed):

    written(options)                the per-token columns it writes, float32 each, `token_scores` first
    PATH_OPTIONS                    names of options that only say where something lies; left out of the cache key
    fingerprint(options, context)   JSON of the content behind them, and all else that the scores depend on; runs first,
                                    and raises every UserError that can be known before anything expensive
    open_scorer(options, context)   once per scoring process: loads the model; returns a function from a shard (a
                                    TokenChunk) to its columns, which must depend on nothing but the shard

Or parts, other scorers whose scores it combines (see combine.py):

    parts(options)                  the scorers, each scored and cached as if the recipe named it alone
    PART_OPTIONS                    names of the options that hold them; left out of the cache key, for theirs are in it
    combine(chunk, part_scores, options)   float32[N] per chunk; `columns` are what it reads besides the parts' scores

All: higher is more important, finite where supervised, NaN elsewhere; checked before it is written (checked_scores.py).
A scorer may also have `explain(rows, fit_on, options, row, token)`, the name and text of each part of a score.
"""

from __future__ import annotations

METHODS: dict[str, str] = {
    "tfidf": "TF-IDF over the supervised tokens (SFT-GO, arXiv 2506.15021)",
    "llmlingua2": "words that a prompt compressor would keep (LLMLingua-2, arXiv 2403.12968)",
    "rho1": "excess loss over a reference model (Rho-1, arXiv 2404.07965)",
    "base_nll": "the base model's loss: hard tokens, or with a threshold those that are not (STM, arXiv 2501.14315)",
    "token_cleaning": "loss that a fine-tuned reference takes off the base model's (arXiv 2502.01968)",
    "combine": "weighted ranks of several scorers: scorers: [{name: tfidf, weight: 2.0}, ...]",
    "random": "uniform random scores, seeded: a control of the same size",
    "column": "your own scores, from a column of the data",
}
