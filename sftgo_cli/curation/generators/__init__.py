"""Who answers: `generator: {name: model, ...}` among a curation method's options.

A generator is one module of this package with `VERSION` (part of the cache key: raise it when its texts change),
`SOURCE`, `Options`, and

    PATH_OPTIONS                       names of options that do not change the answers (where something lies, how fast
                                       it is asked); left out of the cache key
    fingerprint(options, context)      JSON of the content behind them and all else that the answers depend on
    columns(options)                   the columns of the row that are read, where it reads any
    describe(options, context)         a few words for people and for the rows' column `generator`
    check(questions, options, context) raises every UserError that can be known before the first answer
    too_long(wanted, options, context) the places of those whose prompt leaves no room for an answer, where it can know
    generate(wanted, options, context, done)
                                       calls `done([(number, Answer), ...])` from this process, for every `Request` once,
                                       as soon as answers are finished, in any order; what was handed over is durable
                                       when `done` returns, and a later call gets only those that are left
"""

from __future__ import annotations

METHODS: dict[str, str] = {
    "model": "the recipe's base model, or any local model, run or Hub id",
    "column": "answers made elsewhere, from a column of the data",
    "endpoint": "an OpenAI-compatible chat completions endpoint",
    "vllm": "vLLM in this process (extra)",
}
