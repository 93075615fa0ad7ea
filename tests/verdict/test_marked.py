"""The sentence on a marked structure."""

from invkit.verdict.marked import MarkedFound, marked_sentence


def found(contrast=60.0, share=(0.1, 0.4), image=(0.2, 0.5)):
    return MarkedFound("5,10,20,8", contrast, 10.0, 30.0, share, image)


def test_it_says_what_stands_out_and_what_may_be_missing():
    said = marked_sentence("layer 3", found())
    assert said.startswith(
        "The structure at 5,10,20,8 has 60 HU above its surroundings (30 HU in f(x)), 6 standard"
    )
    assert "more than dose noise explains" in said
    assert "10 % of it may be missing (20 % for the image itself), which leaves 54 HU" in said
    assert said.endswith("40 % may (50 % for the image itself).")


def test_what_noise_alone_can_explain_is_said_also_of_dark_structures():
    assert "which dose noise alone can explain" in marked_sentence("layer 3", found(-20.0))
    assert "more than dose noise explains" in marked_sentence("layer 3", found(-60.0))


def test_where_all_of_it_may_be_noise_that_is_said():
    said = marked_sentence("layer 3", found(share=(0.3, 1.0)))
    assert "with noise of at most two standard deviations in its place, all of it may be missing" in said
