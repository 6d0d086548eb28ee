"""What became of each tensor when weights were loaded: by part of the network, in words, as a table, as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rich.table import Table

from voco_cli.networks.weights.names import ENCODER_PARTS, Part


class Fate(StrEnum):
    """What can become of a tensor.

    LOADED went into the network, MISSING is in the network only, UNEXPECTED in the source only, MISMATCHED in both with
    different shapes.
    """

    LOADED = "loaded"
    MISSING = "missing"
    UNEXPECTED = "unexpected"
    MISMATCHED = "mismatched"


@dataclass(frozen=True)
class TensorFate:
    """One tensor.

    Attributes:
        name: MONAI's, or the source's where MONAI has none.
        part: of the network.
        fate: what became of it.
        parameters: numbers in it; of the network's tensor where there is one. Index buffers count 0.
        change: ``repeated`` over more input channels, ``reinitialised`` first or last layer, else empty.
    """

    name: str
    part: Part
    fate: Fate
    parameters: int
    change: str = ""


@dataclass(frozen=True)
class LoadReport:
    """The fate of every tensor of a source and of a network; nothing is passed over.

    Attributes:
        origin, kind, branch: of the source.
        fates: one entry a tensor.
        patch_merging: what the network computes with now; None without patch merging.
        min_loaded: share of the encoder that was asked for.
        notes: what a user should know, one sentence each.
    """

    origin: str
    kind: str
    branch: str | None
    fates: tuple[TensorFate, ...]
    patch_merging: str | None
    min_loaded: float
    notes: tuple[str, ...] = ()

    def names(self, fate: Fate) -> tuple[str, ...]:
        """Names of the tensors of one fate."""
        return tuple(tensor.name for tensor in self.fates if tensor.fate is fate)

    @property
    def loaded(self) -> tuple[str, ...]:
        """Put into the network."""
        return self.names(Fate.LOADED)

    @property
    def missing(self) -> tuple[str, ...]:
        """In the network, but not in the source; left as they were."""
        return self.names(Fate.MISSING)

    @property
    def unexpected(self) -> tuple[str, ...]:
        """In the source, but not in the network."""
        return self.names(Fate.UNEXPECTED)

    @property
    def mismatched(self) -> tuple[str, ...]:
        """In both, of different shapes; left as they were."""
        return self.names(Fate.MISMATCHED)

    @property
    def repeated(self) -> tuple[str, ...]:
        """First layers, loaded with their kernels repeated over more input channels."""
        return tuple(tensor.name for tensor in self.fates if tensor.change == "repeated")

    @property
    def reinitialised(self) -> tuple[str, ...]:
        """First and last layers that differ as asked, and keep the network's fresh values."""
        return tuple(tensor.name for tensor in self.fates if tensor.change == "reinitialised")

    def count(self, part: Part, fate: Fate) -> tuple[int, int]:
        """Tensors and parameters of one part and fate."""
        found = [tensor.parameters for tensor in self.fates if tensor.part is part and tensor.fate is fate]
        return len(found), sum(found)

    def share(self, parts: Iterable[Part]) -> float | None:
        """Loaded share of the network's parameters in some parts; None where the network has none."""
        own = [tensor for tensor in self.fates if tensor.part in set(parts) and tensor.fate is not Fate.UNEXPECTED]
        total = sum(tensor.parameters for tensor in own)
        return sum(tensor.parameters for tensor in own if tensor.fate is Fate.LOADED) / total if total else None

    @property
    def encoder_share(self) -> float:
        """Loaded share of the encoder's parameters, of the network's and of the source's, whichever is smaller.

        First layers that are reinitialised because the input channels differ count on neither side.
        """
        encoder = [t for t in self.fates if t.part in ENCODER_PARTS and t.change != "reinitialised"]
        loaded = sum(tensor.parameters for tensor in encoder if tensor.fate is Fate.LOADED)
        of_network = sum(tensor.parameters for tensor in encoder if tensor.fate is not Fate.UNEXPECTED)
        of_source = sum(tensor.parameters for tensor in encoder if tensor.fate is not Fate.MISSING)
        return loaded / max(of_network, of_source) if loaded else 0.0

    def to_json(self) -> dict[str, Any]:
        """Everything, ready for ``json.dumps``; kept in a run."""
        parts = {}
        for part in self.parts():
            counts = {fate.value: self.count(part, fate) for fate in Fate}
            row: dict[str, Any] = {
                fate: {"tensors": tensors, "parameters": parameters} for fate, (tensors, parameters) in counts.items()
            }
            parts[part.value] = {**row, "share": self.share([part])}
        return {
            "origin": self.origin,
            "kind": self.kind,
            "branch": self.branch,
            "patch_merging": self.patch_merging,
            "encoder_share": self.encoder_share,
            "min_loaded": self.min_loaded,
            "parts": parts,
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
            "mismatched": list(self.mismatched),
            "repeated": list(self.repeated),
            "reinitialised": list(self.reinitialised),
            "notes": list(self.notes),
        }

    def parts(self) -> list[Part]:
        """Parts that have a tensor, in the order of reports."""
        return [part for part in Part if any(tensor.part is part for tensor in self.fates)]

    def table(self) -> Table:
        """Counts by part, and the loaded share of the network's parameters, for a terminal."""
        table = Table(box=None, header_style="bold", pad_edge=False)
        table.add_column("part of the network", overflow="fold")
        for column in (*(fate.value for fate in Fate), "parameters loaded"):
            table.add_column(column, justify="right", overflow="fold")
        for part in self.parts():
            counts = [str(self.count(part, fate)[0] or "-") for fate in Fate]
            share = self.share([part])
            loaded = self.count(part, Fate.LOADED)[1]
            table.add_row(part.value, *counts, "-" if share is None else f"{loaded:,} ({share:.1%})")
        return table

    def __str__(self) -> str:
        counts = ", ".join(f"{len(self.names(fate))} {fate.value}" for fate in Fate)
        merging = f"; patch merging {self.patch_merging}" if self.patch_merging else ""
        return f"{self.origin}: {counts} tensors; {self.encoder_share:.1%} of the encoder's parameters loaded{merging}"
