"""What is told of an evaluation besides its figures: whose predictions, on which split, and whether it is clean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Provenance:
    """Where the predictions of an evaluation come from.

    Attributes:
        run: run folder.
        split: what was measured: test or validation.
        chosen: how the weights were chosen, in words; empty where the run does not say.
        contamination: what is known of cases that were seen in training, as JSON; its ``sentences`` are for people.
    """

    run: str
    split: str
    chosen: str
    contamination: Mapping[str, Any]

    def about(self) -> dict[str, Any]:
        """The same for summary.json."""
        return {
            "run": self.run,
            "split": self.split,
            "chosen": self.chosen,
            "contamination": dict(self.contamination),
        }

    def lines(self) -> list[str]:
        """What tables say of it, one sentence each."""
        chosen = (
            f"; its weights: {self.chosen}" if self.chosen else "; the run does not say how its weights were chosen"
        )
        on_validation = " (the cases that the best weights are chosen on)" if self.split == "validation" else ""
        first = f"Measured on the {self.split} split{on_validation} of {self.run}{chosen}."
        return [first, *self.contamination.get("sentences", ())]
