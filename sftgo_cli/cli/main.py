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

from sftgo_cli.cli.heartbeat import beating
from sftgo_cli.errors import EXIT_BUG, EXIT_ENVIRONMENT, EXIT_INTERRUPTED, EXIT_OK, SftgoError, UserError, nearest

MANNER = "SFTGO_OUTPUT"  # read by output.py; this file imports no typer before it has to
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
EVERYWHERE: dict[str, tuple[str, ...]] = {
    "debug": ("--debug",),
    "version": ("-V", "--version"),
    "quiet": ("--quiet",),
    "json": ("--json",),
}
EPILOG = (
    "Everywhere: -h, --help; -V, --version; --quiet: only errors and results; --json: the result as JSON on stdout; "
    "--debug: the traceback of an error."
)
AT_ONCE = ("init", "schema", "methods", "cache")  # verbs that answer before anybody wonders
TYPER_INTERRUPTED = 130  # what typer 0.20 returns for a KeyboardInterrupt instead of passing it on
STORAGE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `sftgo ARGUMENTS`; returns the exit code."""
    given, flags = _flags_of_every_verb(list(sys.argv[1:] if arguments is None else arguments))
    if _asks_for_completion(given):
        from sftgo_cli.cli.completion import complete

        return complete(given, VERBS)
    if "version" in flags or given[:1] == ["version"]:
        return _version("json" in flags)
    before = os.environ.get(MANNER)
    if flags & {"json", "quiet"}:
        os.environ[MANNER] = ",".join(sorted(flags & {"json", "quiet"}))
    try:
        if not given or given[0] in ("--help", "-h", "help"):
            print(root_help(), flush=True)
            return EXIT_OK
        return _run(given)
    except (Exception, KeyboardInterrupt) as error:
        code, lines = _outcome(error)
        if "debug" in flags and code != EXIT_OK:
            raise
        if _first_to_fail(code):
            _tell(code, lines)
        return code
    finally:
        if flags & {"json", "quiet"}:
            os.environ.pop(MANNER) if before is None else os.environ.update({MANNER: before})


def _flags_of_every_verb(given: list[str]) -> tuple[list[str], set[str]]:
    """The arguments without the flags that mean the same everywhere, and the names of those that stood there."""
    end = given.index("--") if "--" in given else len(given)
    names = {flag: name for name, flags in EVERYWHERE.items() for flag in flags}
    found = {names[argument] for argument in given[:end] if argument in names}
    return [argument for argument in given[:end] if argument not in names] + given[end:], found


def _asks_for_completion(given: list[str]) -> bool:
    flags = ("--install-completion", "--show-completion")
    return "_SFTGO_COMPLETE" in os.environ or (bool(given) and given[0].partition("=")[0] in flags)


def _version(as_json: bool) -> int:
    from sftgo_cli import __version__

    print(f'{{"sftgo": "{__version__}"}}' if as_json else f"sftgo {__version__}")
    return EXIT_OK


def _tell(code: int, lines: Sequence[str]) -> None:
    """An error, on stderr; with `--json` also as JSON on stdout, where a program waits for it."""
    for line in lines:
        print(line, file=sys.stderr)
    if "json" in os.environ.get(MANNER, "") and lines:
        import json

        print(json.dumps({"exit_code": code, "errors": [line.removeprefix("error: ") for line in lines]}, indent=2))


def root_help() -> str:
    """The text of `sftgo --help`."""
    import textwrap  # here, so that no verb's --help waits for it

    width = max(len(verb) for verb in VERBS)
    indent = " " * (width + 4)
    verbs = "\n".join(
        textwrap.fill(f"  {verb:<{width}}  {text}", 79, subsequent_indent=indent) for verb, text in VERBS.items()
    )
    return (
        "sftgo: fine-tune language models while treating tokens by their importance.\n\n"
        "usage: sftgo VERB RECIPE.yaml [key=value a.b=c ...] [-- accelerate launch flags]\n\n"
        f"{verbs}\n\n"
        "Start with: sftgo init > recipe.yaml, then sftgo train recipe.yaml.\n"
        "Every verb has --help.\n"
        "Everywhere: -h help, -V version, --quiet only errors and results, --json the\n"
        "result as JSON on stdout, --debug the traceback of an error.\n"
        "sftgo --install-completion completes verbs and keys in your shell.\n"
        "Exit codes: 0 done, 2 your input, 3 storage or environment, 4 diverged,\n"
        "5 state on disk, 75 interrupted (run the same command again)."
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
        raise UserError(
            f"there is no verb {verb!r}", "command line", f"did you mean {close}?" if close else "see sftgo --help"
        )
    launch_flags: list[str] = []
    if "--" in rest:
        cut = rest.index("--")
        rest, launch_flags = rest[:cut], rest[cut + 1 :]
    import typer.main

    usage_error: Any = typer.BadParameter.__base__  # typer carries its own copy of click since 0.20; this is either one

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    command = described(typer.main.get_command(importlib.import_module(f"sftgo_cli.cli.{verb}").app))
    silent = verb in AT_ONCE or "quiet" in os.environ.get(MANNER, "") or os.environ.get("RANK", "0") != "0"
    try:
        with beating("loading the libraries", silent):
            result = command.main(args=rest, prog_name=f"sftgo {verb}", standalone_mode=False, obj=launch_flags)
    except typer.Exit as error:
        return error.exit_code
    except usage_error as error:
        raise UserError(error.format_message(), f"sftgo {verb}", f"see sftgo {verb} --help") from None
    except typer.Abort:
        return EXIT_INTERRUPTED
    if result == TYPER_INTERRUPTED:
        raise KeyboardInterrupt
    return result if isinstance(result, int) else EXIT_OK


def described(command: Any) -> Any:
    """The command, and those below it, with `-h` and a line about the flags of every verb."""
    command.context_settings["help_option_names"] = ["-h", "--help"]
    command.epilog = command.epilog or EPILOG
    for below in getattr(command, "commands", {}).values():
        described(below)
    return command
