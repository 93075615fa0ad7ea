"""Is a flow calibrated? Ranks, coverage, a classifier (E7, E8), and the record that a layer keeps."""
