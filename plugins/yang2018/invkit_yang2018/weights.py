"""The weights that ship with this plugin."""

__all__ = ["WEIGHTS"]

import invkit

WEIGHTS: tuple[invkit.Weights, ...] = (
    invkit.Weights(
        tag="bundled",
        source="package:invkit_yang2018/trained/yang2018.safetensors",
        sha256="e9be5ae1892c9c4f1e314a21d1f848b55eec5b4436da38c5774568ce746072e4",
        trained_on="240 built-in phantoms (seed 0) + 16 CT slices of 8 patients; the CT slices are from COVID-19-NY-SBU, TCIA, doi 10.7937/TCIA.BBAG-2923, CC BY 4.0",
        license="Apache-2.0",
    ),
)
