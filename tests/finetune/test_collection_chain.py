"""A whole fine-tuning from weights that are said to be of a collection: told before it, with its figures, and after."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.finetune.test_seen_chain import Listening
from tests.finetune.tiny_task import TINY, make_data, tiny_finetune
from voco_cli.config import load_settings
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.data.index.trained_on import copy_manifest, manifest_of, read_manifest
from voco_cli.errors import VocoError
from voco_cli.training.callbacks import Callback
from voco_cli.workflows.compare import require_all_clean
from voco_cli.workflows.evaluate import measure_run, open_run
from voco_cli.workflows.finetune import run_finetuning


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data called as BTCV's are, weights without a list, and a run that starts from them."""
    folder = tmp_path_factory.mktemp("collection")
    tiny_finetune(make_data(folder / "data"), folder / "lab", "train.steps=2")
    shutil.copy(folder / "lab" / "weights" / "model.safetensors", folder / "lab.safetensors")
    return folder


def test_cases_that_a_collection_names_are_told_and_kept(chain: Path) -> None:
    callback, weights = Listening(), str(chain / "lab.safetensors")
    said = (f"model.weights={weights}", "model.weights_collection=prect_160k")
    tiny_finetune(chain / "data", chain / "second", "train.steps=2", *said, callback=callback)
    cases = tuple(entry.name for entry in read_datalist(chain / "second" / "data.json").validation)
    assert cases == ("img0035", "img0036")
    (finding,) = callback.told.leakage.collections
    assert (finding.trained, finding.public_set, finding.seen.collection) == (cases, "btcv", "prect_160k")
    folder = chain / "second" / "evaluation" / "validation"
    recorded = json.loads((folder / "summary.json").read_text())["leakage"]
    assert (recorded["clean"], recorded["found"][0]["cases"]) == (False, list(cases))
    sentence = f"all 2 evaluated cases were among the images of the pre-training of {weights} (prect_160k, set btcv)"
    assert sentence in (folder / "table.md").read_text()
    manifest = read_manifest(chain / "second" / "weights" / "seen.json")
    assert [one.collection for one in manifest.collections] == ["prect_160k"]
    assert [(stage.stage, len(stage)) for stage in manifest.stages] == [("fine-tuning", 3)]
    copy_manifest(chain / "second", chain / "given.pt")
    assert manifest_of(chain / "given.pt") == manifest

    measured = measure_run(chain / "second")
    assert measured is not None
    with pytest.raises(VocoError, match=r"^second: Data leakage: all 2 evaluated cases were among the images"):
        require_all_clean(["second"], [measured.evaluation.__class__.from_files(folder, *stored(folder))])
    assert open_run(chain / "second").settings.model.weights_collection == "prect_160k"


def stored(folder: Path) -> tuple[dict[str, object], str]:
    return json.loads((folder / "summary.json").read_text()), (folder / "cases.csv").read_text()


def test_clean_is_required_before_anything_is_trained(chain: Path) -> None:
    flags = {
        "data.root": chain / "data",
        "run.dir": chain / "refused",
        "model.weights": str(chain / "lab.safetensors"),
        "model.weights_collection": "prect_160k",
    }
    with pytest.raises(VocoError, match="all 2 evaluated cases were among the images") as refused:
        run_finetuning(load_settings(None, None, TINY, flags, task="btcv"), Callback(), clean=True)
    assert refused.value.exit_code == 1
    assert not list((chain / "refused" / "checkpoints").iterdir())
