"""`voco preview-labels` through the app: numbers, reference labels, pictures, refusals."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from voco_cli.cli.app import app
from voco_cli.data.synthetic import write_cts
from voco_cli.errors import UsageError, VocoError

REFERENCE = Path(
    os.environ.get(
        "VOCO_REFERENCE",
        Path(os.environ.get("VOCO_SHARED", Path(__file__).parents[2].parent / "shared")) / "reference" / "official",
    )
)
LABELS = REFERENCE / "position_labels.npz"
DEBUG = ("--recipe", "debug", "--set", "preprocess.resize_vox=96x96x24", "--set", "crops.size=24x24x24")
CONFIGURATIONS = ("cvpr", "tpami", "tpami_default4", "cvpr_small_roi", "cvpr_large_roi", "odd_roi")


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cts(tmp_path_factory.mktemp("scan"), 1, seed=0, shape_xyz=(64, 56, 16))[0]


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["preview-labels", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def run_json(*arguments: object) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(run(*arguments, "--json"))
    return record


def test_labels_by_hand(scan: Path) -> None:
    # debug: base crops of 24 voxels, 4x4. A crop around (30, 12) is [18, 42) x [0, 24): 6 voxels of x in the first
    # cell and 18 in the second. Around (24, 24) it is cut in four.
    record = run_json(scan, *DEBUG, "--at", "30,12", "--at", "24,24,12")
    first, second = (crop["labels"] for crop in record["crops"])
    assert {base: share for base, share in enumerate(first, start=1) if share} == {1: 0.25, 5: 0.75}
    assert {base: share for base, share in enumerate(second, start=1) if share} == {1: 0.25, 2: 0.25, 5: 0.25, 6: 0.25}
    assert [crop["centre"] for crop in record["crops"]] == [[30, 12, 12], [24, 24, 12]]
    assert record["crops"][0]["start"] == [18, 0, 0]
    assert record["bases"][5] == {"number": 6, "start": [24, 24, 0]}
    assert record["picture"] is None


def test_a_third_axis_is_the_same_by_volume(scan: Path) -> None:
    settings = (*DEBUG, "--grid", "4x4x2", "--set", "preprocess.resize_vox=96x96x48")
    record = run_json(scan, *settings, "--at", "30,12,18")
    shares = {base: share for base, share in enumerate(record["crops"][0]["labels"], start=1) if share}
    # z is [6, 30): three quarters in the lower layer; k = (ix * 4 + iy) * 2 + iz.
    assert shares == {1: 0.25 * 0.75, 2: 0.25 * 0.25, 9: 0.75 * 0.75, 10: 0.75 * 0.25}


def test_centres_are_voxels_of_the_volume_also_where_the_grid_is_a_part_of_it(scan: Path) -> None:
    settings = (*DEBUG, "--grid", "2x2", "--seed", 5)
    start = run_json(scan, *settings)["region_start"]
    assert start[0] > 0
    at = f"{start[0] + 12},{start[1] + 30}"
    crop = run_json(scan, *settings, "--at", at)["crops"][0]
    assert crop["centre"][:2] == [start[0] + 12, start[1] + 30]
    assert crop["labels"] == [0.25, 0.75, 0.0, 0.0]


def test_the_same_seed_draws_the_same_and_options_count(scan: Path) -> None:
    first = run_json(scan, *DEBUG, "--crops", 7, "--seed", 3)
    assert first == run_json(scan, *DEBUG, "--crops", 7, "--seed", 3)
    assert len(first["crops"]) == 7
    assert first["crops"] != run_json(scan, *DEBUG, "--crops", 7, "--seed", 4)["crops"]
    assert all(sum(crop["labels"]) == pytest.approx(1, abs=1e-12) for crop in first["crops"])


@pytest.mark.skipif(not LABELS.is_file() or os.environ.get("CI") == "true", reason=f"{LABELS} is not at hand")
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_labels_equal_those_of_the_released_code(scan: Path, name: str) -> None:
    with np.load(LABELS) as reference:
        crop, base, grid, extent = (int(value) for value in reference[f"{name}_params"])
        centres, labels = reference[f"{name}_centers"], reference[f"{name}_labels"]
    record = run_json(
        scan,
        *("--recipe", "cvpr", "--grid", f"{grid}x{grid}", "--set", "crops.odd_box=floored"),
        *("--set", f"crops.size={crop}x{crop}x8", "--set", f"crops.base_size={base}x{base}x8"),
        *("--set", f"preprocess.resize_vox={extent}x{extent}x8"),
        *(part for x, y in centres for part in ("--at", f"{x},{y}")),
    )
    found = np.array([entry["labels"] for entry in record["crops"]])
    assert found.shape == labels.shape
    assert len(found) > 300
    np.testing.assert_allclose(found, labels, rtol=0, atol=1e-12)


def test_table_and_picture(scan: Path, tmp_path: Path) -> None:
    output = run(scan, *DEBUG, "--at", "30,12", "-o", tmp_path / "picture.png", "--augmented")
    assert "1:\N{NO-BREAK SPACE}0.250" in output
    assert "5:\N{NO-BREAK SPACE}0.750" in output
    assert f"wrote {tmp_path / 'picture.png'}" in output.replace("\n", "")
    assert "next: voco index" in output
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_the_default_picture_lies_where_one_works(scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = tmp_path / "$a_b$<x>[red].nii.gz"
    hostile.write_bytes(scan.read_bytes())
    monkeypatch.chdir(tmp_path)
    output = run(hostile, *DEBUG)
    assert "$a_b$<x>[red].nii.gz: 96x96x24 voxels" in output
    assert (tmp_path / "$a_b$<x>[red]_labels.png").is_file()


def test_augmentation_is_told_in_full(scan: Path) -> None:
    flips = ("--set", "augment.flip_prob=1", "--set", "augment.rotate_prob=1", "--set", "augment.shift_prob=1")
    record = run_json(scan, *DEBUG, "--augmented", *flips)
    for entry in [*record["crops"], *record["bases"]]:
        change = entry["augmentation"]
        assert change["flip"] == [True, True, True]
        assert change["quarter_turns"] in (1, 2, 3)
        assert 0 < abs(change["shift"]) <= 0.1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--grid", "5x5"), "does not fit"),
        (("--grid", "5x5", "--set", "preprocess.resize_vox=null"), "less than the 120x120x24"),
        (("--at", "5,12"), "partly outside the grid"),
        (("--at", "30,12,13"), "along z partly outside"),
        (("--at", "30"), "--at 30 is not the centre"),
        (("--at", "30,1.5"), "is not the centre"),
        (("--recipe", "nothing"), "nothing"),
        (("-o", "picture.txt"), "picture.txt does not end like a picture"),
    ],
)
def test_wrong_use_is_one_sentence(scan: Path, arguments: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        run(scan, *DEBUG, "--json", *arguments)
    assert caught.value.exit_code == 2
    assert "\n" not in caught.value.message


def test_a_grid_the_recipe_was_not_made_for_shares_out_its_volume(scan: Path) -> None:
    record = run_json(scan, "--recipe", "cvpr", "--grid", "4x4x2")
    assert [base["start"] for base in record["bases"][:3]] == [[0, 0, 0], [0, 0, 48], [0, 96, 0]]
    assert len(record["bases"]) == 32


def test_a_missing_scan_is_named(tmp_path: Path) -> None:
    with pytest.raises(VocoError, match=r"absent\.nii\.gz"):
        run(tmp_path / "absent.nii.gz")


def test_a_grid_that_is_none_is_wrong_use(scan: Path) -> None:
    with pytest.raises(UsageError, match=r"crops\.grid"):
        run(scan, *DEBUG, "--grid", "four")


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data.json of two MR scans; relative paths, as `voco index` writes them."""
    monkeypatch.chdir(tmp_path)
    images = write_cts(tmp_path, 2, seed=0, shape_xyz=(64, 56, 16))
    items = [
        {"image": f"imagesTr/{path.name}", "patient": str(number), "modality": "MR"}
        for number, path in enumerate(images)
    ]
    (tmp_path / "data.json").write_text(json.dumps({"training": items}))
    return tmp_path / "data.json"


