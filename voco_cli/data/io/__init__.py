"""Files in, arrays out: NIfTI, NRRD, MetaImage, DICOM, plain arrays."""
