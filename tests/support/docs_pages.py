import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
OTHERS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "plugins/chen2017/README.md",
    "plugins/samplers/README.md",
    "plugins/yang2018/README.md",
    ".github/ISSUE_TEMPLATE/fault.md",
    ".github/ISSUE_TEMPLATE/change.md",
    ".github/pull_request_template.md",
)
FENCE = re.compile(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Page:
    """A Markdown file, and its text."""

    path: Path
    text: str

    @property
    def name(self):
        return self.path.relative_to(ROOT).as_posix()

    @property
    def prose(self):
        """The text without fenced blocks and comments."""
        return re.sub(r"<!--.*?-->", "", FENCE.sub("", self.text), flags=re.DOTALL)

    def blocks(self, kind):
        """Return the fenced blocks of a kind."""
        return [textwrap.dedent(body) for _, found, body in FENCE.findall(self.text) if found == kind]

    def commands(self):
        """Return every command of the console blocks, and those that stand in the prose as code."""
        found = []
        for block in self.blocks("console"):
            joined = block.replace("\\\n", " ")
            found += [line.strip()[2:] for line in joined.splitlines() if line.strip().startswith("$ ")]
        inline = [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", self.prose)]
        inline = [code for code in inline if re.match(r"(invkit|make) \S", code)]
        return found + [line for code in inline for line in alternatives(code)]


def alternatives(code):
    """Return a line for each of the words in `a|b|c`."""
    word = next((word for word in code.split() if "|" in word), None)
    return [code] if word is None else [code.replace(word, each) for each in word.split("|")]


def published():
    """Return the pages that Sphinx builds."""
    paths = [
        path for path in sorted(DOCS.rglob("*.md")) if not {"_build", "example-gaussian"} & set(path.parts)
    ]
    return [Page(path, path.read_text(encoding="utf-8")) for path in paths]


def pages():
    """Return every page that people read."""
    return [*(Page(ROOT / name, (ROOT / name).read_text(encoding="utf-8")) for name in OTHERS), *published()]


def page(name):
    """Return the page of this name."""
    return Page(DOCS / name, (DOCS / name).read_text(encoding="utf-8"))
