"""Write tests/goldens/mmseg_metrics.npz and mmseg_resize.npz: answers of mmsegmentation 1.2.2, mmcv 2.1 and torchmetrics 1.9.

Run it through `python benchmarks/goldens.py`, which makes the environment it needs.

What surprises in the official code, all of it kept in the answers:

- mmsegmentation counts in float32 histograms and adds those of pictures in float32: whole up to 2^24 pixels of a class. "many" are 300
  pictures whose class 0 has more; the file holds its answers and the exact counts, so that the difference can be seen.
- A class that is neither true nor predicted has no IoU there, and `np.nanmean` leaves it out; with `nan_to_num=0` it counts as 0.
- A predicted label outside the classes is in no histogram: missed by the true class, and no class's mistake.
- torchmetrics leaves classes that never occur out of its macro mean, and its own ignore_index only of the truth.
- mmcv rounds sizes half up, and resizes bytes with OpenCV's 11-bit weights.

mmseg_metrics.npz holds labels and predictions, uint8 (255 is ignored; 254 predicted is no class), flat, with `sizes` [pictures, 2];
and of each implementation its answers. mmseg_resize.npz holds pictures, the resized ones, and of larger ones their SHA-256.
"""

import argparse
import hashlib
import importlib.util
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import mmseg
import numpy as np
import torch
from mmcv.transforms import Resize
from mmseg.evaluation.metrics.iou_metric import IoUMetric
from torchmetrics import JaccardIndex

GOLDENS = Path(__file__).resolve().parents[2] / "tests" / "goldens"
IGNORED, NONE = 255, 254
CLASSES = 9
# never true and never predicted; never true but predicted
NEVER, PREDICTED = 6, 7
SIZES = ((37, 50), (64, 48), (1, 90), (55, 55), (40, 33))
# (height, width) of pictures, and short side: whole, odd, enlarged, halved, long beyond what is allowed
SMALL = (((48, 64), 30), ((51, 37), 20), ((9, 200), 12), ((20, 20), 33), ((60, 90), 30), ((33, 47), 33))
LARGE = (((375, 500), 336), ((500, 334), 448), ((480, 640), 560), ((183, 1000), 560), ((1024, 2048), 560), ((672, 900), 336))
LONG_SMALL, LONG_LARGE = 160, 2048
Arrays = dict[str, Any]


