"""How good predictions are, whether others are better, and whether label maps lie right.

`metric` is the seam, `comparison` the one engine, `statistics` the intervals and tests under it. `segmentation` and
`classification` hold the metrics of each kind with their tables and files; `result_files` and `read_results` what both
have in common. `label_check` and `sides` look at one case before any training.

Pure are `metric`, `comparison`, `statistics`, `tables` and the modules `metrics`, `table` and `compare` of both kinds:
arrays in, arrays out. The others touch files or scans.
"""
