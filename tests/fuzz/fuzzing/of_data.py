"""Targets of data: text embeddings, Parquet files, tar files, folders of a batch, COCO's annotations."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

from fuzzing.mutators import edited, json_text, safetensors, tar, zipped
from fuzzing.target import Target, written


def _embeddings(suffix: str) -> list[bytes]:
    import numpy as np

    from fastloc.text.embeddings import TextEmbeddings

    made = TextEmbeddings(("cat", "dog"), np.eye(2, 4, dtype=np.float32), "a photo of a {}", "b" * 64)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        made.save(path)
        return [path.read_bytes()]


def _embedded(suffix: str) -> Any:
    def run(content: bytes, folder: Path) -> object:
        from fastloc.text.embeddings import TextEmbeddings

        return TextEmbeddings.load(written(folder, f"embeddings{suffix}", content))

    return run


def _array(draw: Any, content: bytes, others: Any) -> bytes:
    """An .npy whose head is changed as text, behind its own length."""
    size = int.from_bytes(content[8:10], "little")
    if draw.random() < 0.3 or not content.startswith(b"\x93NUMPY"):
        return edited(draw, content, others)
    head = content[10 : 10 + size]
    shapes = (b"(-1,)", b"(0,)", b"(9999999999,)", b"((),)", b"(" * 90, b"(True, 2)", b"(4611686018427387904, 4)")
    kinds = (b"'|O'", b"'<U9'", b"'|S0'", b"[('a', '<f4')]", b"'<M8[ns]'", b"'|V4'", b"'>f4'", b"'<f16'", b"'<c8'", b"'<U999999999'", b"[]")
    begin = head.find(b"'shape': ") + 9
    head = draw.choice((
        head[:begin] + draw.choice(shapes) + b", }\n", head.replace(b"'<f4'", draw.choice(kinds)), head.replace(b"False", b"True"),
        edited(draw, head, others),
    ))  # fmt: skip
    return content[:8] + (len(head) % 65536).to_bytes(2, "little") + head + content[10 + size :]


def _tables() -> list[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from fastloc.scale.rows import FORMAT, KEY

    part = {"format": FORMAT, "keys": "a" * 64, "settings": "b" * 64, "pictures": 2, "failed": 0}
    metadata = {KEY: json.dumps({"format": FORMAT, "shard": part})}
    made = []
    contents: tuple[dict[str, Any], ...] = (
        {"image": [b"abc", b"def"], "key": ["a", "b"]}, {"path": ["a.png", "b.png"]}, {"image": [{"bytes": b"a", "path": "b"}]},
    )  # fmt: skip
    for content in contents:
        file = io.BytesIO()
        pq.write_table(pa.table(content).replace_schema_metadata(metadata), file, compression="zstd")
        made.append(file.getvalue())
    return made


def _table(content: bytes, folder: Path) -> object:
    """The pictures of a Parquet file as a batch's source."""
    from fastloc.scale.sources import parquet

    parquet._group.cache_clear()
    return _listed(written(folder, "table.parquet", content))


def _listed(path: Path) -> object:
    """The pictures of a source, and the content of those inside it."""
    from fastloc.errors import ImageError
    from fastloc.scale.sources import listing, reading

    found = []
    for item in listing.items([str(path)]):
        if item.span is not None or item.cell is not None:
            # one that is damaged does not stop the others
            with contextlib.suppress(ImageError):
                found.append(reading.content(item))
    return found


def _part(content: bytes, folder: Path) -> object:
    """The metadata of a shard that a batch made before."""
    from fastloc.scale import shards

    return shards._part(written(folder, "part-000000.parquet", content))


def _tars() -> list[bytes]:
    import tarfile

    made = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=form) as archive:
            names = {
                "a/1.jpg": b"picture", "a/1.txt": b"a cat", "2.png": b"x", "2.json": b'{"caption": ["a", "b"]}', "é" * 120 + ".jpg": b"y",
            }  # fmt: skip
            for name, content in names.items():
                if form == tarfile.USTAR_FORMAT and len(name) > 90:
                    continue
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        made.append(file.getvalue()[:6144])
    return made


