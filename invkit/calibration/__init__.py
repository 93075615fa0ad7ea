"""Is a flow calibrated? Ranks, coverage, a classifier, and the record that a layer keeps."""
