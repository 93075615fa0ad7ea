import ast
import subprocess
import sys
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from invkit import __version__, errors
from invkit.cli import app as module
from invkit.cli.app import COMMANDS, app
from invkit.plugins.builtins import invkit_samplers
from invkit.plugins.manager import PluginHost

HELP = """
import resource, sys
from invkit.cli import main
sys.argv = ["invkit", "--help"]
try:
    main()
except SystemExit as ended:
    used = resource.getrusage(resource.RUSAGE_SELF)
    heavy = {"torch", "numpy", "matplotlib", "pydantic", "scipy", "pydicom"} & sys.modules.keys()
    print((ended.code, sorted(heavy), used.ru_utime + used.ru_stime), file=sys.stderr)
"""


def failing(error):
    """Return an app like ours whose only command raises."""
    made = typer.Typer(cls=module.Commands, rich_markup_mode=None, pretty_exceptions_enable=False)

    @made.callback()
    def options() -> None:
        pass

    @made.command()
    def fail() -> None:
        raise error

    return CliRunner().invoke(made, ["fail"])


def test_help_is_cheap():
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    code, heavy, seconds = ast.literal_eval(done.stderr.strip().splitlines()[-1])
    assert code == 0
    assert heavy == []
    assert seconds <= 0.5
    for command in COMMANDS:
        assert f"\n  {command.__name__.rsplit('.', 1)[-1]} " in done.stdout


def test_the_help_names_the_samplers():
    """Those of plugins would have to be loaded for it, so it says which command lists them."""
    shown = " ".join(CliRunner().invoke(module.app, ["analyze", "--help"]).output.split())
    assert all(sampler.name in shown.split("--sampler")[1] for sampler in invkit_samplers())
    assert "`invkit plugins` lists those that are installed" in shown


def test_a_wrong_sampler_is_answered_with_those_there_are():
    """Before anything else is done; plugins that are not installed here are not named."""
    with pytest.raises(errors.UnknownNameError, match="There are: training-free, vae"):
        PluginHost(installed=False).sampler("fourier")


def test_python_m_is_the_same():
    done = subprocess.run(
        [sys.executable, "-m", "invkit", "--version"], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == (f"invkit {__version__}\n", "")


@pytest.mark.parametrize(
    "name", [name for name in errors.__all__ if name.endswith("Error") and name != "InvkitError"]
)
def test_an_error_ends_with_its_own_exit_code_and_a_message(name):
    error = getattr(errors, name)
    result = failing(error("what [bold]was[/oops] wrong \x1b[31m\u202e"))
    assert result.exit_code == error.exit_code
    assert result.stdout == ""
    assert result.stderr == "Error: what [bold]was[/oops] wrong \\x1b[31m\\u202e\n"


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (MemoryError(), 6), (RuntimeError(), 1)]
)
def test_other_endings(error, code):
    assert failing(error).exit_code == code


def test_a_signal_keeps_its_code():
    error = errors.InvkitError("stopped by SIGTERM")
    error.exit_code = 143
    assert failing(error).exit_code == 143


@pytest.mark.parametrize("debug", ["", "1"])
def test_a_bug_is_told_without_what_it_quotes(debug, monkeypatch):
    monkeypatch.setenv("INVKIT_DEBUG", debug)
    error = ValueError("could not convert 'CANARY^PATIENT'")
    error.__cause__ = KeyError("CANARY")
    result = failing(error)
    assert result.exit_code == 1
    assert "CANARY" not in result.output
    assert "bug in invkit: ValueError in test_app.py:" in result.stderr
    assert ("raise error" in result.stderr) == bool(debug)
    assert ("KeyError" in result.stderr) == bool(debug)


@pytest.mark.parametrize("debug", ["", "1"])
def test_an_error_of_a_plugin_shows_its_place_where_asked_for(debug, monkeypatch):
    monkeypatch.setenv("INVKIT_DEBUG", debug)

    def fault():
        return 1 / 0

    try:
        fault()
    except ZeroDivisionError as cause:
        error = errors.DenoiserError("it failed")
        error.__cause__ = cause
    result = failing(error)
    assert result.exit_code == 4
    assert "it failed" in result.stderr
    assert ("in fault" in result.stderr) == (debug == "1")


def test_usage_errors_end_with_2(invoke):
    for words in (["nonsense"], ["layers", "a", "b"], ["models", "--nonsense"], ["layers"], []):
        assert invoke(*words).exit_code == 2, words


def test_a_module_is_all_a_command_needs(monkeypatch):
    added = SimpleNamespace(register=lambda to: to.command("added")(lambda: None))
    extended = typer.Typer(cls=module.Commands)
    for command in (*COMMANDS, added):
        command.register(extended)
    assert CliRunner().invoke(extended, ["added"]).exit_code == 0
    assert CliRunner().invoke(app, ["added"]).exit_code == 2
