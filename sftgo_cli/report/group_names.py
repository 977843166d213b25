"""How the token groups are called wherever people read about them."""

from __future__ import annotations

MOST_IMPORTANT = "most important"
LEAST_IMPORTANT = "least important"


def group_name(group: int, num_groups: int) -> str:
    """The name of group 0 (least important) .. `num_groups` - 1 (most important)."""
    if num_groups == 1:
        return "all tokens"
    if group == num_groups - 1:
        return MOST_IMPORTANT
    return LEAST_IMPORTANT if group == 0 else f"group {group}"


def tokens_of_group(group: int, num_groups: int) -> str:
    """The group inside a sentence: `the most important tokens`."""
    name = group_name(group, num_groups)
    if num_groups == 1:
        return f"{name}"
    return f"the tokens of {name}" if name.startswith("group") else f"the {name} tokens"
