"""Batches of scans: values and geometry of what is written, what is kept, and what does not stop the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.data.cache.made_scans import body_hu, oriented_affine, write_nifti
from tests.predict.test_sliding_window import literal_labels, made_scan
from tests.tasks.made_run import known_network, make_run
from voco_cli.config.schema import Preprocess
from voco_cli.config.task_schema import Predict
from voco_cli.data.cache.preprocess import Preprocessed, preprocess, preprocess_label
from voco_cli.data.cache.volume import quantise
from voco_cli.data.index.datalist import Entry
from voco_cli.data.io.image import Scan
from voco_cli.data.io.reader import read_scan
from voco_cli.errors import ResourceError, UsageError
from voco_cli.predict import segmentation
from voco_cli.predict.output_dir import PredictionReport
from voco_cli.predict.predictor import Trained, load_trained
from voco_cli.predict.segmentation import predict_entries, segment

SHAPE = (28, 24, 18)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def made_entry(folder: Path, case: str, codes: str = "LPS", seed: int = 0) -> Entry:
    folder.mkdir(exist_ok=True)
    path = write_nifti(folder / f"{case}.nii.gz", body_hu(SHAPE, seed), oriented_affine(codes, (1.9, 2.1, 3.0)))
    return Entry(image=path, patient=case)


def unit(path: Path) -> NDArray[Any]:
    return np.asarray(np.clip((read_scan(path).array_zyx + 175.0) / 425.0, 0, 1))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "IPL"])
def test_label_values_on_the_scans_own_grid(run: Path, tmp_path: Path, suffix: str, codes: str) -> None:
    entry = made_entry(tmp_path / "scans", "case_07", codes)
    trained = known_network(run, f"predict.suffix={suffix}", "predict.overlap=0.25")
    report = predict_entries(trained, [entry], tmp_path / "out")
    assert report == PredictionReport(
        ("case_07",), (), (), (tmp_path / "out" / "labels.json", tmp_path / "out" / "prediction.json")
    )
    scan, found = read_scan(entry.image), read_scan(tmp_path / "out" / f"case_07{suffix}")
    assert found.array_zyx.dtype == np.uint8
    assert set(np.unique(found.array_zyx)) == {0, 3, 6}
    assert found.shape_xyz == scan.shape_xyz
    np.testing.assert_allclose(found.spacing_xyz_mm, scan.spacing_xyz_mm, rtol=1e-6)
    np.testing.assert_allclose(found.origin_xyz_mm, scan.origin_xyz_mm, atol=1e-4)
    np.testing.assert_allclose(found.direction, scan.direction, atol=1e-6)
    literal = np.array([0, 3, 6])[np.digitize(unit(entry.image), (0.25, 0.5))]
    # Blurred by the way to 2 mm and back; noise of 40 HU in the made scan is most of the difference.
    assert np.mean(found.array_zyx == literal) > 0.75


def test_exact_at_the_scans_spacing_and_names_of_labels(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "preprocess.spacing_mm=null")
    entry = made_entry(tmp_path / "scans", "case_07", "SLA")
    predict_entries(known_network(run), [entry], tmp_path / "out")
    expected = np.array([0, 3, 6])[np.digitize(np.rint(unit(entry.image) * 255) / 255, (0.25, 0.5))]
    np.testing.assert_array_equal(read_scan(tmp_path / "out" / "case_07.nii.gz").array_zyx, expected)
    labels = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert labels == {"labels": {"3": "spleen", "6": "liver"}, "run": str(run), "step": 7, "chosen": None}


def test_finished_cases_are_kept_and_changed_scans_are_not(run: Path, tmp_path: Path) -> None:
    entries = [made_entry(tmp_path / "scans", f"c{i}", seed=i) for i in range(3)]
    out = tmp_path / "out"
    assert predict_entries(known_network(run), entries[:2], out).predicted == ("c0", "c1")
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")}
    made_entry(tmp_path / "scans", "c1", seed=9)
    report = predict_entries(known_network(run), entries, out)
    assert (report.predicted, report.kept) == (("c1", "c2"), ("c0",))
    assert (out / "c0.nii.gz").stat().st_mtime_ns == times["c0.nii.gz"]
    (out / "c0.nii.gz").unlink()
    assert predict_entries(known_network(run), entries, out).predicted == ("c0",)


def test_other_weights_and_settings_are_refused(run: Path, tmp_path: Path) -> None:
    entries = [made_entry(tmp_path / "scans", "c0")]
    out = tmp_path / "out"
    predict_entries(known_network(run), entries, out)
    other = known_network(make_run(tmp_path / "other", seed=1))
    with pytest.raises(UsageError, match=r"out holds predictions with other weights \(of .*run\)"):
        predict_entries(other, entries, out)
    with pytest.raises(UsageError, match=r"another overlap \(0.5 and now 0.25\)"):
        predict_entries(known_network(run, "predict.overlap=0.25"), entries, out)
    assert predict_entries(known_network(run, "predict.window_batch=4"), entries, out).kept == ("c0",)
    assert predict_entries(other, entries, out, overwrite=True).predicted == ("c0",)
    assert predict_entries(other, entries, out, overwrite=True).kept == ("c0",)


def test_files_of_others_are_not_touched(run: Path, tmp_path: Path) -> None:
    entry = made_entry(tmp_path / "scans", "c0")
    with pytest.raises(UsageError, match=r"The prediction would replace .*c0.nii.gz"):
        predict_entries(known_network(run), [entry], tmp_path / "scans", overwrite=True)
    foreign = made_entry(tmp_path / "out", "c0").image
    before = foreign.read_bytes()
    with pytest.raises(UsageError, match=r"c0.nii.gz is there and was not written by voco predict"):
        predict_entries(known_network(run), [entry], tmp_path / "out")
    assert foreign.read_bytes() == before


def test_two_cases_of_one_name_are_refused_before_anything_is_done(run: Path, tmp_path: Path) -> None:
    entries = [made_entry(tmp_path / "a", "ct"), made_entry(tmp_path / "b", "ct")]
    with pytest.raises(UsageError, match=r"a/ct.nii.gz and .*b/ct.nii.gz would both be predicted as ct"):
        predict_entries(known_network(run), entries, tmp_path / "out")
    bad = entries[0].model_copy(update={"case": "../elsewhere"})
    with pytest.raises(UsageError, match="cannot be the name of a file"):
        predict_entries(known_network(run), [bad], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_scans_are_recorded_and_the_others_go_on(run: Path, tmp_path: Path) -> None:
    good, short, air = (made_entry(tmp_path / "scans", name) for name in ("good", "short", "air"))
    short.image.write_bytes(short.image.read_bytes()[:-200])
    write_nifti(air.image, np.full(SHAPE, -1000, dtype=np.int16), np.eye(4))
    gone = Entry(image=tmp_path / "gone.nii.gz", patient="gone")
    two = good.model_copy(update={"case": "two", "channels": (good.image,)})
    seen: list[tuple[str, bool]] = []
    report = predict_entries(
        known_network(run),
        [short, air, gone, two, good],
        tmp_path / "out",
        on_done=lambda entry, reason: seen.append((entry.name, reason is None)),
    )
    assert seen == [("short", False), ("air", False), ("gone", False), ("two", False), ("good", True)]
    assert report.predicted == ("good",)
    reasons = dict(report.failed)
    assert "short.nii.gz" in reasons["short"]
    assert "no voxel above preprocess.foreground_above" in reasons["air"]
    assert reasons["gone"].endswith("gone.nii.gz does not exist.")
    assert reasons["two"] == "two has 2 channels (good.nii.gz, good.nii.gz), and the network needs 1: image."
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"good.nii.gz", "labels.json", "prediction.json"}
    record = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert set(record["failed"]) == {"short", "air", "gone", "two"}


def test_channels_must_share_a_grid(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "task.channels=[t1, t2]", "preprocess.foreground_above=null")
    one, other = made_entry(tmp_path / "scans", "a_t1", "LPS"), made_entry(tmp_path / "scans", "a_t2", "LPS", seed=1)
    turned = made_entry(tmp_path / "scans", "b_t2", "LAS")
    both = Entry(image=one.image, channels=(other.image,), patient="a", case="a")
    apart = Entry(image=one.image, channels=(turned.image,), patient="b", case="b")
    report = predict_entries(known_network(run), [both, apart], tmp_path / "out")
    assert report.predicted == ("a",)
    assert dict(report.failed)["b"].startswith(f"{turned.image} lies on another grid than {one.image}")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), ValueError("odd")])
def test_whatever_a_scan_does_is_its_own_fault(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    real = segmentation.predict_case

    def fails_on_first(trained: Trained, entry: Entry) -> Any:
        if entry.name == "c0":
            raise error
        return real(trained, entry)

    monkeypatch.setattr(segmentation, "predict_case", fails_on_first)
    entries = [made_entry(tmp_path / "scans", f"c{i}") for i in range(2)]
    report = predict_entries(known_network(run), entries, tmp_path / "out")
    assert report.predicted == ("c1",)
    assert type(error).__name__ in report.failed[0][1]


def test_an_interruption_leaves_whole_files_and_a_record(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [made_entry(tmp_path / "scans", f"c{i}", seed=i) for i in range(3)]
    out, real = tmp_path / "out", segmentation.predict_case

    def stops_at_second(trained: Trained, entry: Entry) -> Any:
        if entry.name == "c1":
            raise KeyboardInterrupt
        return real(trained, entry)

    with monkeypatch.context() as patched:
        patched.setattr(segmentation, "predict_case", stops_at_second)
        with pytest.raises(KeyboardInterrupt):
            predict_entries(known_network(run), entries, out)
    assert {path.name for path in out.iterdir()} == {"c0.nii.gz", "labels.json", "prediction.json"}
    report = predict_entries(known_network(run), entries, out)
    assert (report.kept, report.predicted) == (("c0",), ("c1", "c2"))


def test_a_full_disk_ends_the_batch(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise ResourceError("The disk is full.")

    monkeypatch.setattr(segmentation, "write_scan", full)
    with pytest.raises(ResourceError, match="disk is full"):
        predict_entries(known_network(run), [made_entry(tmp_path / "scans", "c0")], tmp_path / "out")


def test_a_scan_too_large_for_the_memory_is_refused(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voco_cli.predict.memory.free_host_bytes", lambda: 1000)
    report = predict_entries(known_network(run), [made_entry(tmp_path / "scans", "c0")], tmp_path / "out")
    assert report.failed[0][1].startswith("c0 needs about")


def test_the_networks_own_weights_are_used(run: Path, tmp_path: Path) -> None:
    """Two loads of one run agree, and another seed's weights do not."""
    entry = made_entry(tmp_path / "scans", "c0")
    maps = []
    for number, path in enumerate((run, run, make_run(tmp_path / "other", seed=5))):
        predict_entries(load_trained(path), [entry], tmp_path / f"out{number}")
        maps.append(read_scan(tmp_path / f"out{number}" / "c0.nii.gz").array_zyx)
    np.testing.assert_array_equal(maps[0], maps[1])
    assert (maps[0] != maps[2]).any()


