"""An analysis as a report: the figures and images that a person looks at."""

__all__ = ["plugin_figures", "report_data", "write_html"]

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.nn.functional import avg_pool2d

from invkit.analysis.outcome import LayerResult, Outcome
from invkit.artifacts import write_atomic
from invkit.errors import InvkitError
from invkit.images.window import WINDOWS, Window
from invkit.measures.structures.shown import ChangedImage
from invkit.measures.table import Figure
from invkit.plugins.manager import PluginHost, default_host
from invkit.report.data import Change, LayerFigures, ReportData, Section
from invkit.report.html import render_html
from invkit.statistics.tree import expanded

SHOWN = 8


def report_data(
    result: Outcome,
    *,
    image: int = 0,
    command: str = "",
    created: str = "",
    host: PluginHost | None = None,
) -> ReportData:
    """Return what a report on one of the analysed images shows.

    Args:
        result: the analysis.
        image: which of its images.
        command: a command line that makes it again.
        created: when it was made, for people.
        host: the plugins, which can add sections.
    """
    provenance = result.provenance
    denoiser = provenance["denoiser"]
    vae, trained = provenance.get("vae"), {layer.layer: layer.sha256 for layer in result.layers}
    return ReportData(
        model=result.model,
        layers=tuple(_layer(result, layer, image) for layer in result.layers),
        image=result.subject.description,
        samples=provenance["samples"],
        model_description=f"{denoiser['description']}; weights {denoiser['weights']}",
        domain=result.domain,
        answer=result.answer,
        verdict=tuple(sentence for layer in result.layers for sentence in layer.verdict.sentences),
        said_of_samples=tuple(sentence for layer in result.layers for sentence in layer.verdict.samples),
        sampler=result.sampler,
        warnings=result.all_warnings,
        provenance=(
            f"Denoiser {denoiser['name']} was trained on {denoiser['trained_on']}.",
            *_parts(result),
        ),
        sections=tuple(_sections(result, host or default_host())),
        config={name: provenance[name] for name in ("seed", "samples", "domain", "config")},
        versions={name: provenance[name] for name in ("invkit", "torch")},
        hashes={
            "image": provenance["image_sha256"],
            "denoiser": denoiser["sha256"],
            **({} if vae is None else {"vae": vae["sha256"]}),
            **{f"cinn, layer {name}": sha256 for name, sha256 in trained.items() if sha256},
        },
        command=command,
        created=created,
        window=_window(result.x[image]),
        retained=result.retained,
        regression=result.regression,
        others=plugin_figures(host),
    )


def plugin_figures(host: PluginHost | None = None) -> tuple[Figure, ...]:
    """Return what is known of the figures of plugins' metrics."""
    return tuple(
        Figure(metric.name, metric.name, metric.unit, metric.description)
        for metric in (host or default_host()).metrics().values()
    )


def write_html(result: Outcome, path: Path) -> Path:
    """Write the report as one HTML file; return its path.

    Raises:
        ResourceError: it cannot be written.
    """
    write_atomic(path, render_html(report_data(result)).encode())
    return path


def _parts(result: Outcome) -> list[str]:
    """Say what the parts that draw the samples were trained on."""
    data = result.provenance["data"]
    if "target_vae" not in result.provenance:
        proposals = result.layers[0].provenance["proposals"]
        said = f"The samples are {proposals}: nothing was trained for them. The layer's scale was measured on {data}."
        vae = result.provenance.get("vae")
        if vae is None:
            return [said]
        return [said, f"The VAE and critic that judge the image were trained on {vae['trained_on']}."]
    return [
        f"The VAE was trained on {result.provenance['vae']['trained_on']}. {_inside(result)}",
        f"The models of the layer and of its controls were trained on {data}.",
    ]


def _inside(result: Outcome) -> str:
    """Say whether the image lies in the distribution that the VAE was trained on; a warning says it louder."""
    error, limit = (result.metrics[name] for name in ("vae_rmse_hu", "vae_limit_hu"))
    place = "within" if error <= limit else "outside"
    return (
        f"The image lies {place} its training distribution: its reconstruction error is {error:.0f} HU, and that of 99 % of "
        f"held-out patches is at most {limit:.0f} HU."
    )


def _layer(result: Outcome, layer: LayerResult, image: int) -> LayerFigures:
    draws = layer.draws[image]
    count = len(draws.samples)
    shown = draws.samples[np.linspace(0, count - 1, min(SHOWN, count)).astype(int)]
    y = result.subject.y
    kept = result.vae if layer.kept is None else layer.kept
    proven = layer.certified[image] if layer.certified else None
    certified = draws.samples[:0] if proven is None else proven.samples
    region = result.subject.region

    def pixels(images: Tensor) -> np.ndarray:
        """Return `(1, H, W)` as `(H, W)`, and `(n, 1, H, W)` as `(n, H, W)`, cut to the region."""
        images = images.detach().cpu().squeeze(-3)
        cut: np.ndarray = (images if region is None else region.crop(images)).numpy()
        return cut

    return LayerFigures(
        key=layer.layer,
        note=layer.note,
        conclusion=None if layer.conclusion is None else layer.conclusion.to_json(),
        x=pixels(result.x[image]),
        mean=pixels(draws.mean),
        std=pixels(draws.std),
        samples=pixels(shown),
        reconstruction=None if kept is None else pixels(kept[image]),
        output=pixels(result.f_x[image]),
        output_std=pixels(draws.f_std),
        swaps=None if layer.swap is None else pixels(layer.swap[image])[None],
        reference=pixels(y[image]) if y is not None and result.domain == "high" else None,
        certified=pixels(certified[:SHOWN]) if len(certified) else None,
        certified_mean=pixels(certified.mean(0)) if proven is not None and proven.enough else None,
        certified_std=pixels(certified.std(0)) if proven is not None and proven.enough else None,
        interior=None if proven is None or region is not None else proven.interior,
        refined=(len(certified), 0 if proven is None else len(proven.images)),
        metrics=expanded(layer.figures),
        calibration=layer.calibration,
        certificates=() if proven is None else proven.rows(image),
        changes=[_change(one) for one in layer.changes] if image == 0 else (),
    )


def _change(change: ChangedImage) -> Change:
    images = {name: image.detach().cpu().numpy()[0, 0] for name, image in change.images().items()}
    return Change(group=change.name.removesuffix("_companion"), text=change.text, **images)


def _window(x: Tensor) -> Window:
    """Return the lung window where there is a third as much lung as soft tissue, else the soft-tissue window.

    The air around the body does not count: it is told from lung by means over a few pixels, because of its noise.
    """
    means = avg_pool2d(x.float()[None], max(2, min(x.shape[-2:]) // 64))
    lung = ((means > -920) & (means < -600)).sum()
    tissue = ((means > -200) & (means < 200)).sum()
    return WINDOWS["chest"] if 3 * int(lung) > int(tissue) else WINDOWS["abdomen"]


def _sections(result: Outcome, host: PluginHost) -> Sequence[Section]:
    sections = []
    for section in host.sections().values():
        title = section.title or section.name
        try:
            text = section.render(result)
        except InvkitError as error:
            text = f"This section could not be produced: {error}"
        except Exception as error:
            # A plugin's own fault must not cost the user the report; its message may quote anything, so it is left out.
            text = f"This section could not be produced: its plugin raised {type(error).__name__}."
        if not isinstance(text, str):
            text = "\n".join(Path(path).name for path in text)
        sections.append(Section(title, text))
    return sections
