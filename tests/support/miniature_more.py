"""True layouts in miniature of sets that are not label sets of the published tables: scenes of the quality set with exact masks."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from fastloc.evaluation.samples import DataSet, Sample
from fastloc.evaluation.sets.more import MORE
from gpu_parts.scenes import Scene, quality_set

# synsets of ImageNet of things that the scenes hold; others get numbers that WordNet does not have
SYNSETS = {"cat": "n02121620", "dog": "n02084071"}
IGNORED = 255
CATEGORIES = [{"id": 1, "name": "object"}]


def scenes() -> tuple[Scene, ...]:
    """Four scenes: two square, one wide, one tall."""
    return quality_set()[2:6]


def classes(drawn: Sequence[Scene]) -> list[str]:
    return sorted({thing for scene in drawn for thing in scene.things})


def labels(scene: Scene, names: Sequence[str]) -> NDArray[np.uint8]:
    """0 where there is nothing, 1 + the name's index elsewhere."""
    made = np.zeros(scene.masks.shape[1:], np.uint8)
    for thing, mask in zip(scene.things, scene.masks, strict=True):
        made[mask] = 1 + names.index(thing)
    return made


def box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def save_pictures(folder: Path, drawn: Sequence[Scene], name: str = "{:012}.png") -> list[str]:
    folder.mkdir(parents=True)
    names = [name.format(number) for number in range(1, len(drawn) + 1)]
    for file, scene in zip(names, drawn, strict=True):
        scene.picture.save(folder / file, quality=100)
    return names


def write_folder(root: Path, drawn: Sequence[Scene]) -> None:
    """Pictures, palette masks with a frame of ignored pixels, and names.txt with a synonym."""
    from PIL import Image

    names = classes(drawn)
    files = save_pictures(root / "pictures", drawn)
    (root / "masks").mkdir()
    for file, scene in zip(files, drawn, strict=True):
        numbers = labels(scene, names)
        numbers[[0, -1]] = numbers[:, [0, -1]] = IGNORED
        mask = Image.fromarray(numbers, "P")
        mask.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
        mask.save(root / "masks" / file)
    lines = ["background, backdrop", *names]
    (root / "names.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_coco(root: Path, drawn: Sequence[Scene]) -> None:
    """COCO's layout: run lengths as text of single objects, as numbers of crowds."""
    names = classes(drawn)
    files = save_pictures(root / "val2017", drawn)
    annotations = []
    for number, scene in enumerate(drawn, 1):
        height, width = scene.masks.shape[1:]
        for thing, mask in zip(scene.things, scene.masks, strict=True):
            runs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
            x0, y0, x1, y1 = box(mask)
            crowd = len(annotations) % 2
            annotations.append({
                "id": 100 + len(annotations), "image_id": number, "category_id": 7 * (1 + names.index(thing)), "iscrowd": crowd,
                "bbox": [x0, y0, x1 - x0, y1 - y0], "area": int(mask.sum()),
                "segmentation": {"size": [height, width], "counts": runs_of(mask) if crowd else runs["counts"].decode()},
            })  # fmt: skip
    content = {
        "info": {}, "licenses": [], "annotations": annotations,
        "images": [{"id": number, "file_name": file, "height": scene.masks.shape[1], "width": scene.masks.shape[2]}
                   for number, (file, scene) in enumerate(zip(files, drawn, strict=True), 1)],
        "categories": [{"id": 7 * number, "name": name, "supercategory": ""} for number, name in enumerate(names, 1)][::-1],
    }  # fmt: skip
    (root / "annotations").mkdir()
    write_json(root / "annotations" / "instances_val2017.json", content)


def runs_of(mask: NDArray[np.bool_]) -> list[int]:
    """COCO's run lengths as numbers: down the columns, beginning with pixels outside."""
    flat = np.concatenate([[False], mask.T.ravel(), [mask.T.ravel()[-1] ^ True]])
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], ends])).tolist()


def write_imagenet_segmentation(root: Path, drawn: Sequence[Scene]) -> list[tuple[str, str]]:
    """gtsegs_ijcv.mat, as MATLAB 7.3 writes a struct of cells, of each scene's first thing, and names.txt. Returns (id, thing) of each."""
    reference = h5py.special_dtype(ref=h5py.Reference)
    rows = []
    root.mkdir(parents=True, exist_ok=True)
    with h5py.File(root / "gtsegs_ijcv.mat", "w", userblock_size=512) as file:
        value, kept = file.create_group("value"), file.create_group("#refs#")
        fields = {name: value.create_dataset(name, (len(drawn), 1), reference) for name in ("img", "gt", "id", "target")}

        def stored(array: NDArray[np.generic], kind: bytes) -> h5py.Reference:
            made = kept.create_dataset(f"r{len(kept)}", data=array, compression="gzip")
            made.attrs["MATLAB_class"] = np.bytes_(kind)
            return made.ref

        for index, scene in enumerate(drawn):
            synset = SYNSETS.get(scene.things[0], f"n{90_000_000 + index}")
            key = f"{synset}_{index + 100}"
            fields["img"][index, 0] = stored(np.asarray(scene.picture).transpose(2, 1, 0), b"uint8")
            cell = kept.create_dataset(f"r{len(kept)}", (1, 1), reference)
            cell[0, 0] = stored(scene.masks[0].T.astype(np.uint8), b"uint8")
            fields["gt"][index, 0] = cell.ref
            for name, text in (("id", key), ("target", synset)):
                fields[name][index, 0] = stored(np.frombuffer(text.encode("utf-16-le"), np.uint16)[:, None], b"char")
            rows.append((key, scene.things[0]))
    with open(root / "gtsegs_ijcv.mat", "r+b") as header:
        header.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    lines = dict.fromkeys(f"{key[:9]} {thing}, something else" for key, thing in rows)
    (root / "names.txt").write_text("\n".join(lines), encoding="utf-8")
    return rows


