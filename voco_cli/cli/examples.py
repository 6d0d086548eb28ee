"""Examples below the help of each command, by its full name; a test gives every one of them to the parser."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "": (
        "voco demo",
        "voco index scans/ -o data.json",
        "voco preview-labels scans/one.nii.gz",
        "voco pretrain data.json",
        "voco finetune --task btcv --data /data/BTCV --weights runs/pretrain",
    ),
    "index": (
        "voco index scans/ -o data.json",
        "voco index scans/ --check full --patient-pattern '/(P[0-9]+)_'",
        "voco index scans/ --label-pattern '../masks/{stem}_mask.nii.gz'",
    ),
    "preview-labels": (
        "voco preview-labels scans/one.nii.gz",
        "voco preview-labels scans/one.nii.gz --grid 3x3 --crops 6 -o grid.pdf",
    ),
    "preview-case": (
        "voco preview-case scan.nii.gz label.nii.gz --classes liver=1,spleen=2",
        "voco preview-case data.json --case case_7 --require-fit",
    ),
    "cache": ("voco cache build data.json",),
    "cache build": (
        "voco cache build data.json --dry-run",
        "voco cache build data.json --recipe tpami --dir /fast/cache",
    ),
    "cache verify": (
        "voco cache verify data.json",
        "voco cache verify data.json --repair",
    ),
    "cache stats": ("voco cache stats data.json",),
    "cache prune": (
        "voco cache prune data.json",
        "voco cache prune data.json --yes",
    ),
    "pretrain": (
        "voco pretrain data.json --recipe debug",
        "voco pretrain data.json --run-dir runs/first --set train.batch_size=4",
    ),
    "locate": (
        "voco locate runs/pretrain scans/one.nii.gz",
        "voco locate runs/pretrain scans/one.nii.gz --against scans/two.nii.gz",
    ),
    "embed": (
        "voco embed runs/pretrain scans/ -o embeddings.npz",
        "voco embed runs/pretrain data.json -o embeddings.parquet --crops 32",
    ),
    "plan": ("voco plan data.json --recipe tpami",),
    "plan pretrain": (
        "voco plan data.json --recipe tpami",
        "voco plan data.json --set train.batch_size=8 --seconds 30",
    ),
    "plan finetune": ("voco plan finetune --task btcv --data /data/BTCV --weights runs/pretrain",),
    "plan predict": ("voco plan predict runs/finetune new_scans/ -o predictions",),
    "doctor": (
        "voco doctor",
        "voco doctor --data data.json",
    ),
    "tasks": ("voco tasks list",),
    "tasks list": ("voco tasks list",),
    "tasks show": ("voco tasks show btcv",),
    "tasks check": (
        "voco tasks check /data/BTCV --task btcv",
        "voco tasks check --task my_task.yaml --labels",
    ),
    "tasks new": (
        "voco tasks new data.json -o my_task.yaml",
        "voco tasks new categories.csv --images scans/",
    ),
    "finetune": (
        "voco finetune --task btcv --data /data/BTCV --weights runs/pretrain",
        "voco finetune --task my_task.yaml --cases 10 -o runs/scratch",
    ),
    "predict": (
        "voco predict runs/finetune new_scans/ -o predictions",
        "voco predict runs/finetune data.json -o predictions --flips",
    ),
    "evaluate": (
        "voco evaluate runs/finetune",
        "voco evaluate --predictions predictions/ --labels labels/ --tolerance-mm 1",
    ),
    "compare": (
        "voco compare runs/scratch runs/finetune",
        "voco compare evaluation_a evaluation_b --metric nsd -o a_or_b",
    ),
    "study": ("voco study --task my_task.yaml --weights runs/pretrain --cases 5,10",),
    "report": (
        "voco report runs/pretrain",
        "voco report runs/scratch runs/finetune runs/study -o all.html",
    ),
    "demo": (
        "voco demo",
        "voco demo --out try",
    ),
    "bench": (
        "voco bench",
        "voco bench --data data.json --recipe tpami --minutes 10",
    ),
    "config": ("voco config show --recipe tpami",),
    "config show": (
        "voco config show --recipe tpami",
        "voco config show --config voco.yaml --set train.steps=1000",
    ),
    "config schema": ("voco config schema",),
    "config init": (
        "voco config init -o voco.yaml --recipe debug",
        "voco config init -o btcv.yaml --task btcv",
    ),
    "weights": ("voco weights inspect runs/pretrain",),
    "weights inspect": ("voco weights inspect runs/pretrain",),
    "weights export": ("voco weights export runs/pretrain -o encoder.pt --format monai",),
}
