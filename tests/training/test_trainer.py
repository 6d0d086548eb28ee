from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path

import pytest
import torch

from tests.training.made_job import Hooks, LineTask, make_loop, numbers, points, send, state, weights
from voco_cli.errors import DataError, Interrupted, VocoError
from voco_cli.training.checkpoint import list_checkpoints
from voco_cli.training.task import ParameterGroup


def test_rate_follows_the_schedule_from_its_start(tmp_path: Path) -> None:
    make_loop(tmp_path, steps=4, warmup_share=0.5, warmup_start=0.5, lr=1.0).run()
    rates = [line["lr"] for line in numbers(tmp_path) if line["split"] == "train"]
    # Two steps of warm-up from 1/2, then a cosine over two steps.
    assert rates == pytest.approx([0.5, 0.75, 1.0, 0.5], abs=1e-15)


def test_accumulated_step_is_one_step_of_the_mean_gradient(tmp_path: Path) -> None:
    job = LineTask()
    twin = torch.nn.Linear(3, 1)
    twin.load_state_dict(job.model.state_dict())
    make_loop(tmp_path, job, steps=2, accumulate=2, warmup_share=0.0, lr=0.1).run()
    optimizer = torch.optim.AdamW(twin.parameters(), weight_decay=0.01, amsgrad=True)
    for step, rate in enumerate((0.1, 0.05)):
        both = torch.cat([points(2 * step), points(2 * step + 1)])  # batches are of one size: the mean over both
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        (twin(both[:, :3])[:, 0] - both[:, 3]).square().mean().backward()
        optimizer.step()
    for ours, theirs in zip(job.model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    assert job.first_of_step == [True, False, True, False]  # a teacher moves once a step


def test_gradient_norm_is_measured_and_clipped(tmp_path: Path) -> None:
    for clip, expected in ((None, [3.0, 4.0]), (1.0, [0.6, 0.8]), (10.0, [3.0, 4.0])):
        loop = make_loop(tmp_path / str(clip), clip_norm=clip)
        parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
        for parameter, gradient in zip(parameters, (3.0, 4.0), strict=True):
            parameter.grad = torch.tensor([gradient])
        loop.parameters = parameters
        assert float(loop._gradient_norm()) == pytest.approx(5.0)
        assert [float(p.grad) for p in parameters if p.grad is not None] == pytest.approx(expected, abs=1e-5)


def test_logged_gradient_norm_is_that_of_the_step(tmp_path: Path) -> None:
    job = LineTask()
    both = torch.cat([points(0), points(1)])
    gradients = torch.autograd.grad(
        (job.model(both[:, :3])[:, 0] - both[:, 3]).square().mean(), list(job.model.parameters())
    )
    norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
    make_loop(tmp_path, job, steps=1, accumulate=2).run()
    assert numbers(tmp_path)[1]["grad_norm"] == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_signal_finishes_the_step_and_the_same_command_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    make_loop(tmp_path / "unbroken").run()
    job, path = LineTask(), tmp_path / "broken"
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=f"{number.name} after step 6; a checkpoint was written") as caught:
        make_loop(path, job, Hooks(advanced_at={6: send(number)})).run()
    assert caught.value.exit_code == 75
    assert signal.getsignal(number) == before
    assert job.closed  # and with it the loader's processes
    assert {key: state(path)[key] for key in ("status", "step")} == {"status": "interrupted", "step": 6}
    make_loop(path).run()
    assert state(path)["status"] == "done"
    assert weights(path) == weights(tmp_path / "unbroken")
    assert numbers(path) == numbers(tmp_path / "unbroken")


def test_signal_in_the_last_step_is_not_obeyed(tmp_path: Path) -> None:
    make_loop(tmp_path, hooks=Hooks(advanced_at={12: send(signal.SIGTERM)})).run()
    assert state(tmp_path)["status"] == "done"


def test_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    def twice() -> None:
        send(signal.SIGINT)()
        send(signal.SIGINT)()

    with pytest.raises(KeyboardInterrupt):
        make_loop(tmp_path, hooks=Hooks(advanced_at={6: twice})).run()
    assert (state(tmp_path)["status"], state(tmp_path)["step"]) == ("interrupted", 4)


