"""From a folder of CT as it comes to a cache of paired slices."""
