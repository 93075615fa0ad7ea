import re
import shlex
import tomllib

import pytest
import typer
from docs_pages import ROOT, pages

from invkit.cli.app import app

FOUND = [(page.name, command) for page in pages() for command in page.commands()]
INVKIT = [
    (name, command) for name, command in FOUND if re.match(r"(\w+=\S+ )*(\.venv/bin/)?invkit( |$)", command)
]
MAKE = [(name, command) for name, command in FOUND if command.startswith("make ")]


def parsed(command):
    """Return the command that a line calls, its options and the words that are none."""
    words = shlex.split(command.replace("[FOLDER]", "FOLDER"), comments=True)
    while "=" in words[0] or words[0].endswith("invkit"):
        words = words[1:]
    return words


def check(words):
    """Fail where typer would refuse a line for its words alone."""
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    options = {name: option for option in command.params for name in option.opts if name.startswith("-")}
    places = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    given = []
    while words:
        word, words = words[0], words[1:]
        if not word.startswith("-") or word == "-":
            given.append(word)
            continue
        name, equals, _ = word.partition("=")
        assert name in {*options, "--help"}, f"there is no option {name}"
        if name in options and not options[name].is_flag and not equals:
            assert words, f"{name} lacks its value"
            words = words[1:]
    if getattr(command, "commands", None):
        assert set(given) <= {"...", "COMMAND", "CONFIG"}, f"there is no command {given}"
        return
    assert len(given) <= len(places), f"{command.name} takes {len(places)} words, got {given}"


def test_there_are_commands_to_check():
    assert len(INVKIT) > 50
    assert len(MAKE) > 8


@pytest.mark.parametrize(("name", "command"), INVKIT)
def test_a_command_line_is_one_that_invkit_takes(name, command):
    check(parsed(command))


@pytest.mark.parametrize(
    "wrong",
    ["invkit analyze --modle x", "invkit analyse", "invkit models three words here", "invkit train -x"],
)
def test_a_wrong_line_is_found(wrong):
    with pytest.raises(AssertionError):
        check(parsed(wrong))


@pytest.mark.parametrize(("name", "command"), MAKE)
def test_a_make_target_exists(name, command):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in command.split()[1:]:
        target, equals, _ = word.partition("=")
        assert re.search(rf"^{target} \?=" if equals else rf"^{target}:", makefile, re.MULTILINE), word


def test_extras_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    for page in pages():
        assert set(re.findall(r"invkit\[(\w+)\]", page.text)) <= set(extras), page.name


def test_every_command_and_option_is_documented():
    text = next(page.text for page in pages() if page.name == "docs/cli.md")
    missing = []

    def visit(command, path):
        for name, sub in getattr(command, "commands", {}).items():
            visit(sub, [*path, name])
        if path and path[0] not in {"--help"}:
            section = text.partition(f"\n## {path[0]}\n")[2].partition("\n## ")[0]
            if not section:
                missing.append(" ".join(path))
            for parameter in command.params:
                for option in parameter.opts:
                    if option.startswith("--") and f"`{option}`" not in section:
                        missing.append(f"{' '.join(path)} {option}")

    visit(typer.main.get_command(app), [])
    assert not missing
