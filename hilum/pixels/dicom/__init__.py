"""A DICOM chest X-ray as one grey picture: what is read (`read`), what its header says (`header`), and each step in a file of its own."""