def test_a_file_in_place_of_the_folder(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    file.write_text("{}")
    with pytest.raises(UsageError, match=r"out.json is a file, not a folder for predictions"):
        predict_entries(load_trained(run, "cpu"), [], file)


PATCH = (16, 16, 16)


def segmented(stored_xyz: NDArray[Any], made: Preprocessed, network: Callable[[Tensor], Tensor]) -> NDArray[Any]:
    return segment(
        stored_xyz[None],
        made.record,
        network,
        patch_size=PATCH,
        predict=Predict(),
        device=torch.device("cpu"),
    )


def small_network(windows: Tensor) -> Tensor:
    weight = torch.linspace(-1, 1, 4 * 27).mul(40).sin().reshape(4, 1, 3, 3, 3).to(windows.device)
    return torch.nn.functional.conv3d(windows, weight, padding=1)


def test_equals_monai_and_literal_interpolation() -> None:
    made = preprocess(made_scan("IPL", turned=True), Preprocess(spacing_mm=(1.0, 1.5, 2.0)))
    stored = quantise(made.array_xyz, "uint8")
    volume = torch.from_numpy(stored).float()[None, None] / 255
    logits = sliding_window_inference(volume, PATCH, 1, small_network, overlap=0.5, mode="gaussian")[0]
    expected = literal_labels(logits, made.record)
    assert len(np.unique(expected)) == 4
    assert np.mean(segmented(stored, made, small_network) != expected) < 1e-4


def knows_the_label(windows: Tensor) -> Tensor:
    """Where the volume is a label map: its class, for certain."""
    return torch.nn.functional.one_hot((windows[:, 0] * 255).round().long(), 4).movedim(-1, 1)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "IPL", "ASR"])
