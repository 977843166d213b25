"""The random control and the user's own column."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value

from sftgo_cli.data.rows import TokenTable
from sftgo_cli.errors import UserError
from sftgo_cli.scoring import column, random


def labelled(rows: list[list[int]], extra: dict[str, list[list[float]]] | None = None, source: str = "a") -> Dataset:
    names = {"row_id": [f"r{number}" for number in range(len(rows))], "source": [source] * len(rows)}
    data = {"labels": rows, **names, **(extra or {})}
    kinds = {"labels": List(Value("int32")), "row_id": Value("string"), "source": Value("string")}
    kinds |= {name: List(Value("float32")) for name in extra or {}}
    return Dataset.from_dict(data, features=Features(kinds))


def random_scores(datasets: list[Dataset], seed: int) -> np.ndarray:
    table = TokenTable(datasets, ("labels",), ("row_id", "source"))
    return np.concatenate(list(random.score(table, table, random.Options(seed=seed))))


def test_random_scores_depend_on_seed_source_and_row_only() -> None:
    rows = labelled([[-100, 1, 2, 3]] * 4)
    one = random_scores([rows], 1)
    halves = [rows.select(range(2)).flatten_indices(), rows.select(range(2, 4)).flatten_indices()]
    assert np.array_equal(one, random_scores(halves, 1), equal_nan=True)
    assert not np.array_equal(one, random_scores([rows], 2), equal_nan=True)
    assert not np.array_equal(one, random_scores([labelled([[-100, 1, 2, 3]] * 4, source="b")], 1), equal_nan=True)
    assert np.isnan(one[::4]).all()
    drawn = one[~np.isnan(one)]
    assert len(set(drawn.tolist())) == 12  # rows differ although they are equal
    assert ((drawn >= 0) & (drawn < 1)).all()


def test_column_scores_are_the_users() -> None:
    rows = labelled([[-100, 5, 6], [7, 8]], {"mine": [[9.0, 0.5, -2.0], [1.0, 2.0]]})
    table = TokenTable([rows], ("labels", "mine"), ("row_id",))
    got = np.concatenate(list(column.score(table, table, column.Options(column="mine"))))
    assert got[1:].tolist() == [0.5, -2.0, 1.0, 2.0]
    assert np.isnan(got[0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_names_its_row(bad: float) -> None:
    rows = labelled([[1, 2], [-100, 8, 9]], {"mine": [[0.0, 1.0], [bad, 2.0, bad]]})
    table = TokenTable([rows], ("labels", "mine"), ("row_id",))
    with pytest.raises(UserError, match=r"token 2 is (nan|inf) - row r1, column mine") as raised:
        list(column.score(table, table, column.Options(column="mine")))
    assert raised.value.exit_code == 2
