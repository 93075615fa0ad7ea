"""The weights that ship with this plugin."""

__all__ = ["WEIGHTS"]

import invkit

WEIGHTS: tuple[invkit.Weights, ...] = (
    invkit.Weights(
        tag="bundled",
        source="package:invkit_yang2018/trained/yang2018.safetensors",
        sha256="9ee6bffea0f7d9dab840569901eb578dce1d34047198b0364666980e3f66f62d",
        trained_on="240 built-in phantoms (seed 0) + 16 CT slices of 8 patients, noise simulated on the rays of a scanner; the CT slices are from COVID-19-NY-SBU, TCIA, doi 10.7937/TCIA.BBAG-2923, CC BY 4.0",
        license="Apache-2.0",
    ),
)
