import inspect
from pathlib import Path

import pytest

from invkit.plugins import hookspecs
from invkit.plugins.hooks import HOOKS, hook_callers

NAMES = [name for name in vars(hookspecs) if name.startswith("invkit_")]
GUIDE = Path(__file__).parents[2] / "docs" / "plugins" / "index.md"


def test_the_specs_are_the_hooks_that_the_host_calls():
    assert set(NAMES) == set(HOOKS)
    assert set(NAMES) <= set(hookspecs.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_a_hook_is_typed_and_documented(name):
    hook = getattr(hookspecs, name)
    assert "; called once, " in inspect.getdoc(hook)
    assert "\n" not in inspect.getdoc(hook)
    assert inspect.signature(hook).return_annotation == f"Iterable[{HOOKS[name][1].__name__}]"
    guide = GUIDE.read_text(encoding="utf-8")
    assert f"| `{name}` | `invkit.{HOOKS[name][1].__name__}` |" in guide


@pytest.mark.parametrize("name", NAMES)
def test_a_hook_is_read_from_a_plugin(name):
    class Plugin:
        pass

    plugin = Plugin()
    setattr(plugin, name, hookspecs.hookimpl(lambda: ["what it returns"]))
    callers = hook_callers(plugin)
    assert callers.keys() == {name}
    assert callers[name]() == ["what it returns"]
