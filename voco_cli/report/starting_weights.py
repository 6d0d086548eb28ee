"""What a run started from, and how much of it went into the network."""

from __future__ import annotations

from voco_cli.report.blocks import Block, Facts, Sentence
from voco_cli.report.held import finite
from voco_cli.report.run_record import RunRecord, read_object


def starting_weights(run: RunRecord) -> Block:
    """Name of the weights, the share of the encoder that they filled, and what loading them had to say."""
    weights = run.settings.get("model.weights")
    if weights is None:
        return Sentence("It started from fresh weights.")
    report = read_object(run.path / "weights_report.json")
    facts = [("started from", str(weights))]
    share, notes = finite(report.get("encoder_share")), report.get("notes")
    if share is not None:
        facts.append(("loaded of the encoder", f"{share:.1%} of its parameters"))
    facts += [("note", str(note)) for note in (notes if isinstance(notes, list) else [])]
    return Facts(tuple(facts))
