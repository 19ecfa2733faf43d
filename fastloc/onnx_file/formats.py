"""Formats of exported files: one row for each spelling, precision, input, resize and output. They drive exporter, checks and help."""

from dataclasses import dataclass

from fastloc.errors import FastlocError, unknown

__all__ = ["DTYPES", "INPUTS", "OUTPUTS", "RESIZES", "SPELLINGS", "TOWERS", "UNSEEN", "Kind", "Spelling", "spelling"]

# in labels of 8 bits, the -1 of `fastloc.imaging.heatmaps.BACKGROUND`
UNSEEN = 255


@dataclass(frozen=True)
class Spelling:
    """One way to write attention. opsets: the ai.onnx versions that it can be written in, the default first. reads: its runtimes."""

    name: str
    summary: str
    opsets: tuple[int, ...]
    reads: str


@dataclass(frozen=True)
class Kind:
    """One kind of picture that goes in: `tensor` is its name in the graph, `layouts` the orders it can come in, the default first."""

    name: str
    tensor: str
    layouts: tuple[str, ...]
    summary: str


TOWERS = {
    "vit": "a transformer over patches",
    "resnet": "CLIP's ResNet with an attention pool; a patch is one cell of its last map",
    "hierarchical": "a tower whose grid shrinks from stage to stage; a patch is one cell of its last map",
}

SPELLINGS = {
    each.name: each
    for each in (
        Spelling("ort", "com.microsoft.MultiHeadAttention", (20, 18, 19, 21, 22, 23),
                 "onnxruntime on CPU, CUDA and the web, where it is the quickest, and OpenVINO; TensorRT refuses it"),
        Spelling("onnx", "ai.onnx Attention", (23,),
                 "TensorRT from 10.14, TensorRT-RTX (float16), onnxruntime from 1.25"),
        Spelling("decomposed", "MatMul, Softmax, MatMul", (18, 17, 19, 20),
                 "everything: older TensorRT, DeepStream, CoreML, OpenVINO; slower in onnxruntime"),
    )
}  # fmt: skip

DTYPES = {
    "float32": "float32 throughout",
    "float16": "a float16 tower; norms, temperatures, lengths, similarity and maps in float32",
    "int8-dynamic": "products with weights in 8 bits, ranges of activations found at every call",
    "int8-static": "the same with ranges calibrated on your pictures, written as QuantizeLinear and DequantizeLinear",
}

INPUTS = {
    each.name: each
    for each in (
        Kind("pixels", "pixels", ("NCHW",), "normalised float32 pixels, resized by whoever calls"),
        Kind("bytes", "pixels", ("NCHW",), "0 to 255 as float32, resized by whoever calls, normalised in the graph"),
        Kind("frames", "frames", ("NHWC", "NCHW"), "uint8 frames of one camera, resized and normalised in the graph"),
    )
}

RESIZES = {
    "matmul": "two products with Pillow's weights as matrices, which every runtime takes",
    "onnx": "ONNX's Resize with antialiasing, which TensorRT does not have",
}

OUTPUTS = {
    "similarity": "float32 [B, T, h, w], one score a patch",
    "scores": "float32 [B, T], image-level cosines",
    "background": "float32 [B, 1], that of the background, which scores are held against",
    "heatmaps": "float32 [B, T, H, W] at the frame's size, read out as the method says",
    "labels": f"uint8 [B, H, W] at the frame's size, the most similar text of every pixel; {UNSEEN} where a crop hid it",
}


def spelling(name: str, opset: int | None = None) -> tuple[Spelling, int]:
    """The named spelling and its opset. Raises FastlocError for an unknown one, and an opset that it cannot be written in."""
    if name not in SPELLINGS:
        raise FastlocError(unknown("attention spelling", name, SPELLINGS))
    row = SPELLINGS[name]
    if opset is not None and opset not in row.opsets:
        raise FastlocError(f"opset must be one of {', '.join(map(str, sorted(row.opsets)))} for spelling {name!r}, got {opset}")
    return row, opset or row.opsets[0]
