"""Every way to bring a denoiser: f of what is opened equals the network called by hand."""

import functools
import io
import json
import pickle
import sys
import warnings
import zipfile

import numpy as np
import pytest
import torch
from other_libraries import library
from safetensors.torch import save_file
from torch import nn

import invkit
from invkit.denoisers.formats.opaque import Opaque
from invkit.errors import ArtifactError, DenoiserError, InvkitError, UsageError
from invkit.split.split import Split

UNIT = invkit.Affine(mean=-1024.0, std=4095.0)  # 0 to 1


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x):
        return self.b(torch.relu(self.a(x)))


class Folded(Net):
    """Has a step whose export keeps the number of images."""

    def forward(self, x):
        h = torch.relu(self.a(x)).reshape(x.shape[0], -1)
        return self.b(h.view(x.shape[0], 4, *x.shape[2:]))


@pytest.fixture
def net():
    torch.manual_seed(5)
    return Net().eval()


def images(n: int = 2) -> torch.Tensor:
    return 40 + 100 * torch.randn(n, 1, 40, 48, generator=torch.Generator().manual_seed(3))


def expected(network, x, unit=UNIT):
    with torch.no_grad():
        return unit.denormalise(network(unit.normalise(x)))


def export(network, path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(network, **options), path)
    return path


AUTO = torch.export.Dim.AUTO


@pytest.mark.parametrize(
    ("side", "options", "layers"),
    [
        (32, {"args": (torch.rand(2, 1, 32, 32),), "dynamic_shapes": ({0: AUTO, 2: AUTO, 3: AUTO},)}, True),
        (32, {"args": (torch.rand(2, 1, 32, 32),), "dynamic_shapes": ({0: AUTO},)}, True),
        (32, {"args": (torch.rand(1, 1, 32, 32),)}, True),
        (32, {"args": (torch.rand(1, 1, 32, 32),)}, False),
    ],
    ids=["dynamic", "one size", "one image of one size", "one image folded in"],
)
def test_a_program_of_torch_export(net, tmp_path, side, options, layers):
    if not layers:
        net.__class__ = Folded
    path = export(net, tmp_path / "net.pt2", **options)
    f = invkit.load(path, preprocessing=UNIT)
    x = images()[..., :side, :side]
    assert torch.allclose(f(x), expected(net, x), atol=1e-2)
    small = images(1)[..., :20, :25]
    assert f(small).shape == small.shape
    if layers:
        split = Split(f, "a")
        assert torch.allclose(split.phi(x), net.a(UNIT.normalise(x)), atol=1e-5)
        assert split.check(x).exact
    else:
        assert isinstance(f.network, Opaque)
        one = x[:1].clone().requires_grad_()
        (found,) = torch.autograd.grad(f(one).sum(), one)
        (wanted,) = torch.autograd.grad(UNIT.denormalise(net(UNIT.normalise(one))).sum(), one)
        assert torch.allclose(found, wanted, atol=1e-5)


def archive(net, path, change):
    """Write an exported program with its files changed by a function of their name and bytes."""
    plain = export(net, path.with_name("plain.pt2"), args=(torch.rand(1, 1, 32, 32),))
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name.partition("/")[2], old.read(name)))
    return path


class Evil:
    def __reduce__(self):
        return (open, ("evil", "w"))


def evil_inputs(name, data):
    out = io.BytesIO()
    torch.save((Evil(),), out)
    return out.getvalue() if name.startswith("data/sample_inputs") else data


def evil_weights(name, data):
    if not name.endswith("weights_config.json"):
        return pickle.dumps(Evil()) if name == "data/weights/weight_0" else data
    config = json.loads(data)
    next(iter(config["config"].values()))["use_pickle"] = True
    return json.dumps(config).encode()