def pictures() -> list[tuple[np.ndarray, np.ndarray]]:
    """(labels, predictions): blocks of classes, mistakes in a third of the pixels, ignored borders."""
    random = np.random.RandomState(0)
    found = []
    for height, width in SIZES:
        coarse = random.randint(0, CLASSES - 3, (-(-height // 8), -(-width // 8)))
        labels = coarse.repeat(8, 0).repeat(8, 1)[:height, :width].astype(np.uint8)
        wrong = random.rand(height, width) < 0.3
        guesses = random.choice([*range(NEVER), PREDICTED, NONE], (height, width))
        predicted = np.where(wrong, guesses, labels).astype(np.uint8)
        # one class is predicted only, the other is true only
        labels[labels == CLASSES - 4] = CLASSES - 1
        labels[random.rand(height, width) < 0.1] = IGNORED
        found.append((labels, predicted))
    return found


def mmseg_answers(found: list[tuple[np.ndarray, np.ndarray]], name: str, **options: Any) -> Arrays:
    metric = IoUMetric(ignore_index=IGNORED, iou_metrics=["mIoU"], **options)
    metric.dataset_meta = {"classes": [str(each) for each in range(CLASSES)]}
    for labels, predicted in found:
        maps = {"pred_sem_seg": {"data": torch.from_numpy(predicted)[None]}, "gt_sem_seg": {"data": torch.from_numpy(labels)[None]}}
        metric.process({}, [maps])
    areas = [list(each) for each in zip(*metric.results, strict=True)]
    by_class = metric.total_area_to_metrics(*map(sum, areas), ["mIoU"], options.get("nan_to_num"))
    printed = metric.compute_metrics(metric.results)
    return {
        f"{name}_areas": torch.stack([torch.stack(each).sum(0, dtype=torch.float64) for each in areas]).numpy(),
        f"{name}_iou": by_class["IoU"], f"{name}_acc": by_class["Acc"],
        f"{name}_means": np.array([np.nanmean(by_class[key]) for key in ("IoU", "Acc", "aAcc")], np.float32),
        f"{name}_printed": np.array([printed[key] for key in ("mIoU", "mAcc", "aAcc")], np.float64),
    }  # fmt: skip


def torchmetrics_answers(found: list[tuple[np.ndarray, np.ndarray]]) -> Arrays:
    answers = {}
    # predicted labels must be classes there
    kept = [(labels.ravel()[predicted.ravel() != NONE], predicted.ravel()[predicted.ravel() != NONE]) for labels, predicted in found]
    for average in ("macro", "none"):
        metric = JaccardIndex(task="multiclass", num_classes=CLASSES, ignore_index=IGNORED, average=average)
        for labels, predicted in kept:
            metric.update(torch.from_numpy(predicted).long(), torch.from_numpy(labels).long())
        answers[f"torchmetrics_{average}"] = metric.compute().numpy()
    return answers


def metrics() -> Arrays:
    found = pictures()
    many = [(np.zeros((251, 257), np.uint8), (np.arange(251 * 257) < 10007 + 37 * number).astype(np.uint8).reshape(251, 257))
            for number in range(300)]  # fmt: skip
    return {
        "sizes": np.array(SIZES), "labels": np.concatenate([labels.ravel() for labels, _ in found]),
        "predicted": np.concatenate([predicted.ravel() for _, predicted in found]),
        **mmseg_answers(found, "mmseg"), **mmseg_answers(found, "mmseg_zero", nan_to_num=0), **mmseg_answers(many, "many"),
        **torchmetrics_answers(found),
    }  # fmt: skip


def picture(size: tuple[int, int], seed: int) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (*size, 3), np.uint8)


def resized(size: tuple[int, int], short: int, most: int, seed: int) -> np.ndarray:
    return Resize(scale=(most, short), keep_ratio=True)({"img": picture(size, seed)})["img"]


def resizes() -> Arrays:
    small = {f"small_{i}": resized(size, short, LONG_SMALL, i) for i, (size, short) in enumerate(SMALL)}
    large = [resized(size, short, LONG_LARGE, i) for i, (size, short) in enumerate(LARGE)]
    logits = np.random.RandomState(9).standard_normal((1, 3, 7, 9)).astype(np.float32)
    # mmseg.models wants compiled operators that this file does not need
    place = Path(mmseg.__file__).parent / "models" / "utils" / "wrappers.py"
    spec = importlib.util.spec_from_file_location("wrappers", place)
    wrappers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(wrappers)
    larger = wrappers.resize(torch.from_numpy(logits), size=(20, 31), mode="bilinear", align_corners=False).numpy()
    digests = [hashlib.sha256(each.tobytes()).hexdigest() for each in large]
    return {**small, "large_sizes": np.array([each.shape[:2] for each in large]), "large_digests": np.array(digests),
            "logits": logits, "logits_resized": larger}  # fmt: skip


def write(folder: Path, name: str, arrays: Arrays, **more: Any) -> None:
    packages = {each: version(each) for each in ("mmsegmentation", "mmcv-lite", "torchmetrics", "torch", "numpy")}
    packages["opencv"] = cv2.__version__
    np.savez_compressed(folder / f"{name}.npz", **arrays, meta=np.array(json.dumps({"packages": packages, **more})))
    print(f"{name}: {(folder / f'{name}.npz').stat().st_size:,} bytes", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description="write the goldens of metrics and resizes")
    parser.add_argument("-o", "--out", type=Path, default=GOLDENS, help="folder of the files")
    folder = parser.parse_args().out
    cv2.setNumThreads(1)
    write(folder, "mmseg_metrics", metrics(), classes=CLASSES, ignored=IGNORED, none=NONE)
    write(folder, "mmseg_resize", resizes(), small=SMALL, large=LARGE, long=[LONG_SMALL, LONG_LARGE])


if __name__ == "__main__":
    main()
