"""The tree of errors: what a user meets, and what the command line ends with."""

import importlib.util
import inspect
import sysconfig

import pytest

import invkit
from invkit import errors

# Name: (parent, built-in that callers may catch as well, exit code).
TREE = {
    "InvkitError": (None, Exception, 1),
    "UsageError": ("InvkitError", ValueError, 2),
    "ConfigError": ("UsageError", ValueError, 2),
    "InputError": ("InvkitError", ValueError, 3),
    "ImageError": ("InputError", ValueError, 3),
    "DataError": ("InputError", ValueError, 3),
    "ArtifactError": ("InputError", ValueError, 3),
    "PluginError": ("InvkitError", Exception, 4),
    "UnknownNameError": ("PluginError", LookupError, 4),
    "DenoiserError": ("PluginError", Exception, 4),
    "SplitError": ("InvkitError", ValueError, 4),
    "CheckFailedError": ("InvkitError", Exception, 5),
    "DivergedError": ("CheckFailedError", Exception, 5),
    "ResourceError": ("InvkitError", OSError, 6),
}


def test_the_tree_is_complete_and_exported():
    defined = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert defined == set(TREE) == {name for name in errors.__all__ if name.endswith("Error")}
    assert set(TREE) <= set(invkit.__all__)


@pytest.mark.parametrize("name", TREE)
def test_an_error_stands_at_its_place_with_its_exit_code(name):
    parent, builtin, code = TREE[name]
    error = getattr(errors, name)
    assert getattr(invkit, name) is error
    assert error.__mro__[1] is (getattr(errors, parent) if parent else Exception)
    assert issubclass(error, builtin)
    assert error("text").exit_code == error.exit_code == code
    assert str(error("what, why, what to do")) == "what, why, what to do"
    assert inspect.getdoc(error)


@pytest.mark.parametrize("name", TREE)
def test_the_drawing_at_the_top_shows_the_error_with_its_code(name):
    line = next(line for line in errors.__doc__.splitlines() if f" {name} " in line)
    code = TREE[name][2]
    assert name == "InvkitError" or f" {code} " in line


def test_no_error_is_a_subclass_of_what_swallows_another():
    """A caller who catches OSError for files must not catch a wrong image, and so on."""
    for name, (_, builtin, _) in TREE.items():
        others = {ValueError, LookupError, OSError} - {builtin}
        assert not any(issubclass(getattr(errors, name), other) for other in others)


def test_a_choice_is_refused_in_the_same_words_everywhere():
    errors.require_choice("domain", "low", ("low", "high"))
    with pytest.raises(errors.UsageError, match=r"^domain is low or high, got 'mid'$"):
        errors.require_choice("domain", "mid", ("low", "high"))


def raised(call):
    try:
        call()
    except BaseException as error:
        return error.with_traceback(error.__traceback__.tb_next)
    raise AssertionError("it raised nothing")


def test_an_error_of_a_stranger_is_one_line_with_the_place_in_its_own_code(tmp_path, monkeypatch):
    path = tmp_path / "blur" / "net.py"
    path.parent.mkdir()
    path.write_text(
        "import json\n\n\ndef outer():\n    return inner()\n\n\ndef inner():\n    return json.loads('{')\n"
    )
    spec = importlib.util.spec_from_file_location("net", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = errors.described(raised(module.outer))
    assert text.startswith("JSONDecodeError: Expecting property name")
    assert text.endswith(" (blur/net.py, line 9)")
    # the same file installed: what it calls in other packages is not its own
    monkeypatch.setattr(
        sysconfig, "get_paths", lambda: {"purelib": str(tmp_path), "stdlib": sysconfig.__file__[:-13]}
    )
    assert errors.described(raised(module.outer)).endswith(" (blur/net.py, line 9)")


def test_an_error_that_is_ours_or_has_no_place_stays_short():
    assert errors.described(errors.PluginError("what to do")) == "what to do"
    assert errors.described(SystemExit(3)) == "it called sys.exit(3)"
    assert errors.described(KeyError()) == "KeyError"
    assert len(errors.described(ValueError("long " * 2000))) < 600
