"""The figures of a run by name: their titles and definitions."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MEASURES", "Measure", "main_measure"]


@dataclass(frozen=True)
class Measure:
    """One figure. title: its head in a table. about: its definition in a few words. low: the least value; the greatest is 1."""

    title: str
    about: str
    low: float = 0.0


MEASURES = {
    "miou": Measure("mIoU", "IoU over the pixels of all pictures, mean over classes that are true or predicted (mmsegmentation)"),
    "miou_true": Measure("mIoU of true classes", "the same over classes that are true somewhere (CLIPer)"),
    "miou_all": Measure("mIoU of all classes", "the same over all classes, 0 for one that never occurs (torchmetrics before 1.0)"),
    "picture_miou": Measure("mIoU per picture", "IoU in each picture over its true or predicted classes, mean over pictures"),
    "pixel_accuracy": Measure("pixel accuracy", "share of the pixels that are right"),
    "class_accuracy": Measure("class accuracy", "share of each class's pixels that are right, mean over classes"),
    "iou": Measure("IoU per question", "IoU of the thresholded map with the mask, mean over questions"),
    "two_class_iou": Measure("mIoU of two classes", "mean of foreground's and background's IoU, over all pixels (Chefer et al.)"),
    "f1": Measure("F1", "F1 of the thresholded map's pixels, mean over questions"),
    "f1_rows": Measure("F1 of rows", "F1 of each row of pixels, 0 where it has none, mean over rows, then over questions (Chefer et al.)"),
    "auc": Measure("AUC", "area under the ROC curve of the map as a score of the mask's pixels, mean over questions"),
    "ap": Measure("AP", "average precision of the map as a score of the mask's pixels, mean over questions"),
    "ap_both": Measure("mAP", "average precision of map and 1 - map for mask and its opposite, mean over questions (Chefer et al.)"),
    "msc": Measure("mSC", "mean of the map inside the mask minus its mean outside, mean over questions; below 0 the map is opposite", -1.0),
    "hit": Measure("pointing", "share of the questions whose map has its peak on the thing"),
    "hit_near": Measure("pointing within 15 px", "share of the questions whose peak is less than 15 pixels from the thing"),
    "point_iou": Measure("p-mIoU", "IoU over the points of each question, mean over questions"),
    "point_iou_both": Measure("p-mIoU, both sides", "mean of foreground's and background's IoU over the points, mean over questions"),
    "point_iou_classes": Measure("p-mIoU over the set", "IoU of each class over the points of all pictures, mean over classes"),
}  # fmt: skip


def main_measure(task: str, absent: str, threshold: float | str, known: set[str]) -> str:
    """The name of the figure that a protocol reports first, of the known ones; "" where there is none.

    task, absent, threshold: fields of the protocol.
    """
    if task == "labels":
        order = ["miou_true" if absent == "truth" else "miou"]
    else:
        order = ["two_class_iou"] if threshold == "mean" else ["point_iou", "iou", "hit"]
    return next((name for name in order if name in known), "")
