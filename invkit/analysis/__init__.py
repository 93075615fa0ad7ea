"""From a denoiser, a layer and an image to a result, its report and its folder."""
