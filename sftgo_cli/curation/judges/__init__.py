"""Who decides whether an answer is right: `judge: {name: numeric, ...}` among a curation method's options.

A judge is one module of this package with `VERSION` (part of the cache key: raise it when its verdicts change), `SOURCE`,
`Options`, and

    PATH_OPTIONS                       names of options that do not change the verdicts; left out of the cache key
    fingerprint(options, context)      JSON of the content behind them and all else that the verdicts depend on
    columns(options)                   the columns of the row that are read besides prompt and gold; None: the whole row
    check(questions, options, context) raises every UserError that can be known before the first answer is generated:
                                       a judge that does not fit the rows, a missing package

and one of

    open_judge(options, context)       -> Verdicts, a function from (question, answer) pairs to verdicts in their order
    ask(question, answer, options, context)
                                       -> the messages that put the case to a generator; `generator(options)` is which,
                                       `read_reply(text, options)` the verdict. Its replies are a step of their own.
"""

from __future__ import annotations

METHODS: dict[str, str] = {
    "exact": "the same text, up to case, white space, punctuation and articles",
    "numeric": "the same final number (GSM8K)",
    "math_verify": "the same mathematical value, by math-verify (extra)",
    "unit_tests": "a program that passes its row's tests in a sandbox (MBPP, HumanEval)",
    "choice": "the same option of a multiple-choice question",
    "token_f1": "enough words in common with gold (SQuAD's F1)",
    "llm": "a model or endpoint decides",
    "python": "your own function, in a Python file",
}
