"""Finds the verb, runs its file, turns errors into one line and an exit code.

Only the verb's own file is imported, and nothing heavy by it before it works, so `--help` answers at once. Everything
after `--` is kept for `accelerate launch`.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import Any

from sftgo_cli.errors import EXIT_BUG, EXIT_ENVIRONMENT, EXIT_INTERRUPTED, EXIT_OK, EXIT_USER, SftgoError, nearest

VERBS: dict[str, str] = {
    "init": "write a commented recipe to start from",
    "validate": "check recipe, data and tokenizer; train nothing",
    "curate": "choose what each training row is trained on; print where the targets come from",
    "score": "tokenize, score and group; print a table about the groups",
    "inspect": "show rows with tokens colored by group or score",
    "train": "run missing stages, then train; the same command resumes",
    "eval": "held-out loss of a recipe's model or a run, overall and per group",
    "compare": "two or more runs side by side",
    "generate": "complete a prompt, or a file of prompts, with a run's model",
    "merge": "merge a run's adapter into its base model",
    "schema": "print the recipe's JSON schema for editors",
    "methods": "list scorers, objectives, tuners, curation with options, defaults and sources",
    "cache": "ls, why (what a key is made of), rm",
    "doctor": "versions, devices, and what is missing for a recipe",
}
TYPER_INTERRUPTED = 130  # what typer 0.20 returns for a KeyboardInterrupt instead of passing it on
STORAGE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `sftgo ARGUMENTS`; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    if not given or given[0] in ("--help", "-h", "help"):
        print(root_help())
        return EXIT_OK
    if given[0] in ("--version", "version"):
        from sftgo_cli import __version__

        print(f"sftgo {__version__}")
        return EXIT_OK
    try:
        return _run(given)
    except (Exception, KeyboardInterrupt) as error:
        code, lines = _outcome(error)
        if debug and code != EXIT_OK:
            raise
        if _first_to_fail(code):
            for line in lines:
                print(line, file=sys.stderr)
        return code


def root_help() -> str:
    """The text of `sftgo --help`."""
    width = max(len(verb) for verb in VERBS)
    verbs = "\n".join(f"  {verb:<{width}}  {text}" for verb, text in VERBS.items())
    return (
        "sftgo: fine-tune language models while treating tokens by their importance.\n\n"
        "usage: sftgo VERB RECIPE.yaml [key=value a.b=c ...] [-- accelerate launch flags]\n\n"
        f"{verbs}\n\n"
        "Start with: sftgo init > recipe.yaml, then sftgo train recipe.yaml. Every verb has --help.\n"
        "Everywhere: --debug shows the traceback of an error, --version the version.\n"
        "Exit codes: 0 done, 2 your input, 3 storage or environment, 4 diverged, 5 state on disk,\n"
        "75 interrupted (run the same command again)."
    )


def _outcome(error: BaseException) -> tuple[int, list[str]]:
    """The exit code of an error and what to print about it."""
    if isinstance(error, SftgoError):
        return error.exit_code, [f"error: {line}" for line in str(error).splitlines()]
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED, ["interrupted: run the same command to continue"]
    if isinstance(error, BrokenPipeError):  # `sftgo ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK, []
    if isinstance(error, OSError) and error.errno in STORAGE_ERRORS:
        fix = "free space, check permissions, or choose another folder"
        return EXIT_ENVIRONMENT, [f"error: {error.strerror} - {error.filename} - {fix}"]
    if (
        "RANK" in os.environ
        and isinstance(error, RuntimeError)
        and any(name in str(error) for name in ("gloo", "NCCL"))
    ):
        reason = str(error).strip().splitlines()[0]
        return EXIT_ENVIRONMENT, [f"error: lost another process: {reason} - rank {os.environ['RANK']} - run it again"]
    return EXIT_BUG, [f"error: a bug in sftgo: {type(error).__name__}: {error} - run again with --debug"]


def _first_to_fail(code: int) -> bool:
    """In a rank, leave the code for the parent; only the first rank that fails speaks. True outside of ranks."""
    if "SFTGO_EXIT_FILE" not in os.environ or code == EXIT_OK:
        return True
    from sftgo_cli.training.launch import report_exit

    return report_exit(code)


def _run(given: list[str]) -> int:
    import importlib
    import signal

    verb, rest = given[0], given[1:]
    if verb not in VERBS:
        close = nearest(verb, list(VERBS))
        hint = f"did you mean {close}?" if close else "see sftgo --help"
        print(f"error: there is no verb {verb!r} - command line - {hint}", file=sys.stderr)
        return EXIT_USER
    launch_flags: list[str] = []
    if "--" in rest:
        cut = rest.index("--")
        rest, launch_flags = rest[:cut], rest[cut + 1 :]
    import typer.main

    usage_error: Any = typer.BadParameter.__base__  # typer carries its own copy of click since 0.20; this is either one

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    app = importlib.import_module(f"sftgo_cli.cli.{verb}").app
    command = typer.main.get_command(app)
    try:
        result = command.main(args=rest, prog_name=f"sftgo {verb}", standalone_mode=False, obj=launch_flags)
    except typer.Exit as error:
        return error.exit_code
    except usage_error as error:
        print(f"error: {error.format_message()} - sftgo {verb} - see sftgo {verb} --help", file=sys.stderr)
        return EXIT_USER
    except typer.Abort:
        return EXIT_INTERRUPTED
    if result == TYPER_INTERRUPTED:
        raise KeyboardInterrupt
    return result if isinstance(result, int) else EXIT_OK
