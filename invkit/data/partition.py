"""Which patient belongs to which part: train, validation or test, by the rank of a hash."""

__all__ = ["PARTS", "Part", "partition"]

import hashlib
from collections.abc import Iterable, Mapping
from typing import Literal

from invkit.errors import UsageError

Part = Literal["train", "validation", "test"]
PARTS: dict[Part, float] = {"train": 0.7, "validation": 0.2, "test": 0.1}


def partition(patients: Iterable[str], *, previous: Mapping[str, Part] | None = None) -> dict[str, Part]:
    """Return the part of every patient: 70 / 20 / 10 % in the order of their hashed pseudonyms.

    The parts depend on the set of patients alone, not on order or on how many slices each has; every share is
    within one patient of its target. Call it once per source or exam type. Without `previous` a further
    patient can shift those next to a border by one rank; with `previous`, the stored answer of an earlier
    call, nobody ever moves and new patients fill the parts that lack most.

    Args:
        patients: pseudonyms; duplicates count once.
        previous: parts that are already decided; entries of patients who are gone are ignored.

    Raises:
        UsageError: `previous` names an unknown part.
    """
    kept = {} if previous is None else dict(previous)
    if unknown := sorted(set(kept.values()) - set(PARTS)):
        raise UsageError(f"unknown part {unknown[0]!r} in the earlier split; parts are {', '.join(PARTS)}")
    ranked = sorted(set(patients), key=_rank)
    if not any(patient in kept for patient in ranked):
        return _by_rank(ranked)
    result: dict[str, Part] = {patient: kept[patient] for patient in ranked if patient in kept}
    counts = {part: sum(value == part for value in result.values()) for part in PARTS}
    for patient in ranked:
        if patient not in result:
            total = len(result) + 1
            part = max(PARTS, key=lambda name: PARTS[name] * total - counts[name])
            result[patient] = part
            counts[part] += 1
    return result


def _by_rank(ranked: list[str]) -> dict[str, Part]:
    result: dict[str, Part] = {}
    start, share = 0, 0.0
    for part, fraction in PARTS.items():
        share += fraction
        end = int(share * len(ranked) + 0.5)
        result.update(dict.fromkeys(ranked[start:end], part))
        start = end
    return result


def _rank(patient: str) -> tuple[str, str]:
    return hashlib.sha256(f"invkit split 1|{patient}".encode()).hexdigest(), patient
