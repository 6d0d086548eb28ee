"""How good a segmentation is, and whether another is better.

Pure: `overlap`, `surfels`, `surface`, `empty`, `measures`, `statistics`, `summary`, `comparison`, `tables`.
Thin shells that touch files: `case_files`, `classes`, `folder`, `result_folder`.
"""
