"""The cases of the part `kernels`: each op beside PyTorch's own in its place, on the same inputs. Nothing is run before it is called."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from fastloc.checkpoints.vit_spec import OPENAI_MEAN
from fastloc.engine import device_heatmaps, triton_ops
from fastloc.engine.frame_patches import patches_of
from fastloc.functional import attention, op_set, readout
from fastloc.functional.attention import Projections
from fastloc.imaging.geometry import fit
from fastloc.recipes import RECIPES
from gpu_parts.timing import Call

BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION}
ON_CPU = {"flash": SDPBackend.FLASH_ATTENTION}
STREAMS, PASSES = 3, 2
# so many different inputs take turns
INPUTS = 4


@dataclass(frozen=True)
class Case:
    """Contenders that do the same work, and the least that it takes."""

    label: str
    contenders: dict[str, Call]
    # of the input with index 0, in float64
    exact: Callable[[], Tensor] | None = None
    flops: float = 0.0
    bytes: float = 0.0


def _several(make: Callable[[torch.Generator], Any], device: torch.device) -> list[Any]:
    return [make(torch.Generator(device).manual_seed(seed)) for seed in range(INPUTS)]


def attend(device: torch.device, batch: int, grid: tuple[int, int], heads: int, width: int) -> Case:
    """GEM's attention of one block: three streams, one iteration and the output."""
    tokens, row = 1 + grid[0] * grid[1], RECIPES["gem"]
    shape = batch, tokens, 3, heads, width
    inputs = _several(lambda generator: torch.randn(shape, generator=generator, device=device).half(), device)
    # about what the adaptive temperature of a ViT-B is
    temperature = torch.full((batch, 1, 1), 3.5, device=device)
    temperatures: list[Any] = [temperature] * PASSES

    def of(form: Any) -> Call:
        return lambda i: form(Projections(inputs[i % INPUTS], "qkv"), temperatures, row, grid, None)

    def forced(call: Call, backend: SDPBackend) -> Call:
        def run(i: int) -> Any:
            with sdpa_kernel(backend):
                return call(i)

        return run

    # the two products alone: one axis for streams and heads, already of unit length, the temperature already in the queries
    unit = [F.normalize(each.float(), dim=-1).half().permute(0, 2, 3, 1, 4).flatten(1, 2).contiguous() for each in inputs]
    queries = [(each * 3.5).contiguous() for each in unit]

    def bare(i: int) -> Tensor:
        q, p = queries[i % INPUTS], unit[i % INPUTS]
        F.scaled_dot_product_attention(q, p, p, scale=1.0)
        return F.scaled_dot_product_attention(q, p, p, scale=1.0)

    contenders: dict[str, Call] = {"kernels": of(triton_ops.attention)}
    backends = BACKENDS if device.type == "cuda" else ON_CPU
    contenders |= {f"sdpa {name}": forced(of(attention.FORMS["sdpa"]), backend) for name, backend in backends.items()}
    contenders |= {f"two bare sdpa {name}": forced(bare, backend) for name, backend in backends.items()}
    wide, once = Projections(inputs[0][:1].double(), "qkv"), temperature[:1].double()
    flops = 4.0 * tokens**2 * width * heads * STREAMS * PASSES * batch
    exact = attention.FORMS["sdpa"]
    return Case(f"self-self N={tokens} d={width} Z={batch}", contenders, lambda: exact(wide, [once] * PASSES, row, grid, None), flops)


def add_norm(device: torch.device, batch: int, tokens: int, width: int) -> Case:
    def make(generator: torch.Generator) -> Any:
        return [torch.randn(batch, tokens, width, generator=generator, device=device).half() for _ in range(2)]

    inputs, (weight, bias) = _several(make, device), (torch.randn(width, device=device).half() for _ in range(2))
    forms = {"kernel": triton_ops.add_norm, "torch": op_set.add_norm}
    contenders = {name: _normed(form, inputs, weight, bias) for name, form in forms.items()}
    exact = _normed(op_set.add_norm, [[each.double() for each in inputs[0]]] * INPUTS, weight.double(), bias.double())
    return Case(f"add_norm B={batch} N={tokens} C={width}", contenders, lambda: exact(0), bytes=4 * 2.0 * batch * tokens * width)


def _normed(form: Any, inputs: list[Any], weight: Tensor, bias: Tensor) -> Call:
    return lambda i: form(*inputs[i % INPUTS], weight, bias, 1e-5)[1]


def quick_gelu(device: torch.device, batch: int, tokens: int, width: int) -> Case:
    inputs = _several(lambda generator: torch.randn(batch, tokens, width, generator=generator, device=device).half(), device)
    kernel = triton_ops.op("quick_gelu")
    contenders = {"kernel": lambda i: kernel(inputs[i % INPUTS]), "torch": lambda i: op_set.activate(inputs[i % INPUTS], "quick_gelu")}
    wide = inputs[0].double()
    return Case(f"quick_gelu B={batch} N={tokens} M={width}", contenders, lambda: op_set.activate(wide, "quick_gelu"),
                bytes=2 * 2.0 * batch * tokens * width)  # fmt: skip


def cosine(device: torch.device, batch: int, patches: int, width: int, texts: int) -> Case:
    inputs = _several(lambda generator: torch.randn(batch, patches, width, generator=generator, device=device).half(), device)
    words = F.normalize(torch.randn(texts, width, device=device), dim=-1)
    contenders = {
        "kernel": lambda i: triton_ops.cosine(inputs[i % INPUTS], words),
        "torch": lambda i: readout.cosine(inputs[i % INPUTS], words),
    }
    wide = inputs[0].double(), words.double()
    return Case(f"cosine B={batch} P={patches} E={width} T={texts}", contenders, lambda: readout.cosine(*wide),
                bytes=batch * patches * (2.0 * width + 4.0 * texts))  # fmt: skip


