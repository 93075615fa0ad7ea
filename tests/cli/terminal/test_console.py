import io
import json

import pytest

from invkit.cli.terminal.console import data_on_stdout, emit_json, emit_table, plain, say, say_error


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_control_characters_are_spelled_out():
    assert (
        plain("a\x1b]0;title\x07\n\x9b31m\u202e\u2028b\r")
        == "a\\x1b]0;title\\x07\n\\x9b31m\\u202e\\u2028b\\r"
    )
    assert (
        plain("Chen, Kächelrieß 肺 [red]x[/oops] <img onerror=x>")
        == "Chen, Kächelrieß 肺 [red]x[/oops] <img onerror=x>"
    )


def test_what_a_plugin_prints_does_not_reach_standard_output(capsys):
    with data_on_stdout():
        print("from a plugin")
        emit_json("invkit.test/1", {"a": 1, "schema": "of a file"})
    out, err = capsys.readouterr()
    assert json.loads(out) == {"schema": "invkit.test/1", "a": 1}
    assert err == "from a plugin\n"


def test_numbers_that_json_has_not_are_refused():
    with pytest.raises(ValueError, match="Out of range"):
        emit_json("invkit.test/1", {"a": float("nan")})


def test_a_table_is_neither_cut_nor_wrapped_outside_a_terminal(capsys):
    emit_table(("name", "what"), [("x", "long " * 60 + "end"), ("longer", "two\nlines")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "name    what"
    assert lines[1].endswith("long end")
    assert lines[2] == "longer  two lines"


@pytest.mark.parametrize("plain_text", [True, False])
def test_colour_is_for_terminals_that_want_it(plain_text, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if plain_text:
        monkeypatch.setenv("NO_COLOR", "1")
    terminal, errors = Terminal(), Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr("sys.stderr", errors)
    emit_table(("name",), [("[red]x[/oops] \x1b[5m",)])
    say_error("[bold]wrong[/oops]")
    say("a remark")
    assert "[red]x[/oops] \\x1b[5m" in terminal.getvalue()
    assert "[bold]wrong[/oops]" in errors.getvalue()
    assert ("\x1b" in terminal.getvalue() + errors.getvalue()) != plain_text
