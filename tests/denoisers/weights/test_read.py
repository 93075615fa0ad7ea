"""Weights from a package, a file and the web; what is missing, wrong, damaged or slow (faults 26, 27)."""

import hashlib
import http.client
import http.server
import pickle
import struct
import sys
import threading
import time
import urllib.request

import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from invkit.denoisers.loaded import load_denoiser
from invkit.denoisers.spec import Affine, Denoiser, Weights
from invkit.denoisers.weights import read as module
from invkit.denoisers.weights.read import cache_folder, load_into, read_weights
from invkit.errors import ArtifactError, DenoiserError, ResourceError, UnknownNameError


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))


def trained_state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {name: torch.randn(t.shape, generator=generator) for name, t in small().state_dict().items()}


def entry(source: object, data: bytes, tag: str = "bundled", **changes) -> Weights:
    digest = hashlib.sha256(data).hexdigest()
    return Weights(tag=tag, source=str(source), sha256=digest, trained_on="nothing", license="MIT", **changes)


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "net.safetensors"
    save_file(trained_state(), path)
    return path


def test_a_file_gives_its_tensors_and_the_first_weights_are_the_default(stored):
    data = stored.read_bytes()
    listed = (entry(stored, data), entry(stored, data, tag="wide", preprocessing=Affine(1.0, 2.0)))
    spec = Denoiser(name="net", build=small, preprocessing=Affine(0.0, 1.0), weights=listed)
    loaded = load_denoiser(spec)
    assert loaded.weights_tag == "bundled"
    assert all(
        torch.equal(tensor, trained_state()[name]) for name, tensor in loaded.network.state_dict().items()
    )
    wide = load_denoiser(spec, "wide")
    assert wide.preprocessing == Affine(1.0, 2.0)
    assert wide.sha256 != loaded.sha256
    assert load_denoiser(spec, untrained_seed=3).weights_tag == "untrained-3"
    with pytest.raises(UnknownNameError, match="no weights 'narrow'; there are: bundled, wide"):
        load_denoiser(spec, "narrow")


def test_half_precision_weights_become_full_precision(tmp_path):
    data = save({name: tensor.half() for name, tensor in trained_state().items()})
    (tmp_path / "half.safetensors").write_bytes(data)
    spec = Denoiser(
        name="net",
        build=small,
        preprocessing=Affine(0.0, 1.0),
        weights=(entry(tmp_path / "half.safetensors", data),),
    )
    assert {tensor.dtype for tensor in load_denoiser(spec).network.state_dict().values()} == {torch.float32}


def test_a_package_gives_its_file(tmp_path, monkeypatch):
    package = tmp_path / "net_of_a_stranger"
    (package / "weights").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    data = save(trained_state())
    (package / "weights" / "net.safetensors").write_bytes(data)
    monkeypatch.syspath_prepend(tmp_path)
    state = read_weights(entry("package:net_of_a_stranger/weights/net.safetensors", data))
    assert state.keys() == trained_state().keys()
    for source in (
        "package:net_of_a_stranger/weights/other.safetensors",
        "package:net_of_nobody/net.safetensors",
        "package:net_of_a_stranger/../secret.safetensors",
        "package:net_of_a_stranger",
        "package:",
    ):
        with pytest.raises(ArtifactError, match="bundled"):
            read_weights(entry(source, data))
    sys.modules.pop("net_of_a_stranger", None)


