"""Tables of structures."""

import pytest

from invkit.report.variation import variation_tables

TOLERANCE = {"mark": "grey_level", "value": 0.05}


def row(kind, size, tissue="soft tissue", contrast=10.0, kept=0.5, spacing=0.5):
    disc = kind == "disc"
    length = None if spacing is None else size * spacing
    values = ("detectability_lost", "hidden_hu", "hidden_companion_hu")
    return {
        "kind": kind,
        "radius_px": size if disc else None,
        "radius_mm": length if disc else None,
        "size_px": None if disc else size,
        "size_mm": None if disc else length,
        "contrast_hu": contrast,
        "tissue": tissue,
        "contrast_kept": {"value": kept, "low": 0.9 * kept, "high": 1.1 * kept},
        **dict.fromkeys(values, 1.0),
        **{f"identity_{name}": 2.0 for name in values},
    }


def tables(*rows):
    return variation_tables({"structures": list(rows), "tolerance": TOLERANCE})


def test_discs_of_one_contrast_have_a_table_of_their_sizes():
    (table,) = tables(row("disc", 1.0), row("disc", 8.0, spacing=None))
    assert table.caption.startswith("Discs in soft tissue at a tolerance of 0.05 repeat scans (dose noise")
    assert table.headings[:3] == ("Structure", "Contrast kept by f", "Detectability lost")
    assert [cells[0] for cells in table.rows] == ["disc, radius 1 px (0.5 mm)", "disc, radius 8 px"]
    assert table.rows[0][1:] == ("0.50 [0.45, 0.55]", "1", "2", "1", "2", "1", "2")


def test_every_tissue_has_a_table_and_every_contrast_a_column():
    found = tables(
        *(row("disc", 1.0, contrast=contrast, kept=contrast / 100) for contrast in (3.0, 30.0)),
        *(row("line_pair", 2.0, contrast=contrast) for contrast in (3.0, 30.0)),
        *(row("texture", 4.0, "lung", contrast) for contrast in (3.0, 30.0)),
    )
    assert [table.caption.split(" at a")[0] for table in found] == [
        "Structures in soft tissue",
        "Structures in lung",
    ]
    first, second = found
    assert first.headings[1:3] == ("Contrast kept by f, of 3 HU", "Contrast kept by f, of 30 HU")
    assert [cells[0] for cells in first.rows] == [
        "disc, radius 1 px (0.5 mm)",
        "line pairs, width 2 px (1 mm)",
    ]
    assert next(cells[1:3] for cells in first.rows) == ("0.0300 [0.0270, 0.0330]", "0.300 [0.270, 0.330]")
    assert [cells[0] for cells in second.rows] == ["texture, grain 4 px (2 mm)"]


@pytest.mark.parametrize("kind", ["disc", "edge", "line_pair", "texture"])
def test_every_kind_has_words(kind):
    (table,) = tables(row(kind, 4.0))
    assert "4 px (2 mm)" in table.rows[0][0]
    assert all(len(cells) == len(table.headings) for cells in table.rows)


def test_without_structures_there_is_no_table():
    assert tables() == []


def test_the_strongest_low_pass_changes_have_a_table():
    rows = [
        {
            "cycles_per_px": 0.05,
            "cycles_per_mm": length,
            "hidden_hu": 2.5,
            "identity_hidden_hu": {"value": 3.5, "low": 3.0, "high": 4.0},
            "bounded_by": "tolerance",
        }
        for length in (0.1, None)
    ]
    (table,) = variation_tables({"worst_case": rows, "tolerance": TOLERANCE})
    assert "0.05 repeat scans" in table.caption
    assert [cells[0] for cells in table.rows] == ["0.05 (0.1 per mm)", "0.05"]
    assert table.rows[0][1:] == ("2.5", "3.5 [3.0, 4.0]", "tolerance")
