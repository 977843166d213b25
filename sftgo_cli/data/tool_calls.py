"""Tool calls and tool descriptions, brought into OpenAI's form, which chat templates read.

A call is `{type: function, function: {name, arguments}}`, its arguments always an object: JSON text becomes one, an empty
text or null an empty one. A description is `{type: function, function: {name, description, parameters}}`; a bare
`{name, ...}` is wrapped.

A null means one of two things. In typed tables (Parquet, Arrow, the Hub) every object has the keys of all rows, and null
where a row never had the key: `readers.py` leaves these out. In JSON a null is the author's, and stays, but for two that
can only come from such a table: an argument that the called tool does not know, and a null in a description where JSON
schema allows none.
"""

from __future__ import annotations

from typing import Any

from sftgo_cli.data.json_text import parse_cell
from sftgo_cli.errors import UserError

Call = dict[str, Any]
Tool = dict[str, Any]
GIVE_CALL = "give {function: {name: ..., arguments: {...}}}"
GIVE_TOOLS = "give a list of {type: function, function: {name: ..., parameters: {...}}}, or its JSON text"
OTHER_ARGUMENTS = ("args", "input", "kwargs", "params")
MAY_BE_NULL = ("default", "const", "example", "examples", "enum")  # of a JSON schema


def read_calls(value: Any, place: str) -> list[Call]:
    """The calls of a message, from a list of them, a single one, or the JSON text of either.

    Raises:
        UserError: a call has no name, or its arguments are no object.
    """
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        value = parse_cell(value, place)
    calls = [value] if isinstance(value, dict) else value
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise UserError("expected a list of tool calls", place, f"{GIVE_CALL}, in a list")
    return [_call(call, f"{place}[{index}]") for index, call in enumerate(calls)]


def _call(call: dict[str, Any], place: str) -> Call:
    function = call["function"] if call.get("function") is not None else call
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise UserError("a tool call has no function name", place, GIVE_CALL)
    outer = {key: value for key, value in call.items() if value is not None and key != "function"}
    if function is call:  # a bare call: what is not of the function belongs to the call
        outer = {key: value for key, value in outer.items() if key in ("id", "type")}
    own = {key: value for key, value in function.items() if key not in ("arguments", "parameters", "id", "type")}
    return {"type": "function", **outer, "function": {**own, "arguments": _arguments(function, place)}}


def _arguments(function: dict[str, Any], place: str) -> dict[str, Any]:
    """The arguments; Llama 3's calls name them `parameters`."""
    value = function.get("arguments")
    if value is None:
        value = function.get("parameters")
    other = next((key for key in OTHER_ARGUMENTS if function.get(key) is not None), None)
    if value is None and other:
        raise UserError(f"a tool call has {other!r} and no arguments", place, GIVE_CALL)
    if isinstance(value, str):
        value = parse_cell(value, f"{place}.arguments") if value.strip() else None
    if value is None:
        return {}
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise UserError(f"the arguments of a tool call are no object but {kind}", f"{place}.arguments", GIVE_CALL)
    return value


def read_tools(values: dict[str, Any], where: str) -> list[Tool] | None:
    """The tool descriptions of a row, from its `tools` (or OpenAI's older `functions`); None where there are none.

    Raises:
        UserError: neither a list of objects nor JSON text of one, or both columns have some.
    """
    found = {name: tools for name in ("tools", "functions") if (tools := _tool_list(values.get(name), name, where))}
    if len(found) == 2:
        raise UserError("the row has both tools and functions", f"{where}, column functions", "give one of them")
    return next(iter(found.values()), None)


def _tool_list(value: Any, name: str, where: str) -> list[Tool]:
    place = f"{where}, column {name}"
    if isinstance(value, str):
        value = parse_cell(value, place) if value.strip() else None
    if not value:
        return []
    if not isinstance(value, list):
        raise UserError("expected a list of tool descriptions", place, GIVE_TOOLS)
    tools = [parse_cell(tool, f"{place}[{i}]") if isinstance(tool, str) else tool for i, tool in enumerate(value)]
    if not all(isinstance(tool, dict) for tool in tools):
        raise UserError("expected a list of tool descriptions", place, GIVE_TOOLS)
    return [_wrapped(_schema(tool)) for tool in tools]


def _wrapped(tool: Tool) -> Tool:
    if "function" in tool or not isinstance(tool.get("name"), str) or tool.get("type", "function") != "function":
        return tool
    return {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}


def _schema(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: child for key, child in value.items() if child is not None or key in MAY_BE_NULL}
        return {key: child if key in MAY_BE_NULL else _schema(child) for key, child in kept.items()}
    return [_schema(child) for child in value] if isinstance(value, list) else value


def without_unknown_nulls(calls: list[Call], tools: list[Tool] | None) -> list[Call]:
    """The calls without null arguments that the called tool does not know: a table put them there."""
    known = {
        str(tool["function"].get("name")): _properties(tool["function"]) for tool in tools or [] if _has_form(tool)
    }
    return [_known_arguments(call, known.get(call["function"]["name"])) for call in calls]


def _has_form(tool: Tool) -> bool:
    return isinstance(tool.get("function"), dict)


def _properties(function: dict[str, Any]) -> set[str] | None:
    parameters = function.get("parameters")
    properties = parameters.get("properties") if isinstance(parameters, dict) else None
    return set(properties) if isinstance(properties, dict) else None


def _known_arguments(call: Call, known: set[str] | None) -> Call:
    arguments = call["function"]["arguments"]
    if known is None or not any(value is None for value in arguments.values()):
        return call
    kept = {key: value for key, value in arguments.items() if value is not None or key in known}
    return {**call, "function": {**call["function"], "arguments": kept}}
