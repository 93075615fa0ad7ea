"""The figures of a report, with their captions and alternative texts, each in a light and a dark look."""

__all__ = ["Plate", "plates"]

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from invkit.report.calibration import calibration_figure
from invkit.report.curve import curve_figure
from invkit.report.data import ReportData
from invkit.report.depth import depth_figure
from invkit.report.output import output_figure
from invkit.report.plots import references_figure, spectrum_figure
from invkit.report.rows import certified_figure, changes_figure, checks_figure, samples_figure
from invkit.report.table import figure as metric
from invkit.report.theme import DARK, LIGHT, Theme, recoloured, render


@dataclass(frozen=True)
class Plate:
    """One figure as files: PNG and SVG, a dark SVG for the page; width and height in CSS pixels."""

    name: str
    caption: str
    alt: str
    png: bytes
    svg: bytes
    dark: bytes
    width: int
    height: int


def plates(data: ReportData) -> list[Plate]:
    """Return all figures that the data suffice for, in the order in which they are to be read."""
    title, layers = data.title, data.layers
    calibrated = [(layer.key, layer.calibration) for layer in layers if layer.calibration is not None]
    missing = ", ".join(layer.key for layer in layers if layer.calibration is None)
    unmeasured = f"Not measured: {missing}." if missing else ""
    what = "high-dose images that match z" if data.domain == "high" else "images"
    builders: list[tuple[str, Callable[[Theme], Figure | None], str, str]] = [
        (
            "certified",
            lambda theme: certified_figure(f"{title}: certified images", layers, data.window, theme),
            "Images that the layer provably cannot tell from x at the tolerance, drawn as the noise of x makes them likely. The "
            "frame that padding reaches, or what stays as it is around a window, is hatched and counts for nothing. "
            f"{_certified(data)}",
            f"Images: x, certified images, their mean and map of their standard deviation. {_certified(data)}",
        ),
        (
            "curve",
            lambda theme: curve_figure(f"{title}: what hides over tolerance", layers, theme),
            "Noise of the image's dose and discs that hide from the layer at every tolerance. Dots are what hides from the image "
            "itself, which the tolerance alone explains: only what lies above them is the layer's. The bold mark is that of all "
            "other figures.",
            "Plots of hidden noise and of hidden discs over the tolerance; the values are in the JSON output.",
        ),
        (
            "hidden",
            lambda theme: changes_figure(
                f"{title}: the disc that hides most", layers, "hidden", data.window, theme
            ),
            "Of the discs, the one that hides most, compared with what hides from the image itself: the strongest that the layer "
            "does not see by itself, and the strongest with noise of at most two standard deviations, which nearly cancels it. "
            "Both images are certified.",
            "Images: x, x with a hidden disc, their difference, the disc, and f of both.",
        ),
        (
            "structure",
            lambda theme: changes_figure(
                f"{title}: is the marked structure real?", layers, "structure", data.window, theme
            ),
            "The image in which the marked structure is weakest, among those that the layer does not tell from x: by itself, and "
            "with noise of at most two standard deviations in its place. Both images are certified.",
            "Images: x, x with less of the marked structure, their difference, what was taken away, and f of both.",
        ),
        (
            "output",
            lambda theme: output_figure(f"{data.model}: at the output", layers[0].metrics, theme),
            "What f does to noise, to the edge of a disc of low and of high contrast, and to what a trained observer detects of "
            "discs of four sizes, each at a contrast at which d' of the image is 2. It does not depend on the layer. Bars are 95 % "
            "intervals.",
            "Plots of noise power, task transfer and detectability at the output; the values are in the JSON output.",
        ),
        (
            "samples",
            lambda theme: samples_figure(title, layers, data.window, theme),
            f"The analysed image x, some of {data.samples} {what} that the model draws for the layer's "
            "activation z of x, and their mean and standard deviation per pixel.",
            f"Images: x, samples, mean and map of the standard deviation. {_spreads(data)}",
        ),
        (
            "references",
            lambda theme: references_figure(f"{title}: fiber errors", layers, theme),
            "How far the layer's activation moves when x is replaced. The model's samples must lie well to the "
            "left of another image; what the VAE alone loses limits the method. Bars are 95 % "
            "intervals.",
            "Plot of fiber errors; the values are in the table of figures.",
        ),
        (
            "checks",
            lambda theme: checks_figure(f"{title}: checks", layers, data.window, theme),
            "What the representation keeps of x, what the denoiser makes of it, samples that combine the z of another "
            "image with the v of this one (swaps), and the spread of f over the samples; those of them "
            "that were computed.",
            "Images: x, its reconstruction, f of x, swaps and the standard deviation of f.",
        ),
        (
            "spectrum",
            lambda theme: spectrum_figure(f"{title}: spectra", layers, theme),
            "At which spatial frequencies the samples differ. Where the reconstruction of x falls below "
            "x, the method is blind; differences below the spectrum of x are weaker than the image "
            "itself.",
            "Plot of power over spatial frequency for x, its reconstruction and the differences of samples.",
        ),
        (
            "depth",
            lambda theme: depth_figure(
                f"{data.model}: what its layers retain", data.retained, data.regression, theme
            ),
            "What layers retain of the code, and of the image according to the best regression found. A deeper "
            "layer is computed from a shallower one, so R cannot rise with depth and the error cannot fall. "
            f"{_trust(data)}",
            f"Plots over depth; the values are in the table of figures. {_trust(data)}",
        ),
        (
            "calibration",
            lambda theme: calibration_figure(f"{title}: calibration of the flow", calibrated, theme),
            "Is the true code of a held-out patch indistinguishable from a sample of the flow? Then its ranks among samples are "
            "uniform, their distribution stays within the band (which is that of a typical quantity), and random "
            "regions contain as many truths as they should. A U-shaped histogram means that samples are too narrow, "
            f"a hump that they are too wide. {unmeasured}",
            "Plots of ranks and coverage; the values are in the table of figures.",
        ),
    ]
    return [plate for builder in builders if (plate := _plate(*builder)) is not None]


