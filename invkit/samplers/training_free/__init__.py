"""Draws of the posterior of an image given a layer's activation: nothing is trained."""
