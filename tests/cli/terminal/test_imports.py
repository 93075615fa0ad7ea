"""Importing with the search for garbage switched off, and on again."""

import gc

import pytest

from invkit.cli.terminal.imports import importing


def test_garbage_is_not_searched_for_meanwhile_and_is_again_after():
    frozen = gc.get_freeze_count()
    with importing():
        assert not gc.isenabled()
        made = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= frozen + len(made)
    gc.unfreeze()


def test_a_failed_import_leaves_the_search_on():
    with pytest.raises(ImportError), importing():
        raise ImportError
    assert gc.isenabled()
    gc.unfreeze()


def test_a_program_that_has_it_off_keeps_it_off():
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
