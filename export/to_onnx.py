"""Export of a model with a method to one ONNX file: graph, manifest and golden, checked before the file gets its name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import torch
from torch import Tensor

from fastloc._version import __version__
from fastloc.checkpoints.digests import digest
from fastloc.errors import FastlocError, ModelError, TextError
from fastloc.export.calibration import inputs_of
from fastloc.export.exporter import exported
from fastloc.export.golden_check import golden_of
from fastloc.export.graph import Graph, Parts
from fastloc.export.graph_kinds import graph_kind
from fastloc.export.int8 import quantized
from fastloc.export.options import Options, check_texts
from fastloc.export.passes import tidy, to_opset_17
from fastloc.export.pipelines.table import check as check_pipelines
from fastloc.export.pipelines.table import write as write_pipelines
from fastloc.imaging.geometry import BOUNDED, SHORT_SIDE, VARYING, Geometry, both_sides, fit
from fastloc.onnx_file.formats import INPUTS, spelling
from fastloc.onnx_file.manifest import KEY, Input, Manifest, Model, Texts
from fastloc.utils.atomic_write import replacing_files
from fastloc.utils.distinct import distinct_rows
from fastloc.utils.system import files

if TYPE_CHECKING:
    # these imports need open_clip, and `trace` does not
    from fastloc.engine.localizer import Localizer

__all__ = ["Options", "export"]

# the largest protobuf message; larger models have their weights in a file beside it
LARGEST = 2_000_000_000
# the oldest opset that PyTorch's exporter writes
OLDEST = 18


def export(
    localizer: Localizer, path: str | Path, options: Options | None = None, *, calibration: Sequence[Any] = (),
    pipelines: Sequence[str] = (),
) -> Manifest:  # fmt: skip
    """Write the localizer's model and method as an ONNX file, and check it against its golden where onnxruntime is installed.

    Args:
        localizer: its dtype and device do not matter; its input size is the file's default.
        calibration: pictures (anything `fastloc.imaging.images.load` takes) for dtype "int8-static".
        pipelines: rows of `fastloc.export.pipelines.table.PIPELINES`, whose files are written beside this one.

    Returns: the manifest of the file.

    Raises:
        FastlocError: options that are unknown or contradict each other; a path that cannot be written; a file that does not reproduce
            the engine's results. No partial file remains.
    """
    target, options = _target(path), _completed(options or Options(), localizer)
    kind, spec = graph_kind(localizer.source.weights), localizer.source.spec
    options.check(spec, localizer.recipe)
    kind.eight_bits(spec).check(options.dtype)
    check_texts(options.texts)
    _check_calibration(options, calibration)
    manifest = _manifest(localizer, options)
    check_pipelines(manifest, pipelines, str(target))
    with _whole(target) as made:
        model = trace(_parts(localizer, options))
        if options.dtype.startswith("int8"):
            model = quantized(model, options.dtype, inputs_of(manifest, calibration), kind.eight_bits(spec), options.spelling)
        model.metadata_props[KEY] = manifest.dumps()
        save(model, made)
        _verify(made)
    if pipelines:
        write_pipelines(target, pipelines)
    return manifest


def trace(parts: Parts) -> ir.Model:
    """The graph as an ONNX model in memory."""
    options, graph = parts.options, Graph(parts).eval()
    _, opset = spelling(options.spelling, options.opset)
    oldest = max(opset, OLDEST)
    example, shapes = _example(parts)
    names = [INPUTS[options.kind].tensor, *(() if options.texts else ("text_embeddings",))]
    with torch.inference_mode(False), torch.no_grad():
        program = exported(
            graph, tuple(example), dynamic_shapes=shapes, opset_version=oldest, input_names=names, output_names=list(graph.outputs),
            optimize=True,
        )  # fmt: skip
    model: ir.Model = program.model
    if opset < OLDEST:
        to_opset_17(model)
    tidy(model, options, graph.outputs)
    _check_dimensions(model, options)
    if model.opset_imports[""] != opset:
        wrote = f"got {model.opset_imports['']} from PyTorch {torch.__version__}'s exporter"
        raise ModelError(f"opset of the graph must be {opset}, {wrote}; use another version of PyTorch")
    return model


def save(model: ir.Model, path: Path) -> None:
    """Write the model, with its weights in `<name>.data` beside it if one file cannot hold them."""
    large = sum(each.const_value.nbytes for each in model.graph.initializers.values() if each.const_value is not None) > LARGEST
    if large:
        # the library writes weights beside it, in the folder of an unfinished file
        ir.save(model, path, external_data=f"{path.name}.data")
    else:
        files.write_bytes(path, ir.to_proto(model).SerializeToString())


def _parts(localizer: Localizer, options: Options) -> Parts:
    source = localizer.source
    with torch.inference_mode(False):
        texts = source.text(options.texts, localizer.template).clone() if options.texts else None
        if texts is not None:
            _check_distinct(options.texts, texts)
        empty = source.text.empty(localizer.template).clone()
    geometry = _geometry(localizer, options)
    return Parts(source.weights, localizer.recipe.at_scale(source.logit_scale), options, geometry, texts, empty)


def _geometry(localizer: Localizer, options: Options) -> Geometry | None:
    if options.frame is None or options.size is None:
        return None
    size: int | tuple[int, int] = options.size
    how = _fit(localizer, options)
    if how in SHORT_SIDE:
        # here a short side is given, and the frame determines the other; where the frame's own size counts, it is the upper bound
        size = min(both_sides(localizer.input_size)) if how in BOUNDED else min(options.size)
    made = fit(options.frame, size, localizer.source.spec.patch, how)
    if made.input != options.size:
        height, width = made.input
        raise FastlocError(
            f"size must be {height}x{width} for fit {how!r} of frames of {options.frame[0]}x{options.frame[1]}, "
            f"got {options.size[0]}x{options.size[1]}; use that size, or fit 'stretch'"
        )
    return made


def _example(parts: Parts) -> tuple[list[Tensor], dict[str, Any]]:
    """Example inputs for the trace, and their dynamic dimensions."""
    options, spec = parts.options, parts.weights.spec
    shapes: dict[str, Any] = {"picture": {}, "text_embeddings": None}
    if options.batch is None:
        # the exporter treats an example of 1 as a constant
        shapes["picture"][0] = torch.export.Dim("batch")
    # unlike the trained grid, and not square, so that the exporter merges no dimensions
    height, width = options.size or tuple((side + more) * step for side, more, step in zip(spec.grid, (3, 5), spec.patch, strict=True))
    if options.size is None:
        ph, pw = spec.patch
        shapes["picture"].update({2: ph * torch.export.Dim("rows"), 3: pw * torch.export.Dim("columns")})
    batch = options.batch or 2
    if options.frame is not None:
        height, width = options.frame
    size = (batch, height, width, 3) if options.layout == "NHWC" else (batch, 3, height, width)
    example = [torch.zeros(size, dtype=torch.uint8 if options.kind == "frames" else torch.float32)]
    if not options.texts:
        example.append(torch.nn.functional.normalize(torch.ones(options.count or 3, spec.embed), dim=-1))
        shapes["text_embeddings"] = {} if options.count else {0: torch.export.Dim("texts")}
    else:
        del shapes["text_embeddings"]
    return example, shapes


def _check_dimensions(model: ir.Model, options: Options) -> None:
    """Raise if the exporter fixed a dynamic dimension at the example's value, before anyone runs the file."""
    fixed = {0: options.batch, 2: options.size and options.size[0], 3: options.size and options.size[1]}
    picture = model.graph.inputs[0].shape
    assert picture is not None
    for axis, length in fixed.items():
        if length is None and isinstance(picture[axis], int):
            made = f"got {picture[axis]} from PyTorch {torch.__version__}'s exporter"
            raise ModelError(f"axis {axis} of the input must stay open, {made}; fix it, or use another version of PyTorch")
    if not options.texts and options.count is None:
        texts = model.graph.inputs[1].shape
        if texts is None or isinstance(texts[0], int):
            made = f"got a constant from PyTorch {torch.__version__}'s exporter"
            raise ModelError(f"number of texts must stay open, {made}; fix it, or use another version of PyTorch")