def test_every_flipped_byte_is_refused(stored):
    good = stored.read_bytes()
    described = entry(stored, good)
    for position in range(0, len(good), 37):
        stored.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(ArtifactError, match="not the expected file"):
            read_weights(described)
    stored.unlink()
    with pytest.raises(ArtifactError, match="cannot read"):
        read_weights(described)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        pickle.dumps({"0.weight": [1.0]}),
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 90_000_000) + b"{",
        b"\x02\x00\x00\x00\x00\x00\x00\x00[]",
        save({"a": torch.zeros(3)})[:-4],
    ],
)
def test_what_is_not_safetensors_is_refused_though_its_hash_is_right(tmp_path, data):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="not a safetensors file"):
        read_weights(entry(path, data))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: s.pop("2.bias"), r"it lacks 2\.bias"),
        (lambda s: s.update(extra=torch.zeros(1)), "the network does not, extra"),
        (lambda s: s.update({"0.bias": torch.zeros(5)}), r"0\.bias \(5,\) instead of \(4,\)"),
        (lambda s: s["0.weight"].view(-1)[3:4].fill_(float("inf")), r"not finite in 0\.weight"),
    ],
)
def test_weights_that_do_not_fit_are_named_and_change_nothing(change, text):
    network = small()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = trained_state()
    change(state)
    with pytest.raises(DenoiserError, match=text):
        load_into(network, state, owner="net.bundled")
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


class Server:
    """A local server behind an opener that takes https addresses; what it answers is one function."""

    def __init__(self, answer):
        self.requests = 0
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.requests += 1
                answer(self)

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.address = f"127.0.0.1:{self.http.server_port}"

    def opener(self):
        class Https(urllib.request.HTTPSHandler):
            def https_open(self, request):
                return self.do_open(http.client.HTTPConnection, request)

        return urllib.request.build_opener(module._HttpsRedirects, Https, urllib.request.ProxyHandler({}))


@pytest.fixture
def serve(monkeypatch):
    servers = []

    def start(answer):
        server = Server(answer)
        servers.append(server)
        monkeypatch.setattr(module, "_opener", server.opener)
        return server

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


def respond(handler, body, length=None):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_download_is_checked_kept_and_not_repeated(serve, tmp_path):
    data = save(trained_state())
    server = serve(lambda handler: respond(handler, data))
    described = entry(f"https://{server.address}/net.safetensors", data)
    assert read_weights(described, cache=tmp_path).keys() == trained_state().keys()
    assert [path.name for path in files_in(tmp_path)] == [f"{described.sha256}.safetensors"]
    read_weights(described, cache=tmp_path)
    assert server.requests == 1
    files_in(tmp_path)[0].write_bytes(data[:-1] + b"\x00\x00")
    assert read_weights(described, cache=tmp_path).keys() == trained_state().keys()
    assert server.requests == 2


def drip(handler):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(50):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.02)


def redirect_to_http(handler):
    handler.send_response(302)
    handler.send_header("Location", "http://127.0.0.1:1/net.safetensors")
    handler.end_headers()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda handler: respond(handler, b"something else"), "not the expected file"),
        (
            lambda handler: respond(handler, b"only half", length=100),
            "cut off after 9 of 100 bytes|cannot download",
        ),
        (lambda handler: handler.send_error(404), "Not Found"),
        (lambda handler: time.sleep(1.0), "timed out"),
        (drip, "timed out"),
        (redirect_to_http, "https only"),
    ],
)
def test_a_failed_download_is_one_typed_error_and_leaves_nothing(serve, tmp_path, answer, text):
    server = serve(answer)
    described = entry(f"https://{server.address}/net.safetensors", b"the promised bytes")
    with pytest.raises(ArtifactError, match=text):
        read_weights(described, cache=tmp_path, timeout=0.3, deadline=0.2)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    "source", ["http://example.org/w.safetensors", "ftp://example.org/w", "file:///etc/passwd"]
)
def test_only_https_is_downloaded(source, tmp_path):
    with pytest.raises(ArtifactError, match="https only"):
        read_weights(entry(source, b"bytes"), cache=tmp_path)


def test_a_cache_that_cannot_be_written_is_a_resource_error(serve, tmp_path):
    data = save(trained_state())
    server = serve(lambda handler: respond(handler, data))
    (tmp_path / "weights").write_text("a file where the folder should be")
    with pytest.raises(ResourceError, match="cannot write"):
        read_weights(entry(f"https://{server.address}/net", data), cache=tmp_path)


def test_the_cache_folder_is_named_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("INVKIT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("INVKIT_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "invkit"