def test_labels_come_back_where_they_were(codes: str) -> None:
    """A network that knows the label: exact at the scan's spacing, nearly at another."""
    scan = made_scan(codes)
    label = np.digitize(ndimage.gaussian_filter(scan.array_zyx.astype(np.float32), 1.5), (-600.0, 0.0, 120.0))
    label[np.clip((scan.array_zyx + 175.0) / 425, 0, 1) <= 0] = 0
    for settings, exact in ((Preprocess(), True), (Preprocess(spacing_mm=(1.0, 1.0, 1.5)), False)):
        made = preprocess(scan, settings)
        labels_xyz = preprocess_label(
            Scan(label.astype(np.uint8), scan.spacing_xyz_mm, scan.origin_xyz_mm, scan.direction, scan.path),
            made.record,
        )
        found = segmented(labels_xyz, made, knows_the_label)
        if exact:
            np.testing.assert_array_equal(found, label)
        for value in range(1, 4):
            both = np.count_nonzero((found == value) & (label == value))
            dice = 2 * both / (np.count_nonzero(found == value) + np.count_nonzero(label == value))
            assert dice > 0.95


def test_quantised_volume_reaches_the_network() -> None:
    scan = made_scan("LPS")
    made = preprocess(scan, Preprocess())
    stored = quantise(made.array_xyz, "uint8")
    found = segmented(stored, made, lambda windows: torch.cat([torch.full_like(windows, 0.5), windows], dim=1))
    inside = np.clip((scan.array_zyx + 175.0) / 425, 0, 1)
    np.testing.assert_array_equal(found, np.rint(inside * 255) > 127.5)


