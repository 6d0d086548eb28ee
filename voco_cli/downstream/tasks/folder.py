"""Where the files of a case lie in a folder, by the layouts of a task."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from voco_cli.dataset.patient import patients_of, stem_of
from voco_cli.errors import UsageError
from voco_cli.settings import Settings
from voco_cli.settings.task import Layout, Task

FIELD = "{case}"
DEFAULT_ROOT = Path("data")


@dataclass(frozen=True)
class Located:
    """A case and its files.

    Attributes:
        case: what stands for ``{case}`` in the layout.
        name: what the case is called: with the letters before ``{case}``, where a file is named ``img0035``.
        images: one a channel.
        label: label map; none where the layout has none, or it is not there.
        layout: by which it was found.
    """

    case: str
    name: str
    images: tuple[Path, ...]
    label: Path | None
    layout: Layout


def candidate_folders(settings: Settings) -> tuple[Path, ...]:
    """Folders that may hold the data: ``data.root`` (or ./data) and the task's folders below it, those that exist.

    Raises:
        UsageError: ``data.root`` is given and is no folder, or a folder of the task does not lie below it.
    """
    task, root = settings.task, settings.data.root
    if root is not None and not root.is_dir():
        raise UsageError(f"{root} is not a folder.", "give the folder of the data with --data, VOCO_DATA or data.root")
    outside = next((name for name in task.folders if Path(name).is_absolute() or ".." in Path(name).parts), None)
    if outside is not None:
        raise UsageError(f"task.folders has {outside}, which leaves the data folder.", "name folders below data.root")
    base = root or DEFAULT_ROOT
    return tuple(folder.absolute() for folder in (base, *(base / name for name in task.folders)) if folder.is_dir())


def locate(folder: Path, task: Task, case: str, needs_label: bool) -> Located | str:
    """The files of a case by the first layout that fits, or else the file that is missing.

    Where several layouts fit in part, the one that fits best says what is missing.
    """
    best = (-1, f"no layout has a label map of {case}")
    for layout in task.layouts:
        if needs_label and layout.label is None:
            continue
        images = tuple(_file(folder, pattern, case) for pattern in layout.image)
        label = _file(folder, layout.label, case) if layout.label is not None else None
        wanted = [*images, *([label] if label is not None and needs_label else [])]
        missing = [path for path in wanted if not path.exists()]  # an image may be a folder of slices
        if not missing:
            kept = label if label is not None and label.exists() else None
            return Located(case, case_name(layout, case), images, kept, layout)
        if len(wanted) - len(missing) > best[0]:
            best = (len(wanted) - len(missing), str(missing[0].relative_to(folder)))
    return best[1]


def case_name(layout: Layout, case: str) -> str:
    """``img0035`` for case 0035 of ``imagesTr/img{case}.nii.gz``: a number alone says little."""
    part = next(part for part in layout.image[0].split("/") if FIELD in part)
    return part.partition(FIELD)[0] + case


def find_cases(folder: Path, task: Task, needs_label: bool) -> tuple[dict[str, Located], tuple[str, ...]]:
    """All cases of a folder by the layouts of the task, an image belonging to the first layout that fits it.

    Returns:
        the cases by ``{case}``, sorted; and the images that fit a layout but for their label map.
    """
    found: dict[str, Located] = {}
    images: set[Path] = set()
    unlabelled: set[Path] = set()
    for layout in task.layouts:
        for case, first in _matching(folder, layout.image[0]):
            one = locate(folder, task.model_copy(update={"layouts": (layout,)}), case, needs_label)
            if isinstance(one, Located) and first not in images and case not in found:
                found[case] = one
                images.update(one.images)
            else:
                unlabelled.add(first)
    left = unlabelled - images - {one.label for one in found.values()}
    return dict(sorted(found.items())), tuple(sorted(str(path.relative_to(folder)) for path in left))


def patients_of_cases(cases: Iterable[Located]) -> dict[str, str]:
    """Patient by case: what the files' names or folders say (see `patients_of`), else the case itself."""
    listed = list(cases)
    known = patients_of(one.images[0] for one in listed)
    patients = {one.case: known[one.images[0]] for one in listed}
    return {
        one.case: one.name if patients[one.case] == stem_of(one.images[0]) else patients[one.case] for one in listed
    }


def layout_words(task: Task, shown: int = 3) -> str:
    """How a folder should look, for people."""
    parts = []
    for layout in task.layouts[:shown]:
        images = ", ".join(layout.image)
        parts.append(images + (f" with {layout.label}" if layout.label else ""))
    return "; or ".join(parts)


def _file(folder: Path, pattern: str, case: str) -> Path:
    return folder / pattern.replace(FIELD, case)


def _matching(folder: Path, pattern: str) -> Iterator[tuple[str, Path]]:
    """Cases whose file of this pattern is there; hidden files (``._x``) are none."""
    wild = "*".join(glob.escape(part) for part in pattern.split(FIELD))
    first, *others = pattern.split(FIELD)
    exact = re.compile(re.escape(first) + "(?P<case>[^/]+)" + "(?P=case)".join(map(re.escape, others)))
    for path in sorted(folder.glob(wild)):
        place = path.relative_to(folder)
        match = exact.fullmatch(place.as_posix())
        if match and not any(part.startswith(".") for part in place.parts):
            yield match["case"], path


def most_cases(folders: Sequence[Path], task: Task, cases: Iterable[str] | None) -> tuple[Path, int] | None:
    """The folder in which most cases are found, and how many; none where there is no folder.

    Args:
        cases: those of a split; none counts all that fit a layout.
    """
    wanted = None if cases is None else list(cases)
    needs_label = task.kind == "segmentation"

    def count(folder: Path) -> int:
        if wanted is None:
            return len(find_cases(folder, task, needs_label)[0])
        return sum(isinstance(locate(folder, task, case, False), Located) for case in wanted)

    return max(((folder, count(folder)) for folder in folders), key=lambda pair: pair[1], default=None)
