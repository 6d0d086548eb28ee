"""Classifying scans: the same numbers as training sees, a table that is kept, faults that end nothing."""

from __future__ import annotations

import csv
import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tasks.made_categories import NAMES, classification_settings, make_entries, store
from voco_cli.config import Settings
from voco_cli.data.index.datalist import Entry
from voco_cli.errors import DataError, UsageError
from voco_cli.models.build import build_classifier
from voco_cli.predict import classification
from voco_cli.predict.classification import TABLE, classify_entries, read_probabilities
from voco_cli.predict.output_dir import PredictionReport
from voco_cli.predict.predictor import Trained


def trained_of(settings: Settings, seed: int = 0) -> Trained:
    """A network of random weights as a run would give it."""
    torch.manual_seed(seed)
    network = build_classifier(settings.model, len(settings.task.channels), settings.task.num_outputs).eval()
    torch.nn.init.normal_(network.head.weight)
    return Trained(Path("run"), settings, network, {}, f"weights {seed}", torch.device("cpu"), nullcontext)


def rows_of(out: Path, categories: tuple[str, ...] = ("normal", "pneumonia")) -> dict[str, tuple[float, ...]]:
    return read_probabilities(out / TABLE, categories)


class Counting:
    """Notes which cases were told of."""

    def __init__(self) -> None:
        self.told: dict[str, str | None] = {}

    def __call__(self, entry: Entry, reason: str | None) -> None:
        self.told[entry.name] = reason


def test_probabilities_are_those_of_the_stored_volumes(tmp_path: Path) -> None:
    settings = classification_settings(3)
    entries = make_entries(tmp_path, [0, 1, 2])
    trained = trained_of(settings)
    classify_entries(trained, entries, tmp_path / "out")
    found = rows_of(tmp_path / "out", NAMES)
    for case in store(tmp_path / "cache", entries, settings):
        with torch.no_grad():
            logits = trained.network(torch.from_numpy(case.read_channels())[None].float() / 255)[0].double().numpy()
        by_hand = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(found[case.name], by_hand, atol=1e-6)
    rows = list(csv.DictReader((tmp_path / "out" / "probabilities.csv").read_text().splitlines()))
    assert [row["case"] for row in rows] == ["p0-s0", "p1-s1", "p2-s2"]
    for row in rows:
        values = {name: float(row[f"p_{name}"]) for name in NAMES}
        assert row["predicted"] == max(values, key=values.__getitem__)
        assert sum(values.values()) == pytest.approx(1, abs=1e-12)
    assert list(found) == ["p0-s0", "p1-s1", "p2-s2"]


