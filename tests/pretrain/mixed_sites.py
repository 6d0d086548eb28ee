"""Generated CTs of three sites: one labels spleen and kidneys by sides, one liver and kidney, one nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voco_cli.data.index.build import IndexOptions, build_index
from voco_cli.data.index.datalist import SplitRule
from voco_cli.data.index.datalist_file import write_datalist
from voco_cli.data.io.reader import write_scan
from voco_cli.data.synthetic.generate import generate_ct, patient_seed

CLASS_MAP = "unions:\n  kidney: [right kidney, left kidney]\n"
SITES = {
    "here": ({"spleen": (1,), "right kidney": (2,), "left kidney": (3,)}, 11),
    "there": ({"liver": (6,), "kidney": (2, 3)}, 12),
    "bare": ({}, 13),
}
"""Names of each site with the generator's labels of each, and the seed of its patients."""


def write_sites(folder: Path, counts: dict[str, int], shape: tuple[int, int, int] = (48, 48, 24)) -> Path:
    """Write scans and label maps site by site, and the index over all; the index is returned."""
    for site, count in counts.items():
        names, seed = SITES[site]
        for number in range(count):
            ct = generate_ct(patient_seed(seed, number), shape)
            image = folder / site / "imagesTr" / f"{site}{number:02d}_0000.nii.gz"
            scan = ct.scan(image)
            write_scan(scan.array_zyx, scan, image)
            if names:
                own: NDArray[np.uint8] = np.zeros_like(ct.labels_xyz)
                for value, labels in enumerate(names.values(), start=1):
                    own[np.isin(ct.labels_xyz, labels)] = value
                write_scan(own.transpose(2, 1, 0), scan, folder / site / "labelsTr" / f"{site}{number:02d}.nii.gz")
        if names:
            labels_json = {"background": 0, **{name: value for value, name in enumerate(names, start=1)}}
            text = json.dumps({"channel_names": {"0": "CT"}, "labels": labels_json})
            (folder / site / "dataset.json").write_text(text)
    (folder / "class_map.yaml").write_text(CLASS_MAP)
    options = IndexOptions(
        modality="CT", class_map=folder / "class_map.yaml", rule=SplitRule(validation=0.25), workers=1
    )
    data = folder / "data.json"
    write_datalist(build_index([folder / site for site in counts], data, options), data)
    return data
