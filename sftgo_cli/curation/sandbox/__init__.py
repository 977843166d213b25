"""Runs programs that a model wrote, and tests them where they cannot reach: two sandboxes and a wire of plain data.

    judge  --answer-->  [ sandbox: the program ]  <--calls, plain data-->  [ sandbox: the tests ]  --verdict-->  judge

The program's process holds the program and nothing else: neither the tests nor an expected value is ever sent to it. All
it can do is answer calls; the answers are decoded into exact built-in types and compared in the tests' process, which
alone says what passed. So exit codes, printed text, patched builtins, forged messages, or objects that equal everything
decide nothing. Both processes run under bubblewrap; see `bubblewrap` for what that takes away.

`assertions`, `calls`, `plain_data`, `program`, `program_text` and `wire` run inside: they import the standard library only,
and as little of that as possible, for every program pays for it.
"""
