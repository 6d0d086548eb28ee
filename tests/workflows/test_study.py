"""What is run, in which order, and what becomes of runs that fail, stop or change."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.study.made_study import CASES, Heard, Result, StandIn, find, plan, weights_file, write_scores
from voco_cli.config import Resolved, Settings
from voco_cli.data.parallel import Runner
from voco_cli.data.shards import Shard, ShardOutcomes, ShardPart
from voco_cli.errors import DataError, Interrupted, UsageError, VocoError
from voco_cli.workflows.study import StudyResult, prepare_study, run_study
from voco_cli.workflows.study_outcome import require_complete


@pytest.fixture(autouse=True)
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is drawn after each run, and tested elsewhere."""
    monkeypatch.setattr("voco_cli.workflows.study_outcome.draw_label_efficiency", lambda found: b"a picture")


def score(settings: Settings) -> float:
    """0.5, 0.02 a labelled case, 0.01 a seed, and 0.1 more with weights."""
    return 0.5 + 0.02 * (settings.task.cases or 0) + 0.01 * settings.seed + 0.1 * (settings.model.weights is not None)


def run(folder: Path, finetune: Any = None, **options: Any) -> StudyResult:
    asked = plan(folder, [weights_file(folder)], **options)
    return run_study(asked, Heard(), finetune=finetune or StandIn(score), find=find())


def stored(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "study" / "study.json").read_text()))


def test_every_run_and_its_score(tmp_path: Path) -> None:
    stand_in = StandIn(score)
    result = run(tmp_path, stand_in)
    assert len(stand_in.called) == 8
    assert stand_in.called[:2] == ["none/n005-seed0", "voco/n005-seed0"]
    found = stored(tmp_path)
    assert found["format"] == "voco-study/1"
    scores = {one["folder"]: one["score"] for one in found["runs"]}
    assert scores["none/n005-seed0"] == pytest.approx(0.6)
    assert scores["voco/n010-seed1"] == pytest.approx(0.81)
    assert [one["mean"] for one in found["scores"]] == pytest.approx([0.605, 0.705, 0.705, 0.805])
    assert [one["difference"] for one in found["differences"]] == pytest.approx([0.1, 0.1])
    assert [one["structure"] for one in found["differences_by_structure"]] == ["liver", "spleen"]
    assert found["measured_on"] == {"split": "test", "cases": CASES, "patients": CASES}
    assert {path.name for path in result.wrote} == {"study.json", "study.md", "study.png"}
    assert all(path.is_file() for path in result.wrote)
    assert {path.name for path in (tmp_path / "study").iterdir()} >= {"data.json", "none", "voco"}


def test_a_second_call_does_nothing_and_more_seeds_or_sizes_only_what_is_new(tmp_path: Path) -> None:
    run(tmp_path)
    again, more = StandIn(score), StandIn(score)
    run(tmp_path, again)
    assert again.called == []
    run(tmp_path, more, sizes=(5, 20), seeds=3)
    assert sorted(more.called) == sorted(
        f"{arm}/n{n:03d}-seed{seed}" for arm in ("none", "voco") for n, seed in ((20, 0), (20, 1), (5, 2), (20, 2))
    )
    found = stored(tmp_path)
    assert (found["cases"], found["seeds"], len(found["runs"])) == ([5, 10, 20], [0, 1, 2], 16)
    assert {(one["labelled"], len(one["seeds"])) for one in found["scores"]} == {(5, 3), (10, 2), (20, 3)}


def test_a_run_whose_evaluation_is_gone_is_run_again(tmp_path: Path) -> None:
    run(tmp_path)
    shutil.rmtree(tmp_path / "study" / "none" / "n010-seed0")
    again = StandIn(score)
    run(tmp_path, again)
    assert again.called == ["none/n010-seed0"]


