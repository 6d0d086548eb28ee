"""Predictions of scans in an object store, into an object store."""

from __future__ import annotations

from pathlib import Path

from tests.predict.test_segmentation import made_entry
from tests.stores import Traffic
from tests.tasks.made_run import known_network, make_run
from voco_cli.atomic_files import write_atomic
from voco_cli.object_stores import location, objects_below
from voco_cli.predict.segmentation import predict_entries


def test_predictions_in_a_store_are_those_on_a_disk_and_are_kept(tmp_path: Path, s3: Traffic) -> None:
    trained = known_network(make_run(tmp_path / "run"))
    local = [made_entry(tmp_path / "scans", f"c{number}", seed=number) for number in range(2)]
    remote = []
    for entry in local:
        image = location(f"s3://scans/new/{entry.image.name}")
        write_atomic(image, entry.image.read_bytes())
        remote.append(entry.model_copy(update={"image": image}))
    assert predict_entries(trained, local, tmp_path / "out").predicted == ("c0", "c1")
    out = location("s3://scans/out")
    assert predict_entries(trained, remote[:1], out).predicted == ("c0",)
    report = predict_entries(trained, remote, out)
    assert (report.predicted, report.kept, report.failed) == (("c1",), ("c0",), ())
    assert report.written == (out / "labels.json", out / "prediction.json")
    assert [path.name for path in objects_below(out)] == ["c0.nii.gz", "c1.nii.gz", "labels.json", "prediction.json"]
    for entry in local:
        name = f"{entry.name}.nii.gz"
        assert (out / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    (out / "c0.nii.gz").unlink()
    assert predict_entries(trained, remote, out).predicted == ("c0",)