def _tar(content: bytes, folder: Path) -> object:
    """The pictures of a tar as a batch's source, and the samples of a shard of pairs."""
    from fastloc.eclip.shards import read_shards
    from fastloc.errors import ImageError

    path = written(folder, "a.tar", content)
    with contextlib.suppress(ImageError):
        _listed(path)
    return [read() for _, read, _ in read_shards([path], lambda reason, name: None)]


def _batches() -> list[bytes]:
    from dataclasses import asdict

    from fastloc.scale.manifest import FORMAT, Manifest
    from fastloc.scale.rows import Settings

    settings = Settings(**_settings(Settings))
    return [json.dumps(asdict(Manifest(FORMAT, "0", ("a",), 4, settings, settings.hash()))).encode()]


def _settings(kind: Any) -> dict[str, Any]:
    """Values by a dataclass's annotations: the fields of a batch's settings."""
    from dataclasses import MISSING, fields

    plain: dict[str, Any] = {
        "float | None": None, "dict[str, str]": {"a": "b"}, "str": "a", "int": 3, "float": 0.5, "bool": False, "tuple[str, ...]": ("cat",),
    }  # fmt: skip
    return {
        each.name: plain.get(str(each.type)) for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING
    }  # fmt: skip


def _batch(content: bytes, folder: Path) -> object:
    from fastloc.scale import manifest

    written(folder, manifest.MANIFEST, content)
    return manifest.read(folder)


def _annotations() -> list[bytes]:
    import numpy as np
    from pycocotools import mask

    packed = mask.encode(np.asfortranarray(np.arange(200).reshape(10, 20) % 7 < 3, np.uint8))["counts"].decode()
    runs = {"size": [10, 20]}
    box = {"image_id": 1, "category_id": 3, "bbox": [1, 2, 8, 5], "iscrowd": 0}
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 20, "height": 10}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [
            {**box, "id": number, "segmentation": part}
            for number, part in enumerate(([[1, 1, 9, 1, 9, 8]], {**runs, "counts": [9, 3, 188]}, {**runs, "counts": packed}))
        ],
    }
    return [json.dumps(content).encode()]


def _annotation(content: bytes, folder: Path) -> object:
    from fastloc.evaluation.sets import coco_file

    path = written(folder, "instances.json", content)
    images, annotations, _ = coco_file.opened(path)
    sizes = {image.id: (image.width, image.height) for image in images}
    every = [each for found in coco_file.by_picture(path, images, annotations).values() for each in found]
    return [
        (coco_file.box(each.bbox, *sizes[each.image_id], "a"), coco_file.mask(each, *sizes[each.image_id], "a").sum()) for each in every
    ]  # fmt: skip


_SCALE = "fastloc.scale"
ROWS = (
    Target(
        "embeddings-npz", _embedded(".npz"), lambda: _embeddings(".npz"), zipped(_array), ("fastloc.text.embeddings", "fastloc.utils.npz"),
    ),
    Target("embeddings", _embedded(".safetensors"), lambda: _embeddings(".safetensors"), safetensors, ("fastloc.text.embeddings",)),
    Target("parquet", _table, _tables, edited, (f"{_SCALE}.sources.parquet",), memory=256, imports=("pyarrow.parquet",)),
    Target("batch-parts", _part, _tables, edited, (f"{_SCALE}.shards",), memory=256, imports=("pyarrow.parquet",)),
    Target("tar", _tar, _tars, tar, (f"{_SCALE}.sources.tars", "fastloc.eclip.shards"), imports=("torch",)),
    Target("batch-manifest", _batch, _batches, json_text, (f"{_SCALE}.manifest", f"{_SCALE}.rows"), imports=("pyarrow",)),
    Target("coco", _annotation, _annotations, json_text, ("fastloc.evaluation.sets.coco_file",), imports=("torch", "pycocotools.mask")),
)  # fmt: skip
