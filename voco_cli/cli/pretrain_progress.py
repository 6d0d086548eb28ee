"""What one sees while pre-training runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voco_cli.cli.run_progress import RunProgress

if TYPE_CHECKING:
    from voco_cli.engine.job import Values
    from voco_cli.pretraining.run import Prepared


class PretrainProgress(RunProgress):
    """Rank, correlation and top-1 of the health check."""

    def figures(self, values: Values) -> str:
        """Health on held-out scans."""
        return f"rank {values['rank']:.2f} corr {values['correlation']:.2f} top-1 {values['top1']:.2f}"

    def prepared(self, prepared: Prepared) -> None:
        """One line on what is about to run, and the scans that are left out."""
        self.left_out([(path.name, reason) for path, reason in prepared.left_out])
        resumed = f", resumed at step {prepared.resumed_step}" if prepared.resumed_step else ""
        recompute = ", activations recomputed" if prepared.recompute else ""
        if prepared.loaded is not None:
            self.say(str(prepared.loaded))
        self.say(
            f"{prepared.folder}: {prepared.num_training} scans to train on, {prepared.num_held_out} held out; "
            f"{prepared.num_parameters / 1e6:.2f} M parameters on {prepared.device} in {prepared.precision}"
            f"{recompute}{resumed}"
        )
