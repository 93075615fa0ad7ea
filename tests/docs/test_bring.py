"""Every block of "Bring your denoiser" runs as it stands, and gives a denoiser."""

import ast
import re
import warnings

import pytest
import torch
from docs_pages import page
from other_libraries import library
from safetensors.torch import save_file
from torch import nn

from invkit.denoisers.loaded import LoadedDenoiser

BLOCKS = dict(
    re.findall(
        r"^## ([^\n]+)\n(?:(?!^## ).)*?^```python\n(.*?)^```$",
        page("bring.md").text,
        re.MULTILINE | re.DOTALL,
    )
)
HALVES = """
import sys, pydicom
data = pydicom.dcmread(sys.argv[1])
data.PixelData = ((data.pixel_array - 1024) // 2 + 1024).astype(data.pixel_array.dtype).tobytes()
data.save_as(sys.argv[2])
"""


def small():
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1)).eval()


def dncnn():
    library("spandrel")
    from spandrel.architectures.DnCNN import DnCNN

    save_file(DnCNN(in_nc=1, out_nc=1, nc=16, nb=5).state_dict(), "dncnn.safetensors")


def exported():
    torch.export.save(torch.export.export(small(), (torch.rand(1, 1, 32, 32),)), "net.pt2")


def onnx():
    made = library("onnx")
    library("onnxruntime")
    helper = made.helper
    shape = ["b", 1, "h", "w"]
    weight = made.numpy_helper.from_array(torch.rand(1, 1, 3, 3).numpy(), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
        "net",
        [helper.make_tensor_value_info("x", made.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", made.TensorProto.FLOAT, shape)],
        [weight],
    )
    made.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "net.onnx")


def script():
    torch.jit.script(small()).save("script.pt")


def program():
    with open("halves.py", "w", encoding="utf-8") as file:
        file.write(HALVES)


FILES = {
    "A checkpoint: spandrel": dncnn,
    "A program of torch.export": exported,
    "ONNX": onnx,
    "TorchScript": script,
    "A program for DICOM": program,
}
SLOW = ("BM3D",)


def test_there_is_a_block_of_every_kind():
    assert {*FILES, *SLOW, "MONAI", "diffusers", "deepinv", "A function"} < BLOCKS.keys()
    assert len(BLOCKS) == 13


@pytest.mark.parametrize(
    "heading", [pytest.param(one, marks=pytest.mark.slow if one in SLOW else ()) for one in BLOCKS]
)
@pytest.mark.filterwarnings("ignore")
def test_a_block_runs_and_gives_a_denoiser(heading, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for node in ast.walk(ast.parse(BLOCKS[heading])):
        if isinstance(node, ast.Import | ast.ImportFrom):
            library(getattr(node, "module", None) or node.names[0].name)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        FILES.get(heading, lambda: None)()
        variables = {"__name__": "example"}
        exec(compile(BLOCKS[heading], "bring.md", "exec"), variables)
    f = variables["f"]
    assert isinstance(f, LoadedDenoiser)
    x = 40 + 100 * torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(3))
    assert f(x).shape == x.shape
    assert torch.isfinite(f(x)).all()
