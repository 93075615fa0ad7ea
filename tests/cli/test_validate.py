import json

import pytest

from invkit.validate.check import Validation
from invkit.validate.rows import Row

ROWS = (
    Row("one", "good", 0.5, 1.0),
    Row("two", "bad", 2.0, 1.0),
    Row("three", "none", float("nan"), 1.0, ">="),
)


@pytest.fixture
def measured(monkeypatch):
    """Replace the measurement by these rows; return what it was called with."""
    calls = []

    def stub(rows):
        def run(only, *, seed, progress):
            calls.append((list(only), seed))
            return Validation(rows, seed, {"one": 1.5})

        monkeypatch.setattr("invkit.validate.check.validate", run)
        return calls

    return stub


def test_one_row_as_json(invoke):
    result = invoke("validate", "--only", "quantiser", "--json", "--seed", "2")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["schema"] == "invkit.validate/1"
    assert found["seed"] == 2
    (row,) = found["rows"]
    assert {"id", "measure", "value", "bound", "holds"} <= row.keys()
    assert (row["id"], row["value"], row["holds"]) == ("quantiser", 1.0, True)
    assert "validate quantiser" in result.stderr


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_it_ends_with_5_where_a_row_does_not_hold(words, invoke, measured):
    calls = measured(ROWS)
    result = invoke("validate", "--only", "one", "--only", "two", *words)
    assert calls == [(["one", "two"], 0)]
    assert result.exit_code == 5
    assert "2 of 3 rows do not hold: two, three" in result.stderr
    if words:
        assert [row["holds"] for row in json.loads(result.stdout)["rows"]] == [True, False, False]
        return
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["id", "measure", "value", "bound", "holds"]
    assert lines[2] == ["two", "bad", "2", "<=", "1", "NO"]
    assert lines[3] == ["three", "none", "not", "a", "number", ">=", "1", "NO"]


def test_it_ends_with_0_where_all_hold(invoke, measured):
    measured(ROWS[:1])
    result = invoke("validate")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 2)
    assert "seed 0, 2 s" in result.stderr


def test_an_unknown_row_ends_with_4(invoke):
    result = invoke("validate", "--only", "quantizer")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "did you mean 'quantiser'?" in result.stderr
