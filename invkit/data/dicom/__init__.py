"""CT files: read, checked, grouped into series, written."""
