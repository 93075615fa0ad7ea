"""The outcome of an analysis, which can be saved and shown."""

__all__ = ["AnalysisResult"]

from dataclasses import dataclass
from pathlib import Path

from invkit.analysis.outcome import Outcome
from invkit.analysis.presentation import write_html
from invkit.analysis.runs import save_run


@dataclass(frozen=True)
class AnalysisResult(Outcome):
    """The result of `invkit.analyze`: one or more layers of one denoiser on the same images.

    The images and figures of the first layer are available directly.

    Args:
        model: name of the denoiser.
        subject: the images.
        domain: `"low"` or `"high"`.
        layers: one result for each requested layer.
        f_x: f(x), `(B, 1, H, W)`, HU.
        vae: D(E(x)), `(B, 1, H, W)`, HU; `None` where no VAE was needed.
        provenance: what determined the result: seeds, versions, hashes.
        warnings: sentences that the reader should see first.
        retained: what each layer retains of the code, from the image to the output.
        regression: how well the image is estimated from each layer, in the same order.
        sampler: name of the sampler.
    """

    def save(self, folder: str | Path) -> Path:
        """Write samples, report and manifest to a folder that does not exist yet or is empty; return it.

        Raises:
            UsageError: the folder holds files.
            ResourceError: it cannot be written.
        """
        return save_run(self, Path(folder)).folder

    def report(self, path: str | Path) -> Path:
        """Write the HTML report, one file that holds its figures; return its path."""
        return write_html(self, Path(path))