class LargestTensor(TorchDispatchMode):
    """Notes the most bytes that any tensor took."""

    nbytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.nbytes = max(self.nbytes, result.nbytes)
        return result


def test_never_all_classes_of_the_whole_volume() -> None:
    shape, classes = (20, 20, 160), 9
    hu = np.random.default_rng(0).integers(0, 100, shape).astype(np.int16)
    scan = Scan(np.ascontiguousarray(hu.T), (1.5, 1.5, 1.5), (0.0, 0.0, 0.0), np.eye(3), made_scan("RAS").path)
    made = preprocess(scan, Preprocess(spacing_mm=(1.0, 1.0, 1.0), foreground_above=None))
    stored = quantise(made.array_xyz, "uint8")
    with LargestTensor() as largest:
        found = segmented(stored, made, lambda windows: windows * torch.arange(9.0)[:, None, None, None])
    assert found.shape == scan.array_zyx.shape
    whole = 4 * classes * stored.size
    assert largest.nbytes == whole * PATCH[2] / made.record.shape_xyz[2]  # the sums, of one window's thickness


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_the_same() -> None:
    made = preprocess(made_scan("IPL", turned=True), Preprocess(spacing_mm=(1.0, 1.5, 2.0)))
    stored = quantise(made.array_xyz, "uint8")
    found = [
        segment(
            stored[None],
            made.record,
            small_network,
            patch_size=PATCH,
            predict=Predict(window_batch=3, flips=True),
            device=torch.device(device),
        )
        for device in ("cpu", "cuda")
    ]
    assert np.mean(found[0] != found[1]) < 1e-3
