"""How good predictions are, whether others are better, and whether label maps lie right.

Pure: `overlap`, `surfels`, `surface`, `empty`, `measures`, `statistics`, `summary`, `comparison`, `tables`; and,
of one case, whether a label map lies right: `label_fit`, `orientation`.
Thin shells that touch files or scans: `case_files`, `classes`, `folder`, `result_folder`, `patient_case`,
`label_check`.
"""
