"""An index of files that a test wrote, and what it lists and refuses."""

from pathlib import Path

import numpy as np

from tests.data.io.make_files import numbers
from voco_cli.data.index.build import IndexOptions, build_index
from voco_cli.data.index.datalist import Datalist

OPTIONS = IndexOptions(workers=1)
LABEL = (numbers() % 3 == 0).astype(np.uint8)


def index(*inputs: Path, options: IndexOptions = OPTIONS, output: Path | None = None) -> Datalist:
    return build_index(list(inputs), output or inputs[0].parent / "out.json", options)


def listed(datalist: Datalist, root: Path) -> list[str]:
    return sorted(str(entry.image.relative_to(root)) for _, entry in datalist.entries())


def reasons(datalist: Datalist) -> dict[str, str]:
    return {one.path.name: one.reason for one in datalist.skipped}