def write_open_images(root: Path, drawn: Sequence[Scene], each: int = 6) -> None:
    """The validation part: yes and no points of each thing, an unsure one, and a label without a yes; half the names in their own file."""
    names, rng = classes(drawn), np.random.default_rng(0)
    files = save_pictures(root / "validation", drawn, "{:016x}.jpg")
    header = ("ImageId", "X", "Y", "Label", "EstimatedYesNo", "Source", "YesVotes", "NoVotes", "UnsureVotes", "TextLabel")
    rows: list[tuple[object, ...]] = []
    for file, scene in zip(files, drawn, strict=True):
        height, width = scene.masks.shape[1:]
        for thing, mask in zip(scene.things, scene.masks, strict=True):
            index = names.index(thing)
            text = thing if index % 2 else ""
            for inside in (True, False):
                found = np.argwhere(mask == inside)
                for row, column in found[rng.integers(0, len(found), each)]:
                    point = (f"{(column + 0.5) / width:.6f}", f"{(row + 0.5) / height:.6f}")
                    rows.append((file[:-4], *point, f"/m/{index:05}", "yes" if inside else "no", "ih", 3, 0, 0, text))
            rows.append((file[:-4], 0.5, 0.5, f"/m/{index:05}", "unsure", "ih", 1, 1, 1, text))
        rows.append((file[:-4], 0.25, 1, "/m/nowhere", "no", "ih", 0, 3, 0, ""))
    with open(root / "oidv7-val-annotations-point-labels.csv", "w", encoding="utf-8", newline="") as points:
        csv.writer(points).writerows([header, *rows])
    with open(root / "oidv7-class-descriptions.csv", "w", encoding="utf-8", newline="") as described:
        csv.writer(described).writerows([("LabelName", "DisplayName"), *((f"/m/{index:05}", name) for index, name in enumerate(names))])


def phrases(drawn: Sequence[Scene]) -> list[tuple[int, str, tuple[int, int, int, int]]]:
    """(scene, phrase, box) of each thing."""
    return [
        (number, f"the {thing}", box(mask))
        for number, scene in enumerate(drawn) for thing, mask in zip(scene.things, scene.masks, strict=True)
    ]  # fmt: skip


def write_phrases(root: Path, drawn: Sequence[Scene], form: str) -> None:
    """Phrases of each thing in one of the published forms: "own", "mdetr", "qwen" or "refs"."""
    files = save_pictures(root / "train2014", drawn, "COCO_train2014_{:012}.jpg")
    images = [{"id": number, "file_name": file, "height": scene.masks.shape[1], "width": scene.masks.shape[2]}
              for number, (file, scene) in enumerate(zip(files, drawn, strict=True))]  # fmt: skip
    asked = [(number, phrase, (x0, y0, x1, y1), [x0, y0, x1 - x0, y1 - y0]) for number, phrase, (x0, y0, x1, y1) in phrases(drawn)]
    objects = [{"id": index, "image_id": number, "category_id": 1, "bbox": size} for index, (number, _, _, size) in enumerate(asked)]
    if form == "own":
        entries = [{"picture": files[number], "phrase": phrase, "box": corners} for number, phrase, corners, _ in asked]
        write_json(root / "phrases.json", entries)
    elif form == "mdetr":
        captioned = [images[number] | {"id": index, "caption": phrase, "dataset_name": "refcoco", "original_id": number}
                     for index, (number, phrase, _, _) in enumerate(asked)]  # fmt: skip
        moved = [each | {"image_id": each["id"]} for each in objects]
        write_json(root / "finetune_refcoco_val.json", {"images": captioned, "annotations": moved, "categories": CATEGORIES})
    elif form == "qwen":
        lines = [{"image": f"data/coco/train2014/{files[number]}", "sent": phrase, "bbox": corners, "height": 160, "width": 160}
                 for number, phrase, corners, _ in asked]  # fmt: skip
        (root / "refcoco_val.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    else:
        refs = [{"ref_id": index, "ann_id": index, "image_id": number, "file_name": f"COCO_train2014_{index}.jpg", "split": "val",
                 "category_id": 1, "sent_ids": [index], "sentences": [{"sent_id": index, "sent": phrase, "raw": phrase, "tokens": []}]}
                for index, (number, phrase, _, _) in enumerate(asked)]  # fmt: skip
        # of another split, and of a picture that the folder does not have
        refs.append(refs[0] | {"split": "train", "image_id": 99})
        write_json(root / "refs(unc).json", refs)
        write_json(root / "instances.json", {"images": images, "annotations": objects, "categories": CATEGORIES})


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def opened(name: str, root: Path, **options: str) -> DataSet:
    """The set in a folder that lacks nothing."""
    assert MORE[name].missing(name, root, options) == []
    found = MORE[name].open(name, root, options)
    assert (found.name, found.task) == (name, MORE[name].task)
    return found


def samples(found: DataSet) -> list[Sample]:
    """All samples of a set of the scenes, in its order."""
    read = [found.read(item) for item in found.items()]
    assert len({sample.key for sample in read}) == len(read) == len(scenes())
    assert [sample.key for sample in read] == [item.key for item in found.items()]
    return read


def in_mat(change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        with h5py.File(root / "gtsegs_ijcv.mat", "r+") as file:
            change(file)

    return write


def pointed(file: h5py.File, field: str, array: np.ndarray) -> None:
    """Let a field of the first picture refer to another array."""
    made = file["#refs#"].create_dataset(f"other {field}", data=array)
    if field == "gt":
        file[file["/value/gt"][0, 0]][0, 0] = made.ref
    else:
        file[f"/value/{field}"][0, 0] = made.ref
