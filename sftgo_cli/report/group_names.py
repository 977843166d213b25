"""How the token groups are called wherever people read about them."""

from __future__ import annotations

from sftgo_cli.recipe.grouping_section import GroupingSection

MOST_IMPORTANT = "most important"
LEAST_IMPORTANT = "least important"


def group_name(group: int, num_groups: int) -> str:
    """The name of group 0 (least important) .. `num_groups` - 1 (most important)."""
    if num_groups == 1:
        return "all tokens"
    if group == num_groups - 1:
        return MOST_IMPORTANT
    return LEAST_IMPORTANT if group == 0 else f"group {group}"


def grouping_text(grouping: GroupingSection) -> str:
    """What decides the groups, after the scorer's name: `cut at 0.3 from the top`."""
    if grouping.column is not None:
        return f"grouped by the column {grouping.column.name}"
    if grouping.segments is not None:
        return "grouped by segments"
    if grouping.roles is not None:
        return "grouped by roles: " + " / ".join(", ".join(group) for group in grouping.roles)
    cuts = ", ".join(f"{cut:g}" for cut in grouping.thresholds or grouping.cuts() or ())
    if grouping.thresholds is not None:
        return f"cut at the scores {cuts}"
    return f"cut at {cuts} from the top" + (" of all training tokens" if grouping.quantiles is not None else "")


def group_labels(grouping: GroupingSection) -> list[str]:
    """The name of every group, least important first, with its roles on a second line where they decide."""
    names = [group_name(group, grouping.num_groups()) for group in range(grouping.num_groups())]
    if grouping.roles is None:
        return names
    return [f"{name}\n({', '.join(roles)})" for name, roles in zip(names, grouping.roles, strict=True)]


def tokens_of_group(group: int, num_groups: int) -> str:
    """The group inside a sentence: `the most important tokens`."""
    name = group_name(group, num_groups)
    if num_groups == 1:
        return f"{name}"
    return f"the tokens of {name}" if name.startswith("group") else f"the {name} tokens"
