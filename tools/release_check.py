"""What would be released: core and plugins are built, looked into, installed afresh, and run the README's first command.

`python tools/release_check.py` leaves nothing behind; `--keep FOLDER` keeps wheels and sdists. It needs git, and the
packages `build` and `twine` of the extra `dev`.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import venv
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
PLUGINS = tuple(sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml")))
# What a wheel cannot do without, as patterns of its own names: the list that git keeps may lack them, too.
KINDS = {
    "invkit": (
        "py.typed",
        "bundled/*.safetensors",
        "bundled/*.json",
        "parts/presets/*/*.toml",
        "workflow/presets/*.toml",
        "report/templates/*.jinja",
        "report/templates/*.css",
        "report/templates/*.js",
    ),
    **{
        f"invkit_{name}": ("py.typed", "presets/*.toml", "trained/*.safetensors", "trained/*.json")
        for name in ("chen2017", "yang2018")
    },
    "invkit_samplers": ("py.typed",),
}
WRITTEN = ("report.html", "report.json", "samples.safetensors", "manifest.json")


class ReleaseError(Exception):
    """What is built is not what should be released."""


def run(*command: str | Path, folder: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """Run a command and return what it prints.

    Raises:
        ReleaseError: it fails; the message is all that it printed.
    """
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ReleaseError(f"{shlex.join(map(str, command))} returned {done.returncode}:\n{done.stdout}")
    return done.stdout


def version() -> str:
    """Return the version that core and plugins share."""
    return (ROOT / "invkit" / "_version.py").read_text(encoding="utf-8").split('"')[-2]


def package_of(project: Path) -> str:
    """Return the name under which a project's package is imported."""
    settings = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    return str(settings["project"]["name"]).replace("-", "_")


def tracked(project: Path) -> set[str]:
    """Return the files of a project's package that git keeps, as a wheel names them."""
    names = run("git", "ls-files", "-z", package_of(project), folder=project)
    return {name for name in names.split("\0") if name}


def faults_of_wheel(names: Iterable[str], kept: set[str], package: str, release: str) -> list[str]:
    """Return what is wrong with the names in a wheel: its package is what git keeps, to the file.

    Args:
        names: of all files in the wheel.
        kept: the names of the package's files in git.
        package: the wheel's one package, a key of `KINDS`.
        release: the version.
    """
    held = set(names)
    info = f"{package}-{release}.dist-info/"
    inside = {name for name in held if not name.startswith(info)}
    missing = [f"lacks {name}" for name in sorted(kept - inside)]
    strange = [f"holds {name}" for name in sorted(inside - kept)]
    kinds = [
        f"has no {package}/{pattern}"
        for pattern in KINDS[package]
        if not any(PurePosixPath(name).match(f"{package}/{pattern}") for name in inside)
    ]
    records = [f"lacks {info}{name}" for name in ("METADATA", "licenses/LICENSE") if info + name not in held]
    return missing + strange + kinds + records


def faults_of_sdist(names: Iterable[str], kept: set[str], package: str, release: str) -> list[str]:
    """Return what is wrong with the names in an sdist: it holds the package and what builds it, and no cache."""
    start = f"{package}-{release}/"
    held = {name.removeprefix(start) for name in names}
    needed = kept | {"pyproject.toml", "README.md", "LICENSE", "PKG-INFO"}
    missing = [f"lacks {name}" for name in sorted(needed - held)]
    caches = re.compile(r"__pycache__|\.pyc$|(^|/)\.(?!gitignore$)|(^|/)_build/|(^|/)runs/|\.\./")
    return missing + [f"holds {name}" for name in sorted(held) if caches.search(name)]