def test_a_bad_scan_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    settings = classification_settings()
    entries = make_entries(tmp_path, [0, 1, 1])
    entries[1].image.write_bytes(b"no array")
    counting = Counting()
    found = classify_entries(trained_of(settings), entries, tmp_path / "out", on_done=counting)
    assert (found.predicted, list(rows_of(tmp_path / "out"))) == (("p0-s0", "p2-s2"), ["p0-s0", "p2-s2"])
    assert counting.told["p0-s0"] is None
    record = json.loads((tmp_path / "out" / "probabilities.json").read_text())
    assert list(record["failed"]) == [case for case, _ in found.failed] == ["p1-s1"]
    assert "is no .npy array" in record["failed"]["p1-s1"] == str(counting.told["p1-s1"])
    # Mended, it is classified, and no longer among the failed.
    np.save(entries[1].image, np.load(entries[0].image))
    found = classify_entries(trained_of(settings), entries, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert (len(rows), found.failed) == (3, ())
    assert rows["p1-s1"] == rows["p0-s0"]
    assert json.loads((tmp_path / "out" / "probabilities.json").read_text())["failed"] == {}


def test_only_what_is_missing_or_changed_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, entries = classification_settings(), make_entries(tmp_path, [0, 1, 1])
    computed: list[str] = []
    original = classification.classify_scan

    def counted(trained: Trained, entry: Entry) -> tuple[float, ...]:
        computed.append(entry.name)
        return original(trained, entry)

    monkeypatch.setattr(classification, "classify_scan", counted)

    def run(
        listed: list[Entry], seed: int = 0, asked: Settings = settings, overwrite: bool = False
    ) -> tuple[list[str], PredictionReport]:
        computed.clear()
        found = classify_entries(trained_of(asked, seed), listed, tmp_path / "out", overwrite=overwrite)
        return list(computed), found

    names = [entry.name for entry in entries]
    assert run(entries[:2])[0] == names[:2]
    again, found = run(entries)
    assert (again, found.predicted, found.kept) == (names[2:], tuple(names[2:]), tuple(names[:2]))
    np.save(entries[0].image, np.load(entries[1].image))
    assert run(entries)[0] == names[:1]
    again, found = run(entries)
    assert (again, found.predicted, found.kept, len(rows_of(tmp_path / "out"))) == ([], (), tuple(names), 3)
    # To overwrite is to replace what others have made: rows of this very network stay, as label maps do.
    assert run(entries, overwrite=True)[0] == []
    assert run(entries, seed=1, overwrite=True)[0] == names


def test_tables_of_others_are_not_mixed_with_ours(tmp_path: Path) -> None:
    settings, entries, out = classification_settings(), make_entries(tmp_path, [0, 1, 1]), tmp_path / "out"
    classify_entries(trained_of(settings), entries, out)
    before = (out / "probabilities.csv").read_bytes()
    with pytest.raises(UsageError, match=r"out holds probabilities with other weights \(of run\)"):
        classify_entries(trained_of(settings, 1), entries[:1], out)
    other = classification_settings(2, preprocess={"window_hu": (0, 200)})
    with pytest.raises(UsageError, match="another voxels"):
        classify_entries(trained_of(other), entries[:1], out)
    (out / "probabilities.json").write_text("{")
    with pytest.raises(UsageError, match="has no record of voco predict") as caught:
        classify_entries(trained_of(settings), entries, out)
    assert "--overwrite" in str(caught.value.hint)
    assert (out / "probabilities.csv").read_bytes() == before
    classify_entries(trained_of(settings, 1), entries[:1], out, overwrite=True)
    assert list(rows_of(out)) == ["p0-s0"]


def test_what_was_classified_is_written_when_a_batch_is_broken_off(tmp_path: Path) -> None:
    settings, entries = classification_settings(), make_entries(tmp_path, [0, 1, 1])

    def stop(entry: Entry, reason: str | None) -> None:
        if entry.name == "p1-s1":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        classify_entries(trained_of(settings), entries, tmp_path / "out", on_done=stop)
    assert list(read_probabilities(tmp_path / "out" / "probabilities.csv", ("normal", "pneumonia"))) == [
        "p0-s0",
        "p1-s1",
    ]


def test_what_no_table_can_hold(tmp_path: Path) -> None:
    settings = classification_settings()
    entry = make_entries(tmp_path, [0])[0]
    with pytest.raises(UsageError, match="Two scans are called p0-s0"):
        classify_entries(trained_of(settings), [entry, entry], tmp_path / "out")
    two = entry.model_copy(update={"channels": (entry.image,)})
    found = classify_entries(trained_of(settings), [two], tmp_path / "out")
    assert "p0-s0 has 2 channels" in dict(found.failed)["p0-s0"]


def test_tables_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for text, words in (
        ("case,p_yes\na,0.5\n", "has no column p_no"),
        ("case,p_no,p_yes\na,0.5,0.5\na,0.5,0.5\n", r"a\.csv:3: the case a stands twice"),
        ("case,p_no,p_yes\na,0.5,maybe\n", r"a\.csv:2: 'maybe' is no probability"),
        ("case,p_no,p_yes\na,0.5\n", "a.csv cannot be read: line 2 has 2 cells, and not 3"),
        ('case,p_no,p_yes\n"a,0.5,0.5\n' + 300 * "b,0.5,0.5\n", "the row from line 2 on has a stray quotation mark"),
        ("case,p_no,p_yes\na,1.5,-0.5\n", r"'1\.5' is no probability"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=words) as caught:
            read_probabilities(path, ("no", "yes"))
        assert len(str(caught.value).replace(str(tmp_path), "")) < 250
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_probabilities(tmp_path / "b.csv", ("no", "yes"))
