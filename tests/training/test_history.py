import json
import math

import pytest

from invkit.errors import ResourceError
from invkit.training.history import History, learning_curve


def test_lines_are_json_and_what_is_not_finite_is_null(tmp_path):
    history = History(tmp_path / "metrics.jsonl")
    history.append({"step": 1, "training": {"loss": math.nan, "rate": 0.1}})
    history.append({"step": 2})
    lines = [json.loads(line) for line in history.path.read_text().splitlines()]
    assert lines == [{"step": 1, "training": {"loss": None, "rate": 0.1}}, {"step": 2}]


def test_cut_goes_back_to_a_size_and_drops_torn_lines(tmp_path):
    history = History(tmp_path / "metrics.jsonl")
    history.append({"step": 1})
    size, text = history.size(), history.path.read_bytes()
    history.append({"step": 2})
    with history.path.open("ab") as stream:
        stream.write(b'{"step": 3, "tr')
    history.cut(size)
    assert history.path.read_bytes() == text
    history.cut(10_000)
    assert history.path.read_bytes() == text


def test_an_unwritable_place_is_one_typed_error(tmp_path):
    (tmp_path / "file").write_text("")
    history = History(tmp_path / "file" / "metrics.jsonl")
    for call in (lambda: history.append({}), history.size, lambda: history.cut(0)):
        with pytest.raises(ResourceError, match="cannot write"):
            call()


def test_a_learning_curve_is_read_from_the_log(tmp_path):
    lines = [
        {"step": 10, "training": {"loss": 1.0}},
        {"step": 10, "evaluation": {"nll": 0.5, "nll_floor": -1.0}},
        {"step": 20, "evaluation": {"nll": 0.25}},
        {"step": 20, "event": "resumed, not bit-exact"},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert learning_curve(tmp_path / "metrics.jsonl", "nll") == [(10, 0.5), (20, 0.25)]