def _completed(options: Options, localizer: Localizer) -> Options:
    """The options completed from the localizer: the size of frames if none is given."""
    if options.kind != "frames" or options.size is not None or options.frame is None:
        return options
    return replace(options, size=fit(options.frame, localizer.input_size, localizer.source.spec.patch, _fit(localizer, options)).input)


def _fit(localizer: Localizer, options: Options) -> str:
    """The fit of pictures to the file's size, see `Options.fit`."""
    one_size = options.size is not None and options.kind != "frames"
    if options.fit in VARYING and one_size:
        raise FastlocError(f"fit must give one size, got {options.fit!r}, one for every shape; use a dynamic size, or fit 'stretch'")
    return options.fit or ("stretch" if one_size and localizer.fit in VARYING else localizer.fit)


def _manifest(localizer: Localizer, options: Options) -> Manifest:
    recipe = localizer.recipe.at_scale(localizer.source.logit_scale)
    _, opset = spelling(options.spelling, options.opset)
    names = options.texts
    how = _fit(localizer, options)
    usual = localizer.input_size if how in BOUNDED else options.size or localizer.input_size
    return Manifest(
        version=__version__, model=_model(localizer, options.licence), recipe=recipe,
        input=Input(
            options.kind, options.layout, options.bgr, options.size, options.frame, how, options.batch, usual,
            localizer.usual_fit,
        ),
        texts=Texts(len(names) or options.count, names, localizer.template), outputs=options.outputs, dtype=options.dtype,
        spelling=options.spelling, opset=opset, golden=golden_of(localizer, options, _geometry(localizer, options)),
        calibration=localizer.calibration,
    )  # fmt: skip


