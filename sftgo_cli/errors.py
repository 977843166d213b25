"""The errors a user can meet, each with its exit code, and how they read.

Every error is one line: what happened - where - what to do. The command line prints it and exits with `exit_code`; a
traceback appears only with `--debug`. Anything else that reaches the top is a bug of sftgo and exits 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

EXIT_OK = 0
EXIT_BUG = 1
EXIT_USER = 2
EXIT_ENVIRONMENT = 3
EXIT_DIVERGED = 4
EXIT_STATE = 5
EXIT_INTERRUPTED = 75

MAX_SHOWN = 20  # faults of one input; more help nobody at once
HIDDEN = "***"
_URL_USER = re.compile(r"(\w:/{1,3})[^\s/@'\"]+@")
_ISSUED = re.compile(r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|AKIA[A-Z0-9]{12,})")


def masked(text: str) -> str:
    """The text with user and password of URLs, and what looks like an issued access token, replaced by `***`."""
    return _ISSUED.sub(HIDDEN, _URL_USER.sub(rf"\1{HIDDEN}@", text))


class SftgoError(Exception):
    """One line for the user: `what - where - what to do`; `where` and `fix` may be empty. Secrets are masked."""

    exit_code = EXIT_BUG

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        self.what = masked(what)
        self.where = masked(where)
        self.fix = masked(fix)
        super().__init__(" - ".join(part for part in (self.what, self.where, self.fix) if part))


class UserError(SftgoError):
    """The user's input is wrong and nothing was written (exit 2)."""

    exit_code = EXIT_USER


class UserErrors(UserError):
    """Several faults of one input, reported at once, one line each, the first 20 of them (exit 2)."""

    def __init__(self, errors: Sequence[UserError]) -> None:
        self.errors = list(errors)
        lines = [str(error) for error in errors[:MAX_SHOWN]]
        rest = len(errors) - len(lines)
        super().__init__("\n".join([*lines, *([f"and {rest:,} more"] if rest else [])]))


class EnvironmentProblem(SftgoError):
    """Storage or environment: disk full, a package or device missing, launch mismatch (exit 3)."""

    exit_code = EXIT_ENVIRONMENT


class DivergedError(SftgoError):
    """The loss or a gradient became NaN or infinite; the step was not applied (exit 4)."""

    exit_code = EXIT_DIVERGED


class StateError(SftgoError):
    """Existing state on disk does not match what was asked for, or is corrupt (exit 5)."""

    exit_code = EXIT_STATE


class InterruptedRun(SftgoError):
    """A signal arrived; the state was saved and the same command continues (exit 75)."""

    exit_code = EXIT_INTERRUPTED


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name that `name` was probably meant to be, or None when nothing is close."""
    import difflib

    matches = difflib.get_close_matches(name.lower(), [k.lower() for k in known], n=1, cutoff=0.6)
    if not matches:
        return None
    return next(k for k in known if k.lower() == matches[0])
