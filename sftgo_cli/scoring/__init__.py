"""tokenized rows -> token_scores: how important each supervised token is, higher = more important.

A scorer is one module of this package with `Options` (its recipe options) and `score(rows, fit_on, options)`, plus one
line in the table below. `rows` are scored with the statistics of `fit_on` (the training rows), so evaluation sets are
scored as the training set was. A scorer that reads a column of the data names it with `source_columns(options)`.
`VERSION` enters the cache key: raise it when a scorer's numbers change.
"""

from __future__ import annotations

METHODS: dict[str, str] = {
    "tfidf": "TF-IDF over the supervised tokens (SFT-GO, arXiv 2506.15021)",
    "random": "uniform random scores, seeded: a control of the same size",
    "column": "your own scores, from a column of the data",
}
