"""Small methods of our own, so that these tests do not depend on the package's; and a loader of recipe texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from sftgo_cli.recipe.load import LoadedRecipe, load_recipe
from sftgo_cli.recipe.options import MethodOptions


class Tfidf(MethodOptions):
    unit: Literal["token", "word"] = "token"


class Reference(MethodOptions):
    reference: str = "org/reference"
    layers: tuple[int, ...] = (1, 2)


class SftGo(MethodOptions):
    mixing_weight: Annotated[float, Field(ge=0.0, le=1.0)] = Field(0.9, description="The paper's lambda")
    schedule: Literal["constant", "linear"] = "constant"


class CrossEntropy(MethodOptions):
    pass


class Lora(MethodOptions):
    r: Annotated[int, Field(gt=0)] = 16
    target_modules: str | list[str] = "all-linear"


class Judge(MethodOptions):
    name: Literal["numeric", "tests"] = "numeric"
    timeout: Annotated[float, Field(gt=0.0)] = 1.0


class S3ft(MethodOptions):
    judge: Judge
    num_samples: int = 1


@dataclass(frozen=True)
class Tables:
    tables: dict[str, dict[str, type[MethodOptions]]]

    def names(self, section: str) -> Sequence[str]:
        return list(self.tables.get(section, {}))

    def options_of(self, section: str, name: str) -> type[MethodOptions] | None:
        return self.tables.get(section, {}).get(name)


TABLES = Tables(
    {
        "scoring": {"tfidf": Tfidf, "reference": Reference},
        "objective": {"sft_go": SftGo, "cross_entropy": CrossEntropy},
        "tuning": {"lora": Lora, "full": CrossEntropy},
        "curation": {"s3ft": S3ft},
    }
)

Load = Callable[..., LoadedRecipe]


@pytest.fixture
def methods() -> Tables:
    return TABLES


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Writes a text as tmp_path/recipe.yaml and loads it."""

    def _load(text: str | bytes, *overrides: str) -> LoadedRecipe:
        path = tmp_path / "recipe.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_recipe(path, overrides, TABLES)

    return _load
