"""fastloc's own contenders: every way to run the same pass, a row each.

A row of BACKENDS is a way to run the same pass. What a row cannot do on a machine, or with a dtype, it says before anything is started.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

from fastloc.errors import FastlocError, unknown
from fastloc.utils.extras import EXTRAS

HALF = ("float16", "bfloat16")
# the plan's choices that are PyTorch's own operators
PLAIN = {"attention": "sdpa", "norm": "torch", "activation": "torch", "readout": "torch", "frames": "torch", "launch": "eager"}


@dataclass(frozen=True)
class Backend:
    """One way to execute a pass.

    runtime: "torch" or "onnxruntime". dtypes: that it computes in, by device ("cpu", "cuda"); a device that is missing is not supported.
    methods: that it has, if not all. packages: that it imports, besides its runtime's.
    Of PyTorch's: settings, plan fields that it asks for on a GPU; build, the function of `run_torch` that makes it.
    Of onnxruntime's: spelling and stored, of the exported file (`fastloc.onnx_file.formats`); providers, onnxruntime's by device.
    """

    name: str
    summary: str
    runtime: str = "torch"
    dtypes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    build: str = "engine"
    methods: tuple[str, ...] = ()
    spelling: str = ""
    stored: str = ""
    providers: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()


# that answer with the image embedding alone, whatever the method: they stand in every group
EMBEDDINGS = ("open_clip", "embedding")
_ALL = ("float32", "float16", "bfloat16")
_CPU_CUDA = {"cpu": "cpu", "cuda": "cuda"}
_FILE = {"cpu": ("float32", "float16"), "cuda": ("float32", "float16")}

BACKENDS = {
    row.name: row
    for row in (
        Backend("torch", "the engine with PyTorch's own operators, eager", dtypes={"cpu": _ALL, "cuda": _ALL}, settings=PLAIN),
        Backend("graph", "the same in a CUDA graph", dtypes={"cuda": _ALL}, settings={**PLAIN, "launch": "graph"}),
        Backend("triton", "the engine's default plan on a GPU: fused kernels in a CUDA graph", dtypes={"cuda": HALF}, packages=("triton",)),
        Backend("compile", "torch.compile of the functional pass", dtypes={"cpu": _ALL, "cuda": _ALL}, build="compiled"),
        Backend("official", "GEM in the official package's own tensor operations, every map written", dtypes={"cpu": _ALL, "cuda": _ALL},
                build="official", methods=("gem",)),
        Backend("open_clip", "open_clip's own encode_image, eager: the image embedding, no places", dtypes={"cpu": _ALL, "cuda": _ALL},
                build="open_clip", packages=("open_clip",)),
        Backend("embedding", "the same embedding by the engine, eager: no places", dtypes={"cpu": _ALL, "cuda": _ALL}, build="embedding"),
        Backend("ort", "exported for onnxruntime (com.microsoft MultiHeadAttention)", "onnxruntime", _FILE, spelling="ort",
                providers=_CPU_CUDA),
        Backend("onnx", "exported with ai.onnx Attention", "onnxruntime", _FILE, spelling="onnx", providers=_CPU_CUDA),
        Backend("decomposed", "exported with plain operators only", "onnxruntime", _FILE, spelling="decomposed", providers=_CPU_CUDA),
        Backend("int8", "exported for onnxruntime, products with weights in 8 bits", "onnxruntime", {"cpu": ("float32",)}, spelling="ort",
                stored="int8-dynamic", providers=_CPU_CUDA),
        Backend("tensorrt", "exported, in onnxruntime's TensorRT provider", "onnxruntime", {"cuda": ("float32", "float16")},
                spelling="onnx", providers={"cuda": "tensorrt"}),
    )
}  # fmt: skip
# the default backends: compiling takes a minute a case, and must be chosen by name
USUAL = {"cpu": ("torch", "ort"), "cuda": ("torch", "triton", "ort")}
_NEEDED = {"torch": ("torch", "safetensors"), "onnxruntime": ("onnxruntime", "torch", "onnx_ir", "onnxscript")}


def backend(name: str) -> Backend:
    """The row of this name. Raises FastlocError for a name that is not in the table."""
    if name not in BACKENDS:
        raise FastlocError(unknown("backend", name, BACKENDS))
    return BACKENDS[name]


def why_not(row: Backend, device: str, dtype: str) -> list[str]:
    """Every reason why a backend cannot run on this kind of device in this dtype. Imports nothing."""
    kind = device.partition(":")[0]
    reasons = []
    if kind not in row.dtypes:
        reasons.append(f"it runs on {' and '.join(row.dtypes)}, not on {kind}")
    elif dtype not in row.dtypes[kind]:
        reasons.append(f"on {kind} it computes in {', '.join(row.dtypes[kind])}, not in {dtype}")
    missing = [name for name in (*_NEEDED[row.runtime], *row.packages) if find_spec(name) is None]
    if missing:
        extras = ",".join(dict.fromkeys(EXTRAS[name] for name in missing if name in EXTRAS))
        how = f': pip install "fastloc[{extras}]"' if extras else ""
        reasons.append(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed{how}")
    return reasons


def label(row: Backend, dtype: str) -> str:
    """The name of its precision in a row."""
    return row.stored or dtype
