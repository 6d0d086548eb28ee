"""How good predictions are, whether others are better, and whether label maps lie right.

What touches files or scans: `result_files`, `read_results`, the `results` of both kinds of tasks, and of segmentations
`case_files`, `classes`, `evaluate`; of label maps `patient_case`, `label_check`. All else is pure.
"""