def _model(localizer: Localizer, licence: str) -> Model:
    source, spec = localizer.source, localizer.source.spec
    mean, std = ((float(a), float(b), float(c)) for a, b, c in (spec.mean, spec.std))
    return Model(
        source.name, digest(source.weights), source.text.digest, spec.patch, spec.embed, mean, std, spec.interpolation, licence,
        source.logit_scale, localizer.logit_bias, graph_kind(source.weights).name,
    )  # fmt: skip


def _target(path: str | Path) -> Path:
    target = Path(path)
    if target.suffix != ".onnx":
        raise FastlocError(f"{target}: must end in .onnx, got {target.suffix or 'no extension'!r}")
    if not target.parent.is_dir():
        raise FastlocError(f"{target}: must be in a folder that exists, got {str(target.parent)!r}")
    if target.is_dir():
        raise FastlocError(f"{target}: must be a file, got a folder")
    return target


def _check_calibration(options: Options, pictures: Sequence[Any]) -> None:
    if options.dtype == "int8-static" and not len(pictures):
        raise FastlocError("dtype 'int8-static' must have pictures to calibrate on, such as those it will see, got none; give 100 or more")
    if options.dtype != "int8-static" and len(pictures):
        raise FastlocError(f"calibration pictures must be left out unless dtype is 'int8-static', got dtype {options.dtype!r}")


def _verify(path: Path) -> None:
    """Run the golden. Without onnxruntime a file is written unchecked; its recipient can run `fastloc verify` on it."""
    try:
        import onnxruntime  # noqa: F401
    except ModuleNotFoundError:
        return
    from fastloc.export.golden_check import check

    check(path)


def _check_distinct(names: tuple[str, ...], embeddings: Tensor) -> None:
    """Raise TextError if the model cannot tell two texts apart: they would split their share of every map."""
    if copies := distinct_rows(embeddings.cpu().numpy()):
        twice = next(i for i, kind in enumerate(copies.index) if copies.first[kind] != i)
        first = names[copies.first[copies.index[twice]]]
        raise TextError(f"texts must differ for the model, got {first!r} and {names[twice]!r}, which it reads alike; leave one out")


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """Yield a temporary path for the file and the weights beside it; they are renamed if the block raises nothing."""
    try:
        with replacing_files(target) as folder:
            yield folder / target.name
    except OSError as error:
        raise FastlocError(f"{target}: cannot be written ({error.strerror or error})") from error
