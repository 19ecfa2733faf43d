"""The options of an export, and every impossible combination with its reason and the nearest possible one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastloc.errors import FastlocError, TextError, unknown
from fastloc.export.inputs import PictureSpec, why_not_onnx_resize
from fastloc.onnx_file.formats import DTYPES, INPUTS, OUTPUTS, RESIZES, UNSEEN, spelling
from fastloc.recipes import Recipe

# the most texts that labels of 8 bits can distinguish
MOST_LABELS = UNSEEN


@dataclass(frozen=True)
class Options:
    """The options of one export; `fastloc.onnx_file.formats` has tables of the possible values.

    batch: pictures a call, None for any number. size: the encoder's input (height, width), None for any multiples of the patch.
    texts: a vocabulary to bake in. count: the number of text embeddings as input if none is baked in, None for any number.
    fit: the fit of pictures to the size, see `fastloc.imaging.geometry.fit`; None is the localizer's, or "stretch" if that is
        one of `fastloc.imaging.geometry.VARYING` and pictures come resized to one size.
    kind, layout, bgr: the form of the input picture; frame: the camera's (height, width) for kind "frames"; resize: the method that
        resizes frames.
    outputs: a runtime makes scores of "scores" and "background"; every method has them.
    licence: of the model's weights, in your words, for the metadata.
    """

    spelling: str = "ort"
    dtype: str = "float32"
    opset: int | None = None
    batch: int | None = 1
    size: tuple[int, int] | None = None
    fit: str | None = None
    texts: tuple[str, ...] = ()
    count: int | None = None
    kind: str = "pixels"
    layout: str = "NCHW"
    bgr: bool = False
    frame: tuple[int, int] | None = None
    resize: str = "matmul"
    outputs: tuple[str, ...] = ("similarity", "scores", "background")
    licence: str = ""

    def check(self, spec: PictureSpec, recipe: Recipe) -> None:
        """Raise FastlocError for a value of another type, an unknown name or an impossible combination."""
        _check_types(self)
        spelling(self.spelling, self.opset)
        for option, name, known in (("dtype", self.dtype, DTYPES), ("input", self.kind, INPUTS), ("resize", self.resize, RESIZES)):
            if name not in known:
                raise FastlocError(unknown(option, name, known))
        for name in self.outputs:
            if name not in OUTPUTS:
                raise FastlocError(unknown("output", name, OUTPUTS))
        _check_size(self, spec)
        for is_so, message in _refusals(self, spec, recipe):
            if is_so():
                raise FastlocError(message)

    @property
    def embeds(self) -> bool:
        """True if an output reads the image embedding."""
        return "scores" in self.outputs or "background" in self.outputs


def _refusals(o: Options, spec: PictureSpec, recipe: Recipe) -> list[tuple[Callable[[], bool], str]]:
    texts = len(o.texts) or o.count
    half = "int8" in o.dtype
    return [
        (lambda: not o.outputs, f"outputs must be one or more of {', '.join(OUTPUTS)}, got none"),
        (lambda: len(set(o.outputs)) != len(o.outputs), f"outputs must differ, got {', '.join(o.outputs)}"),
        (lambda: recipe.inv_temp == "matched",
         f"method must have fixed temperatures, got {recipe.name!r}, which solves one for every picture; use 'gem_calibrated'"),
        (lambda: o.layout not in INPUTS[o.kind].layouts,
         f"layout must be {' or '.join(INPUTS[o.kind].layouts)} for input {o.kind!r}, got {o.layout!r}"),
        (lambda: o.kind == "frames" and o.frame is None,
         "frame must be the camera's height x width for input 'frames', got none; a file is for one size"),
        (lambda: o.kind != "frames" and o.frame is not None, f"frame must be left out unless input is 'frames', got input {o.kind!r}"),
        (lambda: o.kind == "frames" and o.size is None,
         "size must be the encoder's one size for input 'frames', which the graph resizes, got none; or use input 'pixels'"),
        (lambda: o.kind != "frames" and o.resize != "matmul",
         f"resize must be 'matmul' unless input is 'frames', got {o.resize!r} and input {o.kind!r}"),
        (lambda: o.resize == "onnx" and bool(why_not_onnx_resize(spec)), "; ".join(why_not_onnx_resize(spec))),
        (lambda: o.resize == "onnx" and o.spelling != "ort",
         f"spelling must be 'ort' for resize 'onnx', got {o.spelling!r}, for runtimes without an antialiased Resize; use resize 'matmul'"),
        (lambda: bool(o.texts) and o.count is not None, f"count must be left out where texts are baked in, got {o.count}"),
        (lambda: o.count is not None and o.count < 1, f"count must be 1 or more, got {o.count}"),
        (lambda: o.batch is not None and o.batch < 1, f"batch must be 1 or more, or None for any, got {o.batch}"),
        (lambda: "labels" in o.outputs and texts is not None and texts > MOST_LABELS,
         f"texts must be at most {MOST_LABELS} for output 'labels', which is bytes, got {texts}; leave 'labels' out"),
        (lambda: half and recipe.reads != "patches",
         f"method must read patch features for dtype {o.dtype!r}, got {recipe.name!r}, which reads {recipe.reads!r}; "
         "use 'float16' or 'float32'"),
        (lambda: half and o.spelling == "onnx",
         f"spelling must be 'ort' or 'decomposed' for dtype {o.dtype!r}, which TensorRT does not take with 'onnx', got 'onnx'"),
        (lambda: o.dtype == "int8-dynamic" and o.spelling == "decomposed",
         "spelling must be 'ort' for dtype 'int8-dynamic', which onnxruntime alone runs, got 'decomposed'; for TensorRT use 'int8-static'"),
    ]  # fmt: skip


def _check_types(o: Options) -> None:
    for option, number in (("opset", o.opset), ("batch", o.batch), ("count", o.count)):
        if number is not None and not _is_number(number):
            raise FastlocError(f"{option} must be a whole number or None, got {number!r}")
    for option, size in (("size", o.size), ("frame", o.frame)):
        if size is not None and not (isinstance(size, Sequence) and len(size) == 2 and all(_is_number(side) and side > 0 for side in size)):
            raise FastlocError(f"{option} must be (height, width) in pixels, got {size!r}")
    for option in ("texts", "outputs"):
        names = getattr(o, option)
        # a string is a sequence of strings too
        if isinstance(names, str) or not (isinstance(names, Sequence) and all(isinstance(name, str) for name in names)):
            one = f"; use ({names!r},)" if isinstance(names, str) else ""
            raise FastlocError(f"{option} must be a tuple of strings, got {names!r}{one}")


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_size(o: Options, spec: PictureSpec) -> None:
    if o.size is None:
        return
    for side, step in zip(o.size, spec.patch, strict=True):
        if side % step:
            below = max(side // step, 1) * step
            raise FastlocError(f"size must be a multiple of the patch {step}, got {o.size[0]}x{o.size[1]}; use {below} or {below + step}")


def check_texts(texts: tuple[str, ...]) -> None:
    """Raise TextError for a vocabulary that names a text twice."""
    twice = [text for i, text in enumerate(texts) if text in texts[:i]]
    if twice:
        raise TextError(f"texts of the vocabulary must differ, got {twice[0]!r} twice")
