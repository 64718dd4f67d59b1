"""Any PNG, JPEG or DICOM file as one grey image, bright is dense."""
