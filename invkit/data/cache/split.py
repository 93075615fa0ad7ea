"""`split.json`: which patient of a cache belongs to which part; and the one hash that says so in every trained file."""

__all__ = [
    "PatientSplit",
    "check_same_split",
    "decide_split",
    "entries_hash",
    "read_split",
    "stratum",
    "write_split",
]

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from invkit.artifacts import fingerprint, write_atomic
from invkit.data.partition import HASH_RANK, PARTS, Part, divide
from invkit.errors import ArtifactError, DataError, UsageError

SCHEMA = "invkit.split/1"
NAME = "split.json"


@dataclass(frozen=True)
class PatientSplit:
    """The parts of a cache.

    Args:
        rule: by which patients were divided.
        parts: part of every patient.
        exams: type of examination of every patient.
        former: parts of patients who are gone; they come back into the same part.
    """

    rule: str
    parts: Mapping[str, Part]
    exams: Mapping[str, str]
    former: Mapping[str, Part] = field(default_factory=dict)


def decide_split(exams: Mapping[str, str], *, rule: str | None, earlier: PatientSplit | None) -> PatientSplit:
    """Return the split of a cache; whoever has a part keeps it.

    Args:
        exams: type of examination of every patient.
        rule: one of `RULES`; `None` for the earlier one's, or the hash rank.
        earlier: the split so far.

    Raises:
        UsageError: another rule than before, or an unknown one.
    """
    rule = rule or (HASH_RANK if earlier is None else earlier.rule)
    if earlier is not None and rule != earlier.rule and earlier.parts:
        raise UsageError(
            f"the cache is split by {earlier.rule}, and its patients keep their sets. Prepare a new cache for {rule}"
        )
    known: dict[str, Part] = {} if earlier is None else {**earlier.former, **earlier.parts}
    parts = divide(exams, rule=rule, previous=known)
    return PatientSplit(
        rule, parts, dict(exams), {name: part for name, part in known.items() if name not in parts}
    )


def entries_hash(entries: Iterable[tuple[str, str, Part]]) -> str:
    """Return the sha256 over (source and exam type, patient, part), whatever their order."""
    return fingerprint(sorted([list(entry) for entry in set(entries)]))


def stratum(source: str, exam: str) -> str:
    """Return what patients are divided within: the source, and the type of examination where it is known."""
    return f"{source}/{exam}" if exam else source


def write_split(folder: Path, split: PatientSplit, sha256: str) -> None:
    """Write the split of a cache, with its hash.

    Raises:
        ResourceError: it cannot be written.
    """
    listed: dict[str, dict[str, list[str]]] = {part: {} for part in PARTS}
    for patient in sorted(split.parts):
        listed[split.parts[patient]].setdefault(split.exams[patient], []).append(patient)
    stated = {
        "schema": SCHEMA,
        "rule": split.rule,
        "sha256": sha256,
        "parts": listed,
        "former": dict(sorted(split.former.items())),
    }
    write_atomic(folder / NAME, json.dumps(stated, indent=1).encode())


def read_split(folder: Path) -> tuple[PatientSplit, str] | None:
    """Return the split of a cache and the hash it states; `None` where there is none yet.

    Raises:
        DataError: it is damaged, or a patient is in two parts.
    """
    path = folder / NAME
    try:
        stated = json.loads(path.read_bytes())
        if stated["schema"] != SCHEMA:
            raise DataError(f"{path} has schema {stated['schema']!r}, this version reads {SCHEMA!r}")
        parts: dict[str, Part] = {}
        exams: dict[str, str] = {}
        for part in PARTS:
            for exam, patients in stated["parts"][part].items():
                for patient in patients:
                    if patient in parts:
                        raise DataError(
                            f"{path}: patient {patient} is in two parts, {parts[patient]} and {part}"
                        )
                    parts[str(patient)], exams[str(patient)] = part, str(exam)
        former = {str(patient): part for patient, part in stated["former"].items() if part in PARTS}
        return PatientSplit(str(stated["rule"]), parts, exams, former), str(stated["sha256"])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except DataError:
        raise
    # Somebody's edit can have made anything of it.
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({type(error).__name__}). Restore the original file") from None


def check_same_split(metas: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse trained files that do not come from one split: a test patient of one could have trained another.

    Sources that two files share must be split alike. Files that share none, or whose provenance names no split, such as those of
    other people, cannot be judged and pass.

    Args:
        metas: provenance of each file, by the name to show; its field `splits` is that of
            `invkit.data.slices.split_meta`.

    Raises:
        ArtifactError: two splits differ; the message names the files and their hashes.
    """
    known = {name: dict(meta["splits"]) for name, meta in metas.items() if meta.get("splits")}
    clashing: dict[str, str] = {}
    for one, other in combinations(known, 2):
        for source in known[one].keys() & known[other].keys():
            if known[one][source] != known[other][source]:
                clashing |= {name: known[name][source] for name in (one, other)}
    if clashing:
        listed = ", ".join(f"{name} ({clashing[name][:12]})" for name in sorted(clashing))
        raise ArtifactError(
            f"these come from different splits of the patients: {listed}. The test patients of one can be among "
            "the training patients of another: train them on the same data"
        )
