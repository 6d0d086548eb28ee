"""Label maps and scans whose names differ by nothing but what says image, label, sequence or modality."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from voco_cli.dataset.identity import Identity, identity_of, is_probability
from voco_cli.dataset.patient import case_of, places_of, stem_of, time_points_of
from voco_cli.scans.header import Header

LONE = "label map without a scan."
Fault = Callable[[Header, Header], str | None]


def pair_alike(
    scans: Mapping[Path, Header], labels: Mapping[Path, Header], grid_fault: Fault
) -> tuple[dict[Path, Path], dict[Path, str]]:
    """Give each scan the one label map that its name allows, on its grid.

    ``img0001`` and ``label0001``, ``volume-3`` and ``segmentation-3``, ``ct`` and ``labels`` of a folder have the same
    name but for what says image or label. ``P7_t1``, ``P7_t2`` and ``P7_seg`` are the sequences of a case with one
    label map. ``P7`` and ``P7_liver_seg`` are a scan with the only map of a structure.

    Args:
        scans: scans without a label map.
        labels: label maps without a scan.
        grid_fault: why a label does not lie on the grid of a scan; none where it does.
    Returns:
        label map by scan; and why each of the others has no scan.
    """
    index = _Index(labels, places_of((*scans, *labels)))
    choices: dict[Path, list[Path]] = {scan: index.choices(scan, scans[scan], grid_fault) for scan in sorted(scans)}
    reasons = dict.fromkeys(labels, LONE)
    scans_of: dict[Path, list[Path]] = defaultdict(list)
    for scan, found in choices.items():
        if len(found) == 1:
            scans_of[found[0]].append(scan)
        for label in found if len(found) > 1 else ():
            reasons[label] = f"label map beside others of {scan}: --label-pattern says which is meant."
    pairs: dict[Path, Path] = {}
    for label, found in scans_of.items():
        if len(found) == 1 or _are_channels(found):
            pairs |= dict.fromkeys(found, label)
            del reasons[label]
        else:
            others = f"{found[0]} or {found[1]}"
            reasons[label] = f"label map that could belong to {others}: --label-pattern says to which."
    return pairs, reasons


class _Index:
    """Label maps by place and words, as a scan asks for them."""

    def __init__(self, labels: Mapping[Path, Header], places: Collection[Path]) -> None:
        self.headers, self.places = labels, places
        self.same: dict[tuple[str, tuple[str, ...]], list[tuple[Path, Identity]]] = defaultdict(list)
        self.longer: dict[tuple[str, tuple[str, ...]], list[tuple[Path, Identity]]] = defaultdict(list)
        for path in labels:
            if is_probability(path):
                continue
            one = identity_of(path)
            self.same[one.place, one.words].append((path, one))
            for count in range(len(one.words)):
                if not count or not any(word.isdigit() for word in one.words[count:]):
                    self.longer[one.place, one.words[:count]].append((path, one))

    def choices(self, scan: Path, header: Header, grid_fault: Fault) -> list[Path]:
        """Label maps of the nearest kind of name that has any: all of them, where it has several."""
        times = time_points_of(scan, self.places)
        if times:  # P7_seg need not belong to P7_t1 where there is a P7_t0
            return [path for one in (identity_of(scan),) for path in self._exact(one)]
        identities = dict.fromkeys((identity_of(scan), identity_of(scan, with_number=False)))
        exact = [found for one in identities for found in self._exact(one)]
        if len(exact) == 1:
            return exact  # also on another grid, which is then said of it
        for found in (exact, *self._further(identities)):
            fitting = [path for path in dict.fromkeys(found) if grid_fault(self.headers[path], header) is None]
            if fitting:
                return fitting
        return []

    def _exact(self, one: Identity) -> Iterator[Path]:
        return (path for path, label in self.same[one.place, one.words] if label.modalities == one.modalities)

    def _further(self, identities: Mapping[Identity, None]) -> Iterator[list[Path]]:
        for table in (self.same, self.longer):
            yield [
                path
                for one in identities
                for path, label in table.get((one.place, one.words), ())
                if label.modalities <= one.modalities
            ]


def _are_channels(scans: Sequence[Path]) -> bool:
    """Whether scans of one name differ by their sequence or modality alone, or by nnU-Net's channel numbers."""
    kinds = {identity_of(scan).modalities for scan in scans}
    cases = {scan.parent / case_of(scan) for scan in scans}
    return len(kinds) == len(scans) or (len(cases) == 1 and all(case_of(scan) != stem_of(scan) for scan in scans))
