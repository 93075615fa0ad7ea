"""What was examined, under which public name, and at which dose: read from folder names and free text, never kept."""

__all__ = ["EXAMS", "Role", "Words", "dose_words", "exam_of", "public_id", "stated_dose"]

import re
from dataclasses import dataclass
from typing import Literal

Role = Literal["full", "low"]

EXAMS = {"C": "chest", "L": "abdomen", "N": "head", "other": "other"}
"""Types of examination, by the letters of the LDCT benchmark."""

BODY_PARTS = {
    "C": {"CHEST", "THORAX", "LUNG", "HEART", "BREAST"},
    "L": {"ABDOMEN", "LIVER", "PELVIS", "ABDOMENPELVIS", "ABD", "ABDPEL", "KIDNEY", "COLON", "PANCREAS"},
    "N": {"HEAD", "BRAIN", "SKULL", "NEURO"},
}
PUBLIC_ID = re.compile(r"[CLN]\d{3}")
WORDS = re.compile(
    r"(?P<full>(?:full|routine|normal|high)[ _-]*dose|^(?:full|high)(?=[ _-]|$)|[ _-]full$|^ndct$)"
    r"|(?P<low>(?:quarter|low|reduced|sparse)[ _-]*dose|^(?:quarter|low)(?=[ _-]|$)|[ _-](?:quarter|low)$|^ldct$)",
    re.IGNORECASE,
)
LDCT_DOSES = {"C": 0.1, "L": 0.25, "N": 0.25}


@dataclass(frozen=True)
class Words:
    """What a name says of the dose.

    Args:
        role: full or low dose.
        rest: the name without these words, small letters and digits: what two partners have in common.
        quarter: the name says that the low dose is a quarter.
    """

    role: Role
    rest: str
    quarter: bool


def dose_words(name: str) -> Words | None:
    """Return what a folder's, file's or series' name says of the dose; `None` where it says nothing, or both.

    Known are "full", "routine", "normal" or "high dose" and "quarter", "low", "reduced" or "sparse dose"; at the
    beginning or end of a name "full", "high", "quarter" and "low"; and the names "ndct" and "ldct".
    """
    found = list(WORDS.finditer(name))
    roles: set[Role] = {"full" if match["full"] else "low" for match in found}
    if len(roles) != 1:
        return None
    rest = re.sub(r"[^a-z0-9]+", " ", WORDS.sub(" ", name).lower()).strip()
    return Words(roles.pop(), rest, any("quarter" in match.group().lower() for match in found))


def public_id(folders: tuple[str, ...]) -> str | None:
    """Return the id that a public data set gives a patient, e.g. L096, from the folders above a file.

    Only a folder counts that has one of a known dose below it or above it, as in LDCT-and-Projection-data and the 2016
    challenge.
    """
    if not any(dose_words(name) for name in folders):
        return None
    return next((name for name in reversed(folders) if PUBLIC_ID.fullmatch(name)), None)


def exam_of(public: str | None, body_part: object) -> str:
    """Return the type of examination, a key of `EXAMS`, from a public id or else the Body Part Examined."""
    if public is not None:
        return public[0]
    part = re.sub(r"[^A-Z]", "", str(body_part or "").upper())
    return next((exam for exam, parts in BODY_PARTS.items() if part in parts), "other")


def stated_dose(public: str | None, words: Words) -> float | None:
    """Return the dose of low-dose images that their data set states, as a fraction of full dose."""
    if words.quarter:
        return 0.25
    return None if public is None else LDCT_DOSES[public[0]]
