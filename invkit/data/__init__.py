"""CT images in HU, and what they are made of: files, phantoms, doses, patches, and the split of patients."""
