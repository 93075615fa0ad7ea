"""A program that reads and writes DICOM, as a denoiser."""

import shlex
import sys

import pytest
import torch

import invkit
from invkit.errors import DenoiserError, UsageError

HALVES = """
import sys, pydicom
data = pydicom.dcmread(sys.argv[1])
pixels = data.pixel_array * data.RescaleSlope + data.RescaleIntercept
data.PixelData = ((pixels / 2 - data.RescaleIntercept) / data.RescaleSlope).round().astype(data.pixel_array.dtype).tobytes()
data.save_as(sys.argv[2])
"""


def command(tmp_path, text):
    (tmp_path / "halves.py").write_text(text)
    return f"program:{shlex.quote(sys.executable)} {tmp_path}/halves.py {{input}} {{output}}"


def test_a_program_is_run_for_each_image(tmp_path):
    f = invkit.load(command(tmp_path, HALVES))
    x = 100 * torch.randn(2, 1, 40, 48, generator=torch.Generator().manual_seed(3))
    assert (f(x) - x / 2).abs().max() < 1
    assert not f.network.differentiable


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise SystemExit('out of luck')", "ended with 1 and no output file; it said: out of luck"),
        ("pass", "ended with 0 and no output file; it said: nothing"),
        ("import sys; open(sys.argv[2], 'w').write('x')", "cannot be read"),
    ],
)
def test_what_goes_wrong_in_a_program_is_told(tmp_path, text, said):
    with pytest.raises(DenoiserError, match=said):
        invkit.load(command(tmp_path, text))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("program:no-such-program {input} {output}", "there is no program 'no-such-program'"),
        (f"program:{sys.executable} {{input}}", "must name {input} and {output}"),
    ],
)
def test_command_lines_that_cannot_be_run(line, said):
    with pytest.raises(UsageError, match=said):
        invkit.load(line)