def test_a_failed_run_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    def failing(resolved: Resolved) -> Result:
        if resolved.settings.run.dir.match("voco/n005-seed0"):
            raise DataError("The loss is not finite at step 3.")
        return StandIn(score)(resolved)

    result = run(tmp_path, failing)
    failed = [one for one in stored(tmp_path)["runs"] if one["status"] != "done"]
    assert [(one["folder"], one["status"], one["reason"]) for one in failed] == [
        ("voco/n005-seed0", "failed", "The loss is not finite at step 3.")
    ]
    assert [one["seeds"] for one in stored(tmp_path)["differences"]] == [[1], [0, 1]]
    with pytest.raises(VocoError, match="1 of 8 runs are not part of the outcome"):
        require_complete(result.record, result.outcome)
    mended = StandIn(score)
    require_complete(*(lambda done: (done.record, done.outcome))(run(tmp_path, mended)))
    assert mended.called == ["voco/n005-seed0"]


def test_an_interrupted_study_keeps_an_early_look_and_goes_on_there(tmp_path: Path) -> None:
    before = StandIn(score)

    def stopping(resolved: Resolved) -> Result:
        if len(before.called) == 3:
            raise Interrupted("Stopped at step 5.", "run the same again")
        return before(resolved)

    with pytest.raises(Interrupted):
        run(tmp_path, stopping)
    found = stored(tmp_path)
    statuses = [one["status"] for one in found["runs"]]
    assert (statuses.count("done"), statuses.count("interrupted"), statuses.count("waiting")) == (3, 1, 4)
    assert len(found["differences"]) == 1
    assert "5 of 8 runs are not finished: this is an early look." in found["statements"]
    after = StandIn(score)
    run(tmp_path, after)
    assert after.called[0] == "voco/n010-seed0"
    assert len(after.called) == 5


def test_a_shard_that_was_stopped_goes_on_there(tmp_path: Path) -> None:
    asked, before, after = plan(tmp_path, [weights_file(tmp_path)]), StandIn(score), StandIn(score)
    prepare_study(asked, Heard(), find=find())

    def stopping(resolved: Resolved) -> Result:
        if len(before.called) == 3:
            raise Interrupted("Stopped at step 5.", "run the same again")
        return before(resolved)

    def one_of_one(finetune: Any) -> ShardOutcomes:
        outcomes = ShardOutcomes(tmp_path / "1-of-1.json", ShardPart(Shard(1, 1), ("study",), (), ""))
        try:
            run_study(asked, Heard(), finetune=finetune, find=find(), runner=Runner(outcomes=outcomes))
        finally:
            outcomes.close()
        return outcomes

    with pytest.raises(Interrupted):
        one_of_one(stopping)
    assert [one["status"] for one in stored(tmp_path)["runs"]] == ["waiting"] * 8
    part = one_of_one(after).part
    done = [part.outcomes[key][1]["value"]["run"]["folder"] for key in part.outcomes]
    assert sorted([*before.called, *after.called]) == sorted(done)
    assert (len(before.called), len(after.called)) == (3, 5)


def test_other_settings_are_refused_with_the_difference(tmp_path: Path) -> None:
    run(tmp_path)
    asked = plan(tmp_path, [weights_file(tmp_path)], (5,), 1, "train.lr=0.5", "task.choose=last")
    with pytest.raises(UsageError, match="was started with other settings") as caught:
        run_study(asked, Heard(), finetune=StandIn(score), find=find())
    assert "  train.lr: 0.0001 -> 0.5" in caught.value.message
    assert "  task.choose: best -> last" in caught.value.message
    assert len(caught.value.message.splitlines()) == 3


def test_weights_that_have_changed_are_refused(tmp_path: Path) -> None:
    run(tmp_path)
    asked = plan(tmp_path, [weights_file(tmp_path, content=b"trained on")])
    with pytest.raises(UsageError, match=r"voco\.safetensors, which holds other weights now"):
        run_study(asked, Heard(), finetune=StandIn(score), find=find())


