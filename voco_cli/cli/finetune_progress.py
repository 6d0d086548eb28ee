"""What one sees while fine-tuning runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voco_cli.cli.output import err, is_quiet
from voco_cli.cli.run_progress import RunProgress
from voco_cli.downstream.tasks.split import named
from voco_cli.finetuning.contamination import sentences

if TYPE_CHECKING:
    from voco_cli.engine.job import Values
    from voco_cli.finetuning.run import Prepared


class FinetuneProgress(RunProgress):
    """Dice or AUC on the validation cases."""

    def figures(self, values: Values) -> str:
        """The figures of a validation."""
        if "auc" in values:
            return f"AUC {values['auc']:.3f} accuracy {values['accuracy']:.3f}"
        return f"Dice {values['dice']:.4f}" if "dice" in values else "nothing there and nothing predicted, no Dice"

    def prepared(self, prepared: Prepared) -> None:
        """The data and its split, what became of the weights, and what is about to run."""
        data = prepared.data
        self.say(f"{data.origin}: {data.split_words}")
        if data.missing:
            self.warn(f"{len(data.missing)} cases of the split are missing and left out: {named(data.missing, 3)}")
        self.left_out(prepared.left_out)
        if prepared.loaded is not None:
            if not is_quiet():
                err.print(prepared.loaded.table())
            self.say(str(prepared.loaded))
            for note in prepared.loaded.notes:
                self.say(note)
        for line in sentences(prepared.contamination):
            if prepared.contamination.found or prepared.contamination.unknown:
                self.warn(line, style="yellow")
            else:
                self.say(line)
        resumed = f", resumed at step {prepared.resumed_step}" if prepared.resumed_step else ""
        still = prepared.num_parameters - prepared.num_moving
        frozen = f" ({still / 1e6:.2f} M frozen)" if still else ""
        self.say(
            f"{prepared.folder}: {prepared.num_training} cases to train on, {prepared.num_validation} to validate on; "
            f"{prepared.num_parameters / 1e6:.2f} M parameters{frozen} on {prepared.device} in {prepared.precision}"
            f"{resumed}"
        )