def test_a_list_shows_its_first_scan_or_the_case_that_is_named(listed: Path) -> None:
    first, second = (path.name for path in sorted((listed.parent / "imagesTr").iterdir()))
    case = second.removesuffix("_0000.nii.gz")
    assert run(listed, *DEBUG, "-o", "first.png").startswith(f"{first}: 96x96x24 voxels")
    assert run(listed, *DEBUG, "--case", case, "-o", "second.png").startswith(f"{second}: 96x96x24 voxels")
    assert Path("first.png").stat().st_size > 0
    with pytest.raises(UsageError) as unknown:
        run(listed, *DEBUG, "--case", "nobody")
    assert "nobody" in unknown.value.message


def test_a_list_says_that_its_scans_are_mr_and_what_is_next(listed: Path) -> None:
    result = CliRunner().invoke(app, ["preview-labels", "data.json", *DEBUG])
    assert result.exit_code == 0, result.output
    assert "MR is not in HU: each scan is scaled by its own percentiles 0.5 to 99.5" in result.stderr
    assert result.stdout.splitlines()[-1].startswith("next: voco pretrain data.json --recipe debug")
    plain = CliRunner().invoke(app, ["preview-labels", "data.json", *DEBUG, "--set", "preprocess.intensity=window"])
    assert "as it was asked for" in plain.stderr
