"""The regressor g from an activation to the image, by closed form and descent."""