def project_cosine(device: torch.device, batch: int, patches: int, channels: int, width: int, texts: int) -> Case:
    """The variant of one kernel beside the default's three steps: LayerNorm, product and cosines."""
    inputs = _several(lambda generator: torch.randn(batch, patches, channels, generator=generator, device=device).half(), device)
    weight, bias = 1 + torch.randn(channels, device=device) / 4, torch.randn(channels, device=device) / 4
    rows, projection = (weight.half(), bias.half()), (torch.randn(channels, width, device=device) * channels**-0.5).half()
    # a text takes two columns, see `fastloc.engine.triton_ops.cosine`
    words = F.normalize(torch.randn(2 * texts, width, device=device), dim=-1).half()
    fused = triton_ops.op("project_cosine")

    def apart(norm: Any, cosine: Any, x: Tensor, row: tuple[Tensor, Tensor], product: Tensor, words: Tensor) -> Tensor:
        found: Tensor = cosine(norm(x, None, *row, 1e-5)[1] @ product, words)
        return found

    contenders: dict[str, Call] = {
        "kernel": lambda i: fused(inputs[i % INPUTS], *rows, 1e-5, projection, words),
        "kernels apart": lambda i: apart(triton_ops.add_norm, triton_ops.cosine, inputs[i % INPUTS], rows, projection, words),
        "torch": lambda i: apart(op_set.add_norm, readout.cosine, inputs[i % INPUTS], rows, projection, words),
    }
    wide = inputs[0].double(), (rows[0].double(), rows[1].double()), projection.double(), words.double()
    return Case(f"project_cosine B={batch} P={patches} C={channels} E={width} T={texts}", contenders,
                lambda: apart(op_set.add_norm, readout.cosine, *wide),
                bytes=batch * patches * (2.0 * channels + 8.0 * texts))  # fmt: skip


def heatmap(device: torch.device, texts: int, picture: tuple[int, int], size: int, patch: int, kind: torch.dtype) -> Case:
    geometry = fit(picture, size, patch)
    grid = geometry.grid(patch)
    inputs = _several(lambda generator: 0.2 + 0.05 * torch.randn(1, texts, *grid, generator=generator, device=device), device)

    def of(kernel: bool) -> Call:
        return lambda i: device_heatmaps.heatmaps(inputs[i % INPUTS], geometry, dtype=kind, fused=kernel)

    wide = inputs[0].double()
    factor = 255 if kind == torch.uint8 else 1
    return Case(f"heatmap T={texts} {picture[0]}x{picture[1]} {str(kind).removeprefix('torch.')}", {"kernel": of(True), "torch": of(False)},
                lambda: factor * device_heatmaps.heatmaps(wide, geometry, dtype=torch.float64),
                bytes=texts * picture[0] * picture[1] * float(torch.empty(0, dtype=kind).element_size()))  # fmt: skip


def frame_patches(device: torch.device, frame: tuple[int, int], size: int, patch: int) -> Case:
    geometry = fit(frame, size, patch)
    shape = 1, *frame, 3
    inputs = _several(lambda generator: torch.randint(0, 256, shape, generator=generator, device=device, dtype=torch.uint8), device)

    def of(kernel: bool) -> Call:
        return lambda i: patches_of(inputs[i % INPUTS], geometry, (patch, patch), OPENAI_MEAN, "bicubic", torch.float16, fused=kernel)

    return Case(f"frame_patches {frame[0]}x{frame[1]} to {size}", {"kernel": of(True), "torch": of(False)},
                lambda: of(False)(0).double(), bytes=3.0 * frame[0] * frame[1] + 2 * 3.0 * size**2)  # fmt: skip


def cases(device: torch.device, small: bool) -> list[Callable[[], Case]]:
    """The cases to time, most important first; each is made when its turn comes."""
    if small:
        return [
            lambda: attend(device, 1, (2, 4), 2, 16), lambda: add_norm(device, 1, 5, 32), lambda: quick_gelu(device, 1, 5, 64),
            lambda: cosine(device, 1, 8, 32, 2), lambda: heatmap(device, 1, (24, 32), 32, 8, torch.uint8),
            lambda: frame_patches(device, (24, 40), 16, 8), lambda: project_cosine(device, 1, 8, 32, 16, 2),
        ]  # fmt: skip
    attends = [
        lambda side=side, batch=batch: attend(device, batch, (side, side), 12, 64)
        for side, batch in ((28, 1), (28, 8), (14, 1), (14, 8), (42, 1), (42, 8))
    ]
    return [
        *attends,
        *(lambda batch=batch: add_norm(device, batch, 785, 768) for batch in (1, 8)),
        *(lambda batch=batch: quick_gelu(device, batch, 785, 3072) for batch in (1, 8)),
        *(lambda batch=batch: cosine(device, batch, 784, 512, 4) for batch in (1, 8)),
        *(lambda batch=batch: project_cosine(device, batch, 784, 768, 512, 4) for batch in (1, 8, 32)),
        lambda: heatmap(device, 20, (448, 448), 448, 16, torch.float32), lambda: heatmap(device, 4, (1080, 1920), 448, 16, torch.uint8),
        lambda: frame_patches(device, (1080, 1920), 448, 16),
    ]  # fmt: skip
