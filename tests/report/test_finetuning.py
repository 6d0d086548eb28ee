"""The section of a fine-tuning: its lead, its parts, its weights."""

from pathlib import Path

from tests.report.made_runs import finetuning_run, write_state
from voco_cli.document.blocks import PageSection, Sentence
from voco_cli.report.finetuning import finetuning_section, read_evaluations
from voco_cli.report.run_record import read_run


def section(run: Path) -> PageSection:
    return finetuning_section("f", read_run(run, "run"), read_evaluations(run))


def test_a_run_that_is_done_leads_with_its_figure(tmp_path: Path) -> None:
    found = section(finetuning_run(tmp_path / "run"))
    assert found.lead.startswith("Mean Dice 0.600 [")
    assert (found.status, found.tone, found.lead_tone) == ("done", "good", "plain")
    assert [part.title for part in found.parts][:3] == [
        "Evaluation on the test split",
        "Best, median and worst case",
        "Curves",
    ]


def test_a_run_that_failed_leads_with_the_reason(tmp_path: Path) -> None:
    run = finetuning_run(tmp_path / "run")
    write_state(run, "failed", 4, "The loss became nan.")
    found = section(run)
    assert found.lead.endswith("The loss became nan.")
    assert found.lead_tone == "bad"


def test_whose_weights_were_kept(tmp_path: Path) -> None:
    run = finetuning_run(tmp_path / "run")
    (weights,) = (part for part in section(run).parts if part.title == "Weights")
    assert weights.blocks[1] == Sentence("Kept are the weights of the last step, 10; no validation chose them.")
    (run / "weights" / "model.json").write_text('{"step": 4}')
    (weights,) = (part for part in section(run).parts if part.title == "Weights")
    assert weights.blocks[1] == Sentence("The weights are those of step 4 of a run that is not finished.", "warning")
    (run / "weights" / "model.json").unlink()
    (weights,) = (part for part in section(run).parts if part.title == "Weights")
    assert weights.blocks[1] == Sentence("No weights have been written yet.", "warning")


def test_an_evaluation_that_is_damaged_is_told(tmp_path: Path) -> None:
    run = finetuning_run(tmp_path / "run")
    (run / "evaluation" / "test" / "cases.csv").write_text("")
    found = section(run)
    assert isinstance(found.parts[0].blocks[0], Sentence)
    assert "cases.csv is not the file" in found.parts[0].blocks[0].text
    assert found.result == "not evaluated"
