"""The cache of prepared slices: its files, its split by patient, how it is opened."""
