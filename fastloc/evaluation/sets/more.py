"""Rows of data sets that are not label sets of the published tables: your own folder and files, questions, points and boxes."""

from __future__ import annotations

from fastloc.evaluation.sets import coco_json, folder, imagenet_segmentation, open_images, referring
from fastloc.evaluation.sets.files import checked
from fastloc.evaluation.sets.row import SetRow

__all__ = ["MORE"]

MORE: dict[str, SetRow] = {
    "folder": SetRow(
        reader=folder.Folder, check=checked(folder.Folder), task="labels", layout=folder.LAYOUT, options=folder.OPTIONS,
        about="a folder of your own: pictures, index masks and names",
    ),
    "coco-json": SetRow(
        reader=coco_json.CocoLabels, check=checked(coco_json.CocoLabels), task="labels", background=True, layout=coco_json.LAYOUT,
        options={
            **coco_json.OPTIONS,
            "unlabelled": "background: pixels of no object are class 0; ignore: no metric counts them (default: background)",
        },
        about="pictures of your own with objects in a COCO file, as labels of pixels",
    ),
    "coco-boxes": SetRow(
        reader=coco_json.CocoBoxes, check=checked(coco_json.CocoBoxes), task="questions", layout=coco_json.LAYOUT,
        options=coco_json.OPTIONS, pictures=4952, classes=80,
        about="COCO's boxes: each category of a picture is asked, and any of its boxes answers",
    ),
    "imagenet-segmentation": SetRow(
        reader=imagenet_segmentation.ImageNetSegmentation, check=checked(imagenet_segmentation.ImageNetSegmentation), task="questions",
        layout=imagenet_segmentation.LAYOUT, options=imagenet_segmentation.OPTIONS, pictures=4276, classes=445,
        about="ImageNet-Segmentation: the object of each picture's class, in gtsegs_ijcv.mat",
    ),
    "open-images": SetRow(
        reader=open_images.OpenImages, check=checked(open_images.OpenImages), task="questions", layout=open_images.LAYOUT,
        options=open_images.OPTIONS, pictures=36_702,
        about="OpenImages-V7, validation: people's yes and no at points",
    ),
    "refcoco": SetRow(
        reader=referring.Referring, check=checked(referring.Referring), task="questions", layout=referring.LAYOUT,
        options=referring.OPTIONS,
        about="RefCOCO, RefCOCO+, RefCOCOg and phrases of your own: each refers to one box",
    ),
}  # fmt: skip