def build(project: Path, folder: Path) -> Path:
    """Build a project's sdist, and its wheel from that sdist; check both and return the wheel.

    Raises:
        ReleaseError: they cannot be built, or hold too little or too much.
    """
    run(sys.executable, "-m", "build", "--outdir", folder, project)
    package, release, kept = package_of(project), version(), tracked(project)
    wheel = folder / f"{package}-{release}-py3-none-any.whl"
    sdist = folder / f"{package}-{release}.tar.gz"
    if absent := [path.name for path in (wheel, sdist) if not path.is_file()]:
        found = ", ".join(sorted(path.name for path in folder.iterdir()))
        raise ReleaseError(f"{package} was built, but not as {' and '.join(absent)}; there is {found}")
    with zipfile.ZipFile(wheel) as archive:
        faults = [
            f"{wheel.name} {each}" for each in faults_of_wheel(archive.namelist(), kept, package, release)
        ]
    with tarfile.open(sdist) as packed:
        faults += [
            f"{sdist.name} {each}" for each in faults_of_sdist(packed.getnames(), kept, package, release)
        ]
    if faults:
        raise ReleaseError("\n".join(faults))
    return wheel


def first_command() -> list[str]:
    """Return the words of the first command of invkit that README.md shows."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return shlex.split(re.findall(r"^\$ (invkit .*)$", text, re.MULTILINE)[0])


def bare_environment(folder: Path) -> dict[str, str]:
    """Return the variables of this process without those that lead to this checkout or to its caches."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "INVKIT_"))}
    return kept | {"INVKIT_CACHE": str(folder / "cache")}


def install(wheels: Sequence[Path], folder: Path) -> Path:
    """Install wheels into a new environment in a folder, with the versions of constraints.txt; return its commands."""
    venv.create(folder / "venv", with_pip=True)
    commands = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python = commands / "python"
    constraints = ROOT / "constraints.txt"
    quiet = ("--disable-pip-version-check", "-q", "-c", constraints)
    run(python, "-m", "pip", "install", *quiet, *wheels, env=bare_environment(folder))
    run(python, "-m", "pip", "--disable-pip-version-check", "check", env=bare_environment(folder))
    return commands


def try_out(commands: Path, folder: Path) -> None:
    """Ask what was installed for its version and its plugins, and run the README's first command.

    Raises:
        ReleaseError: a command fails, says something else than it should, or does not write what the README says.
    """
    env, invkit = bare_environment(folder), commands / "invkit"
    if (told := run(invkit, "--version", folder=folder, env=env).strip()) != f"invkit {version()}":
        raise ReleaseError(f"invkit --version prints {told!r}, and this is {version()}")
    plugins = run(invkit, "plugins", folder=folder, env=env)
    if absent := [project.name for project in PLUGINS if project.name not in plugins]:
        raise ReleaseError(f"invkit plugins does not name {', '.join(absent)}:\n{plugins}")
    word, *arguments = first_command()
    run(commands / word, *arguments, "--out", folder / "run", folder=folder, env=env)
    if lacking := [name for name in WRITTEN if not (folder / "run" / name).is_file()]:
        raise ReleaseError(f"{shlex.join([word, *arguments])} wrote no {', '.join(lacking)}")


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print what is done, and the seconds that it took."""
    print(f"{what} ...", end=" ", flush=True)
    start = time.perf_counter()
    yield
    print(f"{time.perf_counter() - start:.0f} s", flush=True)


def main() -> int:
    """Check what would be released; return 0 where it can be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="Keep wheels and sdists here.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="invkit-release-") as name:
        folder = Path(name)
        built = (options.keep or folder / "dist").absolute()
        try:
            with timed(f"build and look into {1 + len(PLUGINS)} wheels and sdists"):
                wheels = [build(project, built) for project in (ROOT, *PLUGINS)]
            with timed("twine check"):
                run(sys.executable, "-m", "twine", "check", "--strict", *sorted(built.iterdir()))
            with timed("install into a new environment"):
                commands = install(wheels, folder)
            with timed(shlex.join(first_command())):
                try_out(commands, folder)
        except ReleaseError as error:
            print(f"\n{error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
