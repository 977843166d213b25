"""Plain recipe data -> YAML text that loads again to the same values."""

from __future__ import annotations

import re
from typing import Any

import yaml

from sftgo_cli.recipe.scalars import BOOL, FLOAT, INT, NULL


class _Dumper(yaml.SafeDumper):
    """Quotes what `scalars.py` would read as something other than a text (`1e-5`), and writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, _pattern in (("null", NULL), ("bool", BOOL), ("int", INT), ("float", FLOAT)):
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern.pattern})\Z"), None)


def to_yaml(data: Any) -> str:
    """The text of a recipe; keys keep their order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
