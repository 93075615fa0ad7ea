import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invkit.data.partition import HASH_RANK, LDCT_BENCHMARK, LDCT_TEST, PARTS, divide, partition
from invkit.errors import UsageError

names = st.sets(st.text(min_size=1, max_size=8), max_size=60)


@given(names)
def test_shares_hold_within_one_patient_and_nobody_is_lost(patients: set[str]) -> None:
    parts = partition(patients)
    assert set(parts) == patients
    counts = Counter(parts.values())
    for part, share in PARTS.items():
        assert abs(counts[part] - share * len(patients)) <= 1


@given(names)
def test_order_and_repetition_do_not_matter(patients: set[str]) -> None:
    listed = sorted(patients)
    assert partition(listed) == partition(listed[::-1] + listed)


@given(names, names)
def test_with_the_earlier_split_nobody_moves(first: set[str], second: set[str]) -> None:
    before = partition(first)
    after = partition(first | second, previous=before)
    assert set(after) == first | second
    assert all(after[patient] == part for patient, part in before.items())
    counts = Counter(after.values())
    for part, share in PARTS.items():
        assert abs(counts[part] - share * len(after)) <= 1


@given(names, st.text(min_size=1, max_size=8))
def test_one_patient_more_moves_at_most_two(patients: set[str], name: str) -> None:
    before, after = partition(patients), partition(patients | {name})
    assert sum(before[patient] != after[patient] for patient in patients) <= 2


def test_hundred_patients() -> None:
    parts = partition(f"p{number}" for number in range(100))
    assert Counter(parts.values()) == {"train": 70, "validation": 20, "test": 10}


def test_the_phantoms_parts_are_what_they_were() -> None:
    parts = partition(f"phantom-{number:05d}" for number in range(240))
    digest = hashlib.sha256(repr(sorted(parts.items())).encode()).hexdigest()
    # The bundled weights were trained on these.
    assert digest[:16] == "a54c882a91e9429d"


def test_parts_are_shared_out_within_each_exam() -> None:
    exams = {f"{letter}{number:03d}": letter for letter in "CLN" for number in range(50)}
    parts = divide(exams)
    for letter in "CLN":
        counts = Counter(part for patient, part in parts.items() if patient[0] == letter)
        assert counts == {"train": 35, "validation": 10, "test": 5}
    assert divide(exams, rule=HASH_RANK, previous=parts) == parts


def test_the_ldct_benchmark_names_its_test_patients() -> None:
    exams = {patient: patient[0] for patient in LDCT_TEST}
    exams |= {f"{letter}{number:03d}": letter for letter in "CLN" for number in range(300, 345)}
    parts = divide(exams, rule=LDCT_BENCHMARK)
    assert {patient for patient, part in parts.items() if part == "test"} == LDCT_TEST
    assert Counter(parts.values()) == {"train": 105, "validation": 30, "test": 15}
    more = divide(exams | {"C999": "C", "X1": "other"}, rule=LDCT_BENCHMARK, previous=parts)
    assert parts.items() <= more.items()
    assert "test" not in (more["C999"], more["X1"])
    with pytest.raises(UsageError, match="would move"):
        divide(exams, rule=LDCT_BENCHMARK, previous=parts | {"C121": "train"})
    with pytest.raises(UsageError, match="splits are"):
        divide(exams, rule="by-name")


def test_patients_who_left_are_forgotten_and_unknown_parts_refused() -> None:
    assert set(partition(["a", "b"], previous={"gone": "test", "a": "train"})) == {"a", "b"}
    with pytest.raises(UsageError, match="parts are train"):
        partition(["a"], previous={"a": "holdout"})
