"""Nulls that a typed table put into objects.

Parquet, Arrow and the Hub's data sets give every object of a column the keys of all rows, and null where a row never had
the key. Such a null says nothing and is left out, at any depth; a cell that is null, and a null in a list, stay. (In
JSON files a null is what its author wrote; see `tool_calls.py`.)
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa


def columns_with_objects(schema: pa.Schema) -> list[str]:
    """The columns whose cells hold objects somewhere."""
    return [field.name for field in schema if _holds_objects(field.type)]


def _holds_objects(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind) or pa.types.is_map(kind):
        return True
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_list(kind) for is_list in lists) and _holds_objects(kind.value_type)


def without_table_nulls(value: Any) -> Any:
    """The cell without null keys in its objects."""
    if isinstance(value, dict):
        return {key: without_table_nulls(child) for key, child in value.items() if child is not None}
    if isinstance(value, list):
        return [without_table_nulls(child) for child in value]
    return value