def _trust(data: ReportData) -> str:
    """Say whether the curves over depth can be believed; why not stands among the warnings."""
    said = []
    for what, curve in (("of retained information", data.retained), ("of the error", data.regression)):
        if curve is None:
            said.append(f"The estimate {what} over depth was not computed.")
        elif curve.trusted is None:
            said.append(f"It is unknown whether the estimate {what} can be trusted.")
        elif curve.trusted:
            said.append(f"The estimate {what} passes this check, and all trainings had converged.")
        else:
            said.append(f"The estimate {what} is not trustworthy; the warnings say why.")
    return " ".join(said)


def _certified(data: ReportData) -> str:
    """Return how many images of each layer are certified, and by how much they differ."""
    said = []
    for layer in data.layers:
        count, refined = layer.refined
        if not refined:
            continue
        spread = metric(layer.metrics, "certified.spread_hu")
        found = f"Layer {layer.key}: {count} of {refined} drawn images are certified"
        said.append(f"{found}." if spread is None else f"{found}, spread {spread.text('HU')}.")
    return " ".join(said)


def _spreads(data: ReportData) -> str:
    found = [(layer.key, metric(layer.metrics, "spread_hu")) for layer in data.layers]
    return " ".join(
        f"Spread for layer {key}: {value.text('HU')}." for key, value in found if value is not None
    )


def _plate(name: str, build: Callable[[Theme], Figure | None], caption: str, alt: str) -> Plate | None:
    made: list[Figure] = []

    def built(theme: Theme) -> Figure:
        figure = build(theme)
        if figure is None:
            raise _Nothing
        made.append(figure)
        return figure

    try:
        png, svg = render(built, LIGHT, ("png", "svg"))
    except _Nothing:
        return None
    width, height = (round(side * 96) for side in made[0].get_size_inches())
    return Plate(name, caption, alt, png, svg, recoloured(svg, LIGHT, DARK), width, height)


class _Nothing(Exception):
    """A figure for which the data do not suffice."""