def test_loss_that_is_not_finite_names_step_and_cases_and_spares_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"loss became nan at step 7, with the cases case 6\.0, case 6\.1") as caught:
        make_loop(tmp_path, LineTask(bad={6: math.nan}), log_every=3).run()
    assert caught.value.exit_code == 3
    assert (state(tmp_path)["status"], state(tmp_path)["step"]) == ("failed", 4)
    assert "step 7" in state(tmp_path)["reason"]
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["step-000004"]
    assert json.loads((tmp_path / "weights" / "line.json").read_text())["step"] == 4
    make_loop(tmp_path, log_every=3).run()  # once the scan is mended, the same command goes on from there
    make_loop(tmp_path / "unbroken", log_every=3).run()
    assert weights(tmp_path) == weights(tmp_path / "unbroken")


def test_gradient_that_is_not_finite_stops_too_though_the_loss_is_fine(tmp_path: Path) -> None:
    class RootJob(LineTask):
        def train_step(self, model, batch, *, first_of_step):  # type: ignore[no-untyped-def]
            terms = dict(super().train_step(model, batch, first_of_step=first_of_step))
            if batch.number == 3:  # the last step before a checkpoint
                terms["loss"] = terms["loss"] + (terms["loss"] * 0).sqrt()  # 0, of infinite slope
            return terms

    with pytest.raises(DataError, match="gradient norm became nan at step 4"):
        make_loop(tmp_path, RootJob()).run()
    assert not list((tmp_path / "checkpoints").iterdir())


def test_error_of_the_loader_is_raised_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="scan_07 is damaged"):
        make_loop(tmp_path, LineTask(error={5: DataError("scan_07 is damaged.")})).run()
    assert state(tmp_path)["reason"] == "scan_07 is damaged."


def test_fault_of_our_own_is_kept_in_the_state(tmp_path: Path) -> None:
    hooks = Hooks(advanced_at={2: lambda: {}["gone"]})
    with pytest.raises(KeyError):
        make_loop(tmp_path, hooks=hooks).run()
    assert (state(tmp_path)["status"], state(tmp_path)["reason"]) == ("failed", "KeyError: 'gone'")
    assert hooks.seen[-1] == ("ended", -1)


def test_finished_run_trains_no_further(tmp_path: Path) -> None:
    make_loop(tmp_path).run()
    before = weights(tmp_path)
    job, hooks = LineTask(), Hooks()
    make_loop(tmp_path, job, hooks).run()
    assert hooks.seen == [("started", 12), ("ended", -1)]
    assert job.looks == [0, 4, 8, 12]  # from the checkpoint
    assert weights(tmp_path) == before
    assert state(tmp_path)["status"] == "done"


def test_last_checkpoints_and_the_best_are_kept(tmp_path: Path) -> None:
    job = LineTask()
    job.scores = {4: 5.0, 8: 1.0, 12: 3.0, 16: 4.0, 20: 2.0}
    make_loop(tmp_path, job, steps=20, keep_checkpoints=2).run()
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-000008", "step-000016", "step-000020"]


def _killed(path: Path, hooks: Hooks, patch: tuple[str, int] | None = None) -> None:
    """Run a loop in a process of its own until SIGKILL."""
    child = os.fork()
    if child:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        return
    try:
        if patch is not None:
            _kill_in(*patch)
        make_loop(path, hooks=hooks).run()
    finally:
        os._exit(99)


def _kill_in(name: str, call: int) -> None:
    """Let the ``call``-th call of a function of the engine be the end of the process."""
    module_name, function = name.rsplit(".", 1)
    module = __import__(module_name, fromlist=[function])
    original, calls = getattr(module, function), iter(range(1, 1000))

    def deadly(*arguments: object, **named: object) -> object:
        if next(calls) == call:
            send(signal.SIGKILL)()
        return original(*arguments, **named)

    setattr(module, function, deadly)