def evil_operation(name, data):
    return data.replace(b"torch.ops.aten.relu.default", b"torch.os.system") if "models/" in name else data


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (evil_inputs, "pickled objects in data/sample_inputs"),
        (evil_weights, "pickled objects in data/weights"),
        (evil_operation, "the operation 'torch.os.system'"),
    ],
)
def test_a_program_that_could_run_code_is_refused_before_it_is_loaded(
    net, tmp_path, monkeypatch, change, text
):
    monkeypatch.chdir(tmp_path)
    path = archive(net, tmp_path / "net.pt2", change)
    with pytest.raises(ArtifactError, match=f"could run any code: it holds {text}"):
        invkit.load(path, preprocessing=UNIT)
    assert not (tmp_path / "evil").exists()
    assert invkit.load(archive(net, tmp_path / "net.pt2", lambda name, data: data), preprocessing=UNIT)


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize("make", ["script", "trace"])
def test_torchscript_is_used_as_a_whole(net, tmp_path, suffix, make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.script(net) if make == "script" else torch.jit.trace(net, torch.rand(1, 1, 32, 32))
        script.save(tmp_path / f"net{suffix}")
        f = invkit.load(tmp_path / f"net{suffix}", preprocessing=UNIT)
    x = images()
    assert torch.allclose(f(x), expected(net, x), atol=1e-2)
    assert [name for name, _ in f.network.named_modules()] == [""]
    one = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(f(one).square().sum(), one)
    (wanted,) = torch.autograd.grad(UNIT.denormalise(net(UNIT.normalise(one))).square().sum(), one)
    assert torch.allclose(found, wanted, rtol=1e-3)


@pytest.mark.parametrize(
    ("batch", "side", "modules"), [("b", "s", True), (1, 48, True), ("b", 48, True)], ids=str
)
def test_an_onnx_file_is_converted_where_that_gives_the_same(net, tmp_path, batch, side, modules):
    library("onnx2torch")
    path = onnx_file(net, tmp_path / "net.onnx", batch, side)
    f = invkit.load(path, preprocessing=UNIT)
    x = images()
    assert torch.allclose(f(x), expected(net, x if side == "s" else f._pad(x))[..., :40, :48], atol=5e-2)
    assert (not isinstance(f.network, Opaque)) == modules
    assert f.size_multiple == (1 if side == "s" else 48)


def onnx_file(net, path, batch="b", side="s", function=None):
    """Write the network as ONNX by hand, without torch's exporter, which needs more packages."""
    onnx = library("onnx")
    helper, numbers = onnx.helper, onnx.numpy_helper
    state = {name: tensor.detach().numpy() for name, tensor in net.state_dict().items()}
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "a.weight", "a.bias"], ["h"], **pads),
        helper.make_node("Relu", ["h"], ["g"]) if function is None else function(helper),
        helper.make_node("Conv", ["g", "b.weight", "b.bias"], ["y"], **pads),
    ]
    shape = [batch, 1, side, side if isinstance(side, int) else "t"]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape)],
        [numbers.from_array(value, name) for name, value in state.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, str(path))
    return path


def test_an_onnx_file_that_cannot_be_converted_is_run_by_onnxruntime(net, tmp_path):
    library("onnxruntime")
    path = onnx_file(
        net, tmp_path / "net.onnx", function=lambda helper: helper.make_node("Mish", ["h"], ["g"])
    )
    f = invkit.load(path, preprocessing=UNIT)
    x = images()
    with torch.no_grad():
        wanted = UNIT.denormalise(net.b(nn.functional.mish(net.a(UNIT.normalise(x)))))
    assert isinstance(f.network, Opaque)
    assert not f.network.differentiable
    assert torch.allclose(f(x), wanted, atol=5e-2)


