"""What a user has to correct where an endpoint refuses or does not answer, one line each."""

from __future__ import annotations

from typing import Any

from sftgo_cli.curation.http_endpoint import Failure
from sftgo_cli.errors import UserError, nearest


def to_correct(failure: Failure, server: str, where: str, key_name: str | None) -> UserError:
    """The error for any failure but a missing model; `key_name` is the variable of the key, None where none is sent."""
    if failure.status in (401, 403):
        fix = (
            f"put a valid key for {server} into {key_name}"
            if key_name
            else "set api_key_env: the variable with the key"
        )
        refused = f"the key in {key_name}" if key_name else "access"
        return UserError(f"{server} refuses {refused}: {failure.text}", where, fix)
    if failure.status == 402:
        return UserError(f"{server} has to be paid first: {failure.text}", where, "add credit there, then run it again")
    if failure.status is None or failure.passing:
        fix = "start it, or correct base_url (it mostly ends with /v1)"
        return UserError(f"{server} does not answer: {failure.text}", where, fix)
    if failure.status < 400:
        return UserError(f"{server} cannot be used: {failure.text}", where, "correct base_url, or leave max_cost out")
    return UserError(f"{server} refuses the generator's options: {failure.text}", where, "correct them")


def no_such_model(failure: Failure, server: str, where: str, offer: str) -> UserError:
    """The error for a status 404, with what the endpoint offers instead."""
    fix = offer or "correct base_url (it mostly ends with /v1) or model"
    return UserError(f"{server} has no such model or path: {failure.text}", where, fix)


def offered(listed: dict[str, Any] | Failure, model: str) -> str:
    """What to write instead of a model's name, from the endpoint's list of models; empty where it lists none."""
    data = listed.get("data") if isinstance(listed, dict) else None
    items = data if isinstance(data, list) else []
    names = [str(item["id"]) for item in items if isinstance(item, dict) and item.get("id")]
    if not names or model in names:
        return ""
    close = nearest(model, names)
    some = f"it offers {', '.join(names[:5])}" + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"did you mean {close}? ({some})" if close else some
