"""Libraries of networks that are not invkit's own, imported where they are installed."""

import importlib
import importlib.machinery
import importlib.util
import sys
import types
import warnings

import pytest

# spandrel and onnx2torch import these names for networks that no test here uses.
NAMES = {
    "torchvision": {"__version__": "0"},
    "torchvision.transforms": {},
    "torchvision.transforms.functional": {"InterpolationMode": None, "rotate": None, "normalize": None},
    "torchvision.ops": {"roi_align": None},
}


def library(name):
    """Return a module of an optional library, or skip the test; in place of a missing torchvision stand empty names.

    They are there while it is imported alone: other libraries look whether there is a torchvision.
    """
    made_up = "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is None
    if made_up:
        for module, names in NAMES.items():
            made = types.ModuleType(module)
            made.__spec__ = importlib.machinery.ModuleSpec(module, None)
            made.__path__ = []
            vars(made).update(names)
            sys.modules[module] = made
            above, _, last = module.rpartition(".")
            if above:
                setattr(sys.modules[above], last, made)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pytest.importorskip(name)
    finally:
        for module in NAMES if made_up else ():
            del sys.modules[module]


def importable(name):
    """Return whether `library(name)` would not skip."""
    return importlib.util.find_spec(name.partition(".")[0]) is not None