PLACES = {
    "before the first step": (Hooks(validated_at={0: send(signal.SIGKILL)}), None),
    "in a step": (Hooks(advanced_at={6: send(signal.SIGKILL)}), None),
    "between validation and checkpoint": (Hooks(validated_at={8: send(signal.SIGKILL)}), None),
    # Each checkpoint flushes three files and two folders.
    "while the first checkpoint is written": (Hooks(), ("voco_cli.training.checkpoint._flush", 2)),
    "while a checkpoint is written": (Hooks(), ("voco_cli.training.checkpoint._flush", 5 + 2)),
    "between checkpoint and weights": (Hooks(), ("voco_cli.training.trainer.rotate", 3)),
    "after the last step": (Hooks(), ("voco_cli.training.trainer.rotate", 3)),
}


@pytest.mark.parametrize("place", PLACES)
def test_killed_run_goes_on_as_if_nothing_had_been(tmp_path: Path, place: str) -> None:
    make_loop(tmp_path / "unbroken").run()
    path = tmp_path / "broken"
    _killed(path, *PLACES[place])
    (path / ".unfinished-77-abc-state.json").touch()
    make_loop(path).run()
    assert not list(path.rglob(".unfinished-*"))
    assert weights(path) == weights(tmp_path / "unbroken")
    assert numbers(path) == numbers(tmp_path / "unbroken")
    assert [line["step"] for line in numbers(path) if line["split"] == "validation"] == [0, 4, 8, 12]
    assert json.loads((path / "weights" / "line.json").read_text())["step"] == 12
    assert not list((path / "checkpoints").glob(".*"))
    assert state(path)["status"] == "done"


def test_lost_worker_and_lost_memory_are_told(tmp_path: Path) -> None:
    def fail(text: str) -> None:
        raise RuntimeError(text)

    for text, sentence, code in (
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", "A loader process was killed", 4),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes", "machine ran out of memory", 4),
        ("[pair.cc:553] Connection closed by peer [127.0.0.1]:2461", "Another process of this run ended", 1),
    ):
        with pytest.raises(VocoError, match=sentence) as caught:
            make_loop(tmp_path, hooks=Hooks(advanced_at={2: lambda text=text: fail(text)})).run()
        assert caught.value.exit_code == code
    with pytest.raises(RuntimeError, match="a shape"):
        make_loop(tmp_path, hooks=Hooks(advanced_at={2: lambda: fail("a shape")})).run()


def test_groups_learn_at_their_own_rates_and_wait_their_steps(tmp_path: Path) -> None:
    job = LineTask()
    weight, bias = job.model.parameters()
    job.groups = [ParameterGroup([weight]), ParameterGroup([bias], rate=0.5, freeze_steps=2)]
    seen: list[tuple[float, float]] = []
    start = float(bias.detach())
    look = lambda: seen.append((float(weight.detach()[0, 0]), float(bias.detach())))  # noqa: E731
    loop = make_loop(tmp_path, job, Hooks(advanced_at=dict.fromkeys((1, 2, 3), look)), steps=3, warmup_share=0.0)
    loop.run()
    assert [value for _, value in seen[:2]] == [start, start]
    assert seen[2][1] != start
    assert len({value for value, _ in seen}) == 3
    rates = [group["lr"] for group in loop.optimizer.param_groups]
    assert rates[1] == pytest.approx(rates[0] / 2)


def test_every_best_validation_has_its_checkpoint_and_only_its_own_score(tmp_path: Path) -> None:
    job = LineTask()
    job.scores = {2: 5.0, 4: 1.0, 6: 3.0, 8: 2.0}
    make_loop(tmp_path, job, steps=9, validate_every=2, checkpoint_every=3, keep_checkpoints=9).run()
    found = {one.step: one.score for one in list_checkpoints(tmp_path / "checkpoints")}
    # 2 and 4 are the best so far; 3 and 9 (the last step, validated) are due; 6 is both due and validated.
    assert found == {2: 5.0, 3: None, 4: 1.0, 6: 3.0, 9: 91.0}
