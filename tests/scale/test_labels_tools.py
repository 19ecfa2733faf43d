"""Labels as the tools themselves read them, each in an environment of its own.

FASTLOC_LABEL_TOOLS names the folder of these environments; without it the tests are skipped. To make them, with Python 3.11:

    for tool in ultralytics label-studio-sdk "fiftyone mongomock"; do
        python -m venv envs/${tool%% *} && envs/${tool%% *}/bin/pip install $tool
    done
    FASTLOC_LABEL_TOOLS=$PWD/envs python -m pytest tests/scale/test_labels_tools.py -rs

fiftyone keeps data sets in MongoDB: FIFTYONE_DATABASE_URI names a server; without it mongomock stands in for one. Read by these versions:
ultralytics 8.4.190, label-studio-sdk 2.1.2, fiftyone 1.22.1 with mongomock 4.3.0.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from fastloc.scale.labels.convert import convert
from label_rows import TEXTS, comparable, drawn, objects, save_pictures, write_batch
from repo import REPO

ENVIRONMENTS = os.environ.get("FASTLOC_LABEL_TOOLS")
pytestmark = [
    pytest.mark.skipif(ENVIRONMENTS is None, reason="FASTLOC_LABEL_TOOLS names no folder of environments; see this file's docstring"),
    pytest.mark.slow("a process that imports a large package"),
]
READERS = REPO / "tests/support/label_readers"


def read(tool: str, *arguments: object) -> Any:
    """A tool's own reading of an output."""
    python = Path(str(ENVIRONMENTS)).absolute() / tool / "bin/python"
    if not python.exists():
        pytest.skip(f"{python} is not there; see this file's docstring")
    script = READERS / f"{tool.removesuffix('-sdk').replace('-', '_')}_reader.py"
    done = subprocess.run([python, script, *map(str, arguments)], capture_output=True, text=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def pixels(shape: list[int], bits: str) -> Any:
    """A mask as the readers print it."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(bits), np.uint8), count=shape[0] * shape[1]).reshape(shape[:2]).astype(bool)


@pytest.mark.parametrize("masks", [True, False])
def test_ultralytics(tmp_path: Path, masks: bool) -> None:
    pictures = [each for each in drawn() if "#" not in each.key]
    save_pictures(tmp_path / "pictures", pictures)
    write_batch(tmp_path / "out", pictures, masks=masks)
    convert(tmp_path / "out", "yolo", tmp_path / "yolo", images=str(tmp_path / "pictures"))
    found = read("ultralytics", tmp_path / "yolo")
    assert found["names"] == {str(index): text for index, text in enumerate(TEXTS)}
    by_picture = {Path(each["image"]): each for each in found["pictures"]}
    assert len(by_picture) == len(pictures)
    for picture in pictures:
        each, expected = by_picture[(tmp_path / "pictures" / picture.key).resolve()], objects(picture)
        assert (each["missing"], each["found"], each["corrupt"], each["message"]) == (0, 1, 0, "")
        assert each["empty"] == (not expected) and tuple(each["shape"]) == picture.masks[0].shape
        # the reader drops a label that is there twice; none is
        assert each["classes"] == [index for index, _, _ in expected]
        for (_, (x, y, width, height), region), bits in zip(expected, each["masks"], strict=True):
            truth = ndimage.binary_fill_holes(region) if masks else np.zeros_like(region)
            if not masks:
                truth[y : y + height, x : x + width] = True
            got = pixels(each["shape"], bits)
            # it fills the pixels that an edge touches, too
            near = ndimage.binary_dilation(truth, np.ones((3, 3)), iterations=2)
            assert not (got & ~near).any()
            assert not (ndimage.binary_erosion(truth, np.ones((3, 3)), border_value=1) & ~got).any()


@pytest.mark.parametrize("masks", [True, False])
def test_label_studio(tmp_path: Path, masks: bool) -> None:
    write_batch(tmp_path / "out", drawn(), masks=masks)
    convert(tmp_path / "out", "label-studio", tmp_path / "tasks")
    found = read("label-studio-sdk", tmp_path / "tasks")
    assert found["labels"] == {name: list(TEXTS) for name in (("box", "mask") if masks else ("box",))}
    for task, picture in zip(found["tasks"], drawn(), strict=True):
        assert task["valid"] and not task["errors"] and task["data"]["image"] == picture.key
        height, width = picture.masks[0].shape
        expected = objects(picture)
        assert [TEXTS.index(each[0]) for each in task["boxes"]] == [index for index, _, _ in expected]
        sides = [np.multiply(each[1:5], (width, height) * 2) / 100 for each in task["boxes"]]
        assert np.allclose(np.reshape(sides, (-1, 4)), np.reshape([box for _, box, _ in expected], (-1, 4)))
        assert len(task["masks"]) == (len(expected) if masks else 0)
        for (name, shape, bits, values), (index, _, region) in zip(task["masks"], expected, strict=False):
            assert name.startswith(f"mask-{TEXTS[index]}-") and set(values) <= {0, 255}
            assert (pixels(shape, bits) == region).all()


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("named", [True, False], ids=["images", "rel_dir"])
def test_fiftyone(tmp_path: Path, masks: bool, named: bool) -> None:
    write_batch(tmp_path / "out", drawn(), masks=masks)
    where = tmp_path / "pictures"
    convert(tmp_path / "out", "fiftyone", tmp_path / "found", images=str(where) if named else "")
    found = read("fiftyone", tmp_path / "found", *([] if named else [where]))
    assert found["classes"] == {"predictions": list(TEXTS)} and found["info"] == {"method": "gem", "model": "embedded"}
    assert {"key", "predictions.detections.heat", "predictions.detections.mask"} <= set(found["fields"])
    for sample, picture in zip(found["samples"], drawn(), strict=True):
        height, width = picture.masks[0].shape
        assert (sample["key"], sample["path"], sample["size"]) == (picture.key, str(where / picture.key), [height, width])
        read_objects = []
        for label, box, confidence, heat, mask in sample["detections"]:
            index, (x, y, w, h) = TEXTS.index(label), np.rint(np.multiply(box, (width, height) * 2)).astype(int).tolist()
            assert confidence == pytest.approx(picture.scores[index]) and heat == pytest.approx(0.6, abs=0.31)
            whole = np.zeros((height, width), bool)
            whole[y : y + h, x : x + w] = True if mask is None else pixels(*mask)
            read_objects.append((index, [x, y, w, h], whole))
            assert (mask is None) == (not masks)
        if masks:
            assert comparable(read_objects) == comparable(objects(picture))
        else:
            assert [each[:2] for each in read_objects] == [each[:2] for each in objects(picture)]