def spandrel_networks():
    library("spandrel")
    from spandrel.architectures.DnCNN import DnCNN
    from spandrel.architectures.DRUNet import DRUNet
    from spandrel.architectures.NAFNet import NAFNet
    from spandrel.architectures.SCUNet import SCUNet
    from spandrel.architectures.SwinIR import SwinIR

    level = lambda x: torch.cat([x, torch.full_like(x, 15 / 255)], 1)  # noqa: E731
    third = lambda x: x.repeat(1, 3, 1, 1)  # noqa: E731
    swin = {"depths": [1, 1], "num_heads": [2, 2], "window_size": 8, "upscale": 1, "upsampler": ""}
    naf = {"middle_blk_num": 1, "enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1]}
    return {
        "DnCNN": (lambda: DnCNN(in_nc=1, out_nc=1, nc=16, nb=5), lambda n, x: n(x)),
        "SwinIR": (
            lambda: SwinIR(img_size=32, in_chans=1, embed_dim=12, resi_connection="1conv", **swin),
            lambda n, x: n(x),
        ),
        "NAFNet": (
            lambda: NAFNet(img_channel=3, width=8, **naf),
            lambda n, x: n(third(x)).mean(1, keepdim=True),
        ),
        "SCUNet": (lambda: SCUNet(in_nc=1, config=[1] * 7, dim=64), lambda n, x: n(x)),
        "DRUNet": (lambda: DRUNet(in_nc=2, out_nc=1, nc=[8, 16, 32, 64], nb=4), lambda n, x: n(level(x))),
    }


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize("name", ["DnCNN", "SwinIR", "NAFNet", "SCUNet", "DRUNet"])
@pytest.mark.parametrize("wrap", ["as it is", "data parallel", "lightning"])
def test_a_checkpoint_of_an_architecture_that_spandrel_knows(name, wrap, tmp_path):
    make, by_hand = spandrel_networks()[name]
    torch.manual_seed(7)
    network = make().eval()
    state = network.state_dict()
    if wrap == "as it is":
        save_file(
            {key: value.contiguous() for key, value in state.items()}, path := tmp_path / "net.safetensors"
        )
    elif wrap == "data parallel":
        torch.save({f"module.{key}": value for key, value in state.items()}, path := tmp_path / "net.pth")
    else:
        inside = {f"model._orig_mod.{key}": value for key, value in state.items()}
        torch.save(
            {"state_dict": inside | {"loss.weight": torch.ones(1)}, "epoch": 3}, path := tmp_path / "net.ckpt"
        )
    f = invkit.load(str(path), preprocessing=UNIT)
    x = images()[..., :40, :40]
    with torch.no_grad():
        wanted = UNIT.denormalise(by_hand(network, UNIT.normalise(x)))
    assert torch.allclose(f(x), wanted, atol=0.1)


def test_a_file_says_nothing_of_units_and_is_asked(net, tmp_path):
    path = export(net, tmp_path / "net.pt2", args=(torch.rand(1, 1, 32, 32),))
    with pytest.raises(UsageError, match=r"net\.pt2 does not say which units.*--normalise MEAN,STD"):
        invkit.load(path)
    with pytest.raises(UsageError, match="yang2018 states its units"):
        invkit.load("yang2018", preprocessing=UNIT)


def test_a_folder_with_one_file_is_that_file(net, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(ArtifactError, match="must hold one file with a model"):
        invkit.load(folder, preprocessing=UNIT)
    export(net, folder / "net.pt2", args=(torch.rand(1, 1, 32, 32),))
    (folder / "README.md").write_text("a model")
    f = invkit.load(f"{tmp_path}/model", preprocessing=UNIT)
    x = images()[..., :32, :32]
    assert torch.allclose(f(x), expected(net, x), atol=1e-2)
    (folder / "more.onnx").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"it holds more\.onnx, net\.pt2"):
        invkit.load(folder, preprocessing=UNIT)


@pytest.mark.parametrize("name", ["net.onnx", "net.pt2", "net.pth", "net.ckpt", "net.safetensors", "net.pt"])
def test_damaged_and_missing_files_are_one_typed_error(name, tmp_path):
    library("spandrel")
    with pytest.raises(ArtifactError, match="there is no file"):
        invkit.load(str(tmp_path / name), preprocessing=UNIT)
    for content in (b"", b"nonsense" * 50, b"PK\x03\x04" + bytes(100)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ArtifactError, match=name):
            invkit.load(tmp_path / name, preprocessing=UNIT)
    if not name.endswith((".onnx", ".pt2")):
        save_file({"a.weight": torch.zeros(1)}, tmp_path / name)
        with pytest.raises(
            ArtifactError, match=r"no architecture that spandrel knows. Its names are a\.weight"
        ):
            invkit.load(tmp_path / name, preprocessing=UNIT)


def halved(x):
    return x / 2


def blurred(image, width=1):
    return np.asarray((np.roll(image, width, 0) + image + np.roll(image, -width, 0)) / 3)


def test_python_objects(net, tmp_path, monkeypatch):
    x = images()
    assert torch.equal(invkit.load(net)(x), net(x).detach())
    built = invkit.load(Net)
    with torch.no_grad():
        assert torch.equal(built(x), built.network(x))
    scaled = invkit.load(functools.partial(nn.Conv2d, 1, 1, 3, padding=1), preprocessing=UNIT)
    assert torch.equal(scaled(x), expected(scaled.network, x))
    assert torch.equal(invkit.load(halved)(x), x / 2)
    arrays = invkit.load(functools.partial(blurred, width=2))
    assert torch.equal(arrays(x), (x.roll(2, 2) + x + x.roll(-2, 2)) / 3)
    assert (arrays.network.differentiable, invkit.load(halved).network.differentiable) == (False, True)
    assert arrays.sha256 != invkit.load(functools.partial(blurred, width=3)).sha256
    assert arrays.sha256 == invkit.load(functools.partial(blurred, width=2)).sha256
    (tmp_path / "brought_here.py").write_text(
        "from torch import nn\nclass Nets:\n    small = staticmethod(lambda: nn.Conv2d(1, 1, 1))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = invkit.load("brought_here:Nets.small")
    assert torch.equal(found(x), expected(found.network, x, invkit.Affine(0.0, 1.0)))
    sys.modules.pop("brought_here", None)


@pytest.mark.parametrize(
    ("thing", "text"),
    [
        (lambda: 3, "must return an nn.Module or a function"),
        (lambda: int("a"), r"failed: ValueError"),
        (lambda x: np.zeros(5), "must return an image of the shape"),
        (lambda x: int("a"), r"fails on an array.*ValueError"),
        ("no_such_module:net", "cannot be imported"),
        ("json:no_such_name", "json has no 'no_such_name'"),
        ("json:decoder", "neither a network nor a function"),
        (3, "a model must be a name, a file, a function"),
    ],
)
def test_what_is_no_denoiser_is_one_typed_error(thing, text):
    with pytest.raises(InvkitError, match=text):
        invkit.load(thing)


def test_a_function_that_returns_another_shape_of_tensors_is_refused():
    with pytest.raises(DenoiserError, match="got shape"):
        invkit.load(lambda x: x[..., 1:])
