"""What a layer's result says of the calibration of the flow behind it."""

__all__ = ["with_calibration"]

import dataclasses

from invkit.analysis.outcome import LayerResult
from invkit.calibration.record import CalibrationRecord
from invkit.sampling.base import SampleModel


def with_calibration(result: LayerResult, model: SampleModel) -> LayerResult:
    """Return a layer's result with the calibration that its file keeps, and what is to be said of it.

    Args:
        result: of the layer.
        model: what its samples were drawn from.
    """
    record = CalibrationRecord.read(getattr(model, "held_out", {}), model.meta)
    control = model.split.layer in ("input", "const")
    name = f"`{result.layer}`" if control else f"layer {result.layer} of {model.split.denoiser.name}"
    verdict = result.verdict
    if record is None:
        sentence = f"The calibration of the flow for {name} was not measured when it was trained."
    else:
        sentence = record.sentence(name)
    warned = record is not None and record.matters
    return dataclasses.replace(
        result,
        figures={**result.figures, "calibration": record},
        verdict=dataclasses.replace(
            verdict,
            sentences=verdict.sentences if warned else (*verdict.sentences, sentence),
            warnings=(*verdict.warnings, sentence) if warned else verdict.warnings,
        ),
        calibration=record,
    )
