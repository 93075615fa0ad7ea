"""Which patient belongs to which part: train, validation or test, by the rank of a hash."""

__all__ = ["HASH_RANK", "LDCT_BENCHMARK", "LDCT_TEST", "PARTS", "RULES", "Part", "divide", "partition"]

import hashlib
from collections.abc import Iterable, Mapping
from typing import Literal

from invkit.errors import UsageError

Part = Literal["train", "validation", "test"]
PARTS: dict[Part, float] = {"train": 0.7, "validation": 0.2, "test": 0.1}

HASH_RANK, LDCT_BENCHMARK = "hash-rank", "ldct-benchmark"
RULES = (HASH_RANK, LDCT_BENCHMARK)

LDCT_TEST = frozenset(
    "C121 C249 C170 C135 C280 L241 L107 L006 L221 L220 N176 N138 N153 N284 N090".split()  # noqa: SIM905 - a list takes 15 lines
)
"""Test patients of the LDCT benchmark (Eulig et al., Med Phys 2024) in LDCT-and-Projection-data."""


def divide(
    exams: Mapping[str, str], *, rule: str = HASH_RANK, previous: Mapping[str, Part] | None = None
) -> dict[str, Part]:
    """Return the part of every patient, divided within each type of examination.

    Args:
        exams: type of examination of each patient.
        rule: `"hash-rank"` for 70 / 20 / 10 % by `partition`; `"ldct-benchmark"` for the test patients that the
            benchmark names, and 70 : 20 by `partition` among the others.
        previous: parts that are already decided; nobody moves.

    Raises:
        UsageError: there is no such rule, or `previous` puts a patient of the benchmark's test part elsewhere, or
            another one there.
    """
    if rule not in RULES:
        raise UsageError(f"there is no split {rule!r}; splits are {', '.join(RULES)}")
    earlier = dict(previous or {})
    result: dict[str, Part] = {}
    for exam in sorted(set(exams.values())):
        patients = {patient for patient, kind in exams.items() if kind == exam}
        if rule == HASH_RANK:
            result |= partition(patients, previous=earlier)
            continue
        named = patients & LDCT_TEST
        moved = sorted(
            patient
            for patient in patients
            if patient in earlier and (earlier[patient] == "test") != (patient in named)
        )
        if moved:
            raise UsageError(
                f"{len(moved)} patients ({moved[0]}, ...) would move by the LDCT benchmark's split: the data were "
                "split by another rule before. Prepare a new cache"
            )
        result |= dict.fromkeys(named, "test")
        result |= partition(patients - named, previous=earlier, shares={"train": 7 / 9, "validation": 2 / 9})
    return result


def partition(
    patients: Iterable[str],
    *,
    previous: Mapping[str, Part] | None = None,
    shares: Mapping[Part, float] = PARTS,
) -> dict[str, Part]:
    """Return the part of every patient: 70 / 20 / 10 % in the order of their hashed pseudonyms.

    The parts depend on the set of patients alone, not on order or on how many slices each has; every share is
    within one patient of its target. Call it once per source or exam type. Without `previous` a further
    patient can shift those next to a border by one rank; with `previous`, the stored answer of an earlier
    call, nobody ever moves and new patients fill the parts that lack most.

    Args:
        patients: pseudonyms; duplicates count once.
        previous: parts that are already decided; entries of patients who are gone are ignored.
        shares: of each part, 1 in all.

    Raises:
        UsageError: `previous` names an unknown part.
    """
    kept = {} if previous is None else dict(previous)
    if unknown := sorted(set(kept.values()) - set(PARTS)):
        raise UsageError(f"unknown part {unknown[0]!r} in the earlier split; parts are {', '.join(PARTS)}")
    ranked = sorted(set(patients), key=_rank)
    if not any(patient in kept for patient in ranked):
        return _by_rank(ranked, shares)
    result: dict[str, Part] = {patient: kept[patient] for patient in ranked if patient in kept}
    counts = {part: sum(value == part for value in result.values()) for part in shares}
    for patient in ranked:
        if patient not in result:
            total = len(result) + 1
            part = max(shares, key=lambda name: shares[name] * total - counts[name])
            result[patient] = part
            counts[part] += 1
    return result


def _by_rank(ranked: list[str], shares: Mapping[Part, float]) -> dict[str, Part]:
    result: dict[str, Part] = {}
    start, share = 0, 0.0
    for part, fraction in shares.items():
        share += fraction
        end = int(share * len(ranked) + 0.5)
        result.update(dict.fromkeys(ranked[start:end], part))
        start = end
    return result


def _rank(patient: str) -> tuple[str, str]:
    return hashlib.sha256(f"invkit split 1|{patient}".encode()).hexdigest(), patient
