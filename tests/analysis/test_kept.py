import dataclasses
import typing

import numpy as np
import pytest
import torch
from torch import Tensor

import invkit
from invkit.analysis.kept import KNOWN, read_layer, write_layer
from invkit.errors import ArtifactError
from invkit.parts.config import LayerConfig
from invkit.sampling.stack import Stack


@pytest.fixture(scope="module")
def result(network, image, place):
    """A layer's result with samples, certified ones, and every measure of their variation."""
    return invkit.analyze(
        network,
        "0",
        image,
        samples=30,
        refine=9,
        train_data="phantoms:14",
        train_noise="image",
        config=LayerConfig.preset("tiny"),
        vae_preset="tiny",
        **place,
    ).layers[0]


@pytest.fixture(scope="module")
def written(result, tmp_path_factory):
    path = tmp_path_factory.mktemp("kept") / "layer.safetensors"
    write_layer(path, result, {"memory": {"disk": 3}})
    return path


def parts(value, place="result"):
    """Every number, text and tensor that a value holds, with the types on the way to it."""
    yield place, type(value)
    if isinstance(value, Stack):
        yield place, value.tensor.numpy().tobytes()
    elif isinstance(value, Tensor | np.ndarray):
        plain = np.asarray(value)
        yield place, (plain.dtype, plain.shape, plain.tobytes())
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from parts(getattr(value, field.name), f"{place}.{field.name}")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from parts(item, f"{place}[{key!r}]")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from parts(item, f"{place}[{number}]")
    else:
        yield place, repr(value)


def test_a_result_comes_back_as_it_was(result, written):
    found, beside = read_layer(written)
    assert beside == {"memory": {"disk": 3}}
    before, after = list(parts(result)), list(parts(found))
    assert len(before) > 500
    assert [one for one, other in zip(before, after, strict=True) if one != other] == []
    assert found.metrics == result.metrics


def test_what_json_and_safetensors_cannot_hold_comes_back_too(result, tmp_path):
    odd = {
        "nan": float("nan"),
        "infinite": [-float("inf"), (1, None, True)],
        "half": np.array([1.5], dtype=np.float16),
        "rows": (slice(3, 9), slice(None)),
        "is": {"is": "no class", "tuple": "no tuple"},
        "scalar": torch.tensor(0.1, dtype=torch.float64),
        "view": torch.arange(12.0).view(3, 4).T,
    }
    write_layer(tmp_path / "odd.safetensors", dataclasses.replace(result, provenance=odd), {})
    found, _ = read_layer(tmp_path / "odd.safetensors")
    assert list(parts(found.provenance)) == list(parts(odd))


def mentioned(hint):
    """The classes that a type hint names."""
    if isinstance(hint, type):
        yield hint
    for part in typing.get_args(hint):
        yield from mentioned(part)


def test_every_class_that_a_result_may_hold_is_known():
    missing = {
        found.__name__
        for kind in KNOWN.values()
        for hint in typing.get_type_hints(kind).values()
        for found in mentioned(hint)
        if dataclasses.is_dataclass(found) and KNOWN.get(found.__name__) is not found
    }
    assert missing == set()


def test_what_is_not_known_is_neither_written_nor_read(result, written, tmp_path):
    class Stranger:
        pass

    with pytest.raises(TypeError, match="a Stranger cannot be kept"):
        write_layer(tmp_path / "x.safetensors", dataclasses.replace(result, provenance={"a": Stranger()}), {})
    sidecar = written.with_suffix(".json")
    text = sidecar.read_text()
    for name in ("Popen", "Verdict", "LayerResul"):
        changed = tmp_path / f"{name}.safetensors"
        changed.write_bytes(written.read_bytes())
        changed.with_suffix(".json").write_text(text.replace('"is": "LayerResult"', f'"is": "{name}"'))
        assert text.count('"is": "LayerResult"') == 1
        with pytest.raises(ArtifactError, match="does not contain the result"):
            read_layer(changed)


def test_a_file_that_is_cut_short_is_refused(written, tmp_path):
    data = written.read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(data[: len(data) // 2])
    cut.with_suffix(".json").write_text(written.with_suffix(".json").read_text())
    with pytest.raises(ArtifactError, match="does not contain the result"):
        read_layer(cut)
