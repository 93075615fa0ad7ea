"""The weights that ship with this plugin, by the size of the last kernel."""

__all__ = ["WEIGHTS"]

import invkit

WEIGHTS: dict[int, tuple[invkit.Weights, ...]] = {
    5: (
        invkit.Weights(
            tag="bundled",
            source="package:invkit_chen2017/trained/chen2017.safetensors",
            sha256="4e48b200de54735ec907f858938f764f8660bdd0f46d7998011134613b37f2f6",
            trained_on="240 built-in phantoms (seed 0) + 16 CT slices of 8 patients, noise simulated on the rays of a scanner; the CT slices are from COVID-19-NY-SBU, TCIA, doi 10.7937/TCIA.BBAG-2923, CC BY 4.0",
            license="Apache-2.0",
        ),
    ),
    3: (
        invkit.Weights(
            tag="bundled",
            source="package:invkit_chen2017/trained/chen2017-k3.safetensors",
            sha256="4d67e4530a222f6e1a2360bd4afcdb55e0d7a7266210fcb09fdf326180f409ac",
            trained_on="240 built-in phantoms (seed 0) + 16 CT slices of 8 patients, noise simulated on the rays of a scanner; the CT slices are from COVID-19-NY-SBU, TCIA, doi 10.7937/TCIA.BBAG-2923, CC BY 4.0",
            license="Apache-2.0",
        ),
    ),
}