def test_weights_that_do_not_exist_are_told_before_any_run(tmp_path: Path) -> None:
    stand_in = StandIn(score)
    with pytest.raises(DataError, match=r"gone\.pt does not exist"):
        run_study(plan(tmp_path, [str(tmp_path / "gone.pt")]), Heard(), finetune=stand_in, find=find())
    assert stand_in.called == []


def test_other_cases_are_refused(tmp_path: Path) -> None:
    run(tmp_path)
    asked = plan(tmp_path, [weights_file(tmp_path)])
    with pytest.raises(UsageError, match=r"20 \+ 0 \+ 8 to train, validate and test, and now 30 \+ 0 \+ 8"):
        run_study(asked, Heard(), finetune=StandIn(score), find=find(training=30))


def test_more_labelled_cases_than_there_are(tmp_path: Path) -> None:
    asked = plan(tmp_path, [], (5, 21))
    with pytest.raises(UsageError, match="20 cases to train on, and 21 are asked for"):
        run_study(asked, Heard(), finetune=StandIn(score), find=find())


def test_a_run_that_was_measured_on_other_cases_is_left_out_and_named(tmp_path: Path) -> None:
    def short(resolved: Resolved) -> Result:
        if resolved.settings.run.dir.match("none/n005-seed0"):  # the very first: the others agree against it
            return Result(write_scores(resolved.settings.run.dir / "evaluation", 0.9, cases=7))
        return StandIn(score)(resolved)

    result = run(tmp_path, short)
    ((words, reason),) = result.outcome.excluded
    assert words == "none, 5 labelled cases, seed 0"
    assert "none, 5 labelled cases, seed 0 has no case case7" in reason
    assert [one["seeds"] for one in stored(tmp_path)["differences"]] == [[1], [0, 1]]
    with pytest.raises(VocoError, match="has no case case7"):
        require_complete(result.record, result.outcome)


def test_another_split_is_left_out(tmp_path: Path) -> None:
    def other(resolved: Resolved) -> Result:
        result = StandIn(score)(resolved)
        return Result(result.evaluation, "validation") if resolved.settings.run.dir.match("voco/n010-seed1") else result

    ((words, reason),) = run(tmp_path, other).outcome.excluded
    assert words == "voco, 10 labelled cases, seed 1"
    assert reason == "it was measured on the validation split, and none, 5 labelled cases, seed 0 on test"


def test_nothing_that_came_to_its_end(tmp_path: Path) -> None:
    def failing(resolved: Resolved) -> Result:
        raise DataError("The loss is not finite.")

    with pytest.raises(DataError, match=r"No run of .* has come to its end: The loss is not finite\."):
        run(tmp_path, failing)


def test_a_fault_of_usage_ends_the_study(tmp_path: Path) -> None:
    stand_in = StandIn(score)

    def refusing(resolved: Resolved) -> Result:
        if resolved.settings.model.weights is None:
            return stand_in(resolved)
        raise UsageError("These weights are of another architecture.")

    with pytest.raises(UsageError, match="another architecture"):
        run(tmp_path, refusing)
    assert [one["status"] for one in stored(tmp_path)["runs"]].count("failed") == 1
    assert stand_in.called == ["none/n005-seed0"]


def test_the_watcher_hears_of_each_run(tmp_path: Path) -> None:
    heard = Heard()
    run_study(plan(tmp_path, [], (5,), 2), heard, finetune=StandIn(score), find=find())
    assert heard.lines == [
        "0 of 2 on a split",
        *("1 of 2: none, 5 labelled cases, seed 0", "done", "2 of 2: none, 5 labelled cases, seed 1", "done"),
    ]


def test_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="runs in one process"):
        run(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "voco-study/1", "runs": 3}'])
def test_a_damaged_study(content: str, tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.json").write_text(content)
    with pytest.raises(VocoError, match=r"study\.json is (damaged|not of the format)"):
        run(tmp_path)
