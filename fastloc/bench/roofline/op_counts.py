"""Ops of a pass added up by name, with numbers in place of tensors: FLOPs, and bytes of parameters and activations.

A multiplication and an addition are two FLOPs. Only matrix products and attention count as FLOPs; pointwise ops, norms and softmax
count the bytes that they read and write. Attention is counted as fused, q, k and v in and its output out, except where its logits are
written. Not counted: the copies that a library's matrix product makes of strided operands, and one number a token or less.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.engine.plan import DTYPES

# pixels and texts come as float32
INPUT_BYTES = 4


@dataclass(frozen=True)
class Work:
    """All ops of one name in a pass. Besides the FLOPs, bytes.

    weights: parameters that no op before has read. read: activations, and parameters that are read again. written: activations.
    """

    name: str
    flops: int
    weights: int
    read: int
    written: int


def plain(spec: ModelSpec) -> bool:
    """True for a tower of the parts that are counted here: CLIP's own blocks and stem, with the class token or a mean as its embedding."""
    own = spec.stem == "patch" and spec.pool != "attn" and spec.norm == "pre" and not (spec.gated or spec.relative)
    own = own and spec.activation != "silu"
    return own and spec.class_token and not (spec.registers or spec.attn_norm or spec.mlp_norm or spec.fc_norm or spec.qk_norm or spec.rope)


class Tally:
    """Counts that are common to every pass.

    hidden: width of the blocks' MLPs, None for the spec's.
    """

    def __init__(self, spec: ModelSpec, batch: int, size: tuple[int, int], texts: int, dtype: str, hidden: int | None) -> None:
        self.spec, self.batch, self.size, self.texts = spec, batch, size, texts
        self.bytes = DTYPES[dtype].itemsize
        # of what is never computed in half precision
        self.wide_bytes = max(self.bytes, 4)
        self.patches = (size[0] // spec.patch[0]) * (size[1] // spec.patch[1])
        self.tokens, self.width, self.hidden = spec.prefix + self.patches, spec.width, hidden or spec.mlp_width
        # numbers in [B, N, C] and in [B, P, C]
        self.n, self.p = batch * self.tokens * self.width, batch * self.patches * self.width
        self.works: dict[str, list[int]] = {}
        self.met: set[Hashable] = set()

    def result(self) -> tuple[Work, ...]:
        return tuple(Work(name, *sums) for name, sums in self.works.items())

    def add(self, name: str, *, flops: int = 0, weights: int = 0, read: int = 0, written: int = 0) -> None:
        """One op, in bytes."""
        found = self.works.setdefault(name, [0, 0, 0, 0])
        for place, each in enumerate((flops, weights, read, written)):
            found[place] += each

    def move(self, name: str, read: int, written: int) -> None:
        """A pointwise op on so many numbers of the tower's dtype."""
        self.add(name, read=read * self.bytes, written=written * self.bytes)

    def parameters(self, name: str, key: Hashable, numbers: int) -> None:
        """Reading of a parameter, identified by its key: a weight at the first reading, memory traffic at later ones."""
        size = numbers * self.bytes
        self.add(name, read=size) if key in self.met else self.add(name, weights=size)
        self.met.add(key)

    def linear(self, name: str, keys: Iterable[Hashable], rows: int, inner: int, outer: int, bias: bool = True) -> None:
        """[rows, inner] -> [rows, outer] by a matrix, or by one for each key, side by side."""
        parts = tuple(keys)
        for key in parts:
            self.parameters(name, key, (inner + bias) * outer // len(parts))
        self.add(name, flops=2 * rows * inner * outer)
        self.move(name, rows * inner, rows * outer)

    def norm(self, key: Hashable, rows: int) -> None:
        """A LayerNorm by itself."""
        self.parameters("norms and sums", key, 2 * self.width)
        self.move("norms and sums", rows * self.width, rows * self.width)

    def attend(self, name: str, queries: int, streams: int, read: int, written: int) -> None:
        """Fused attention of so many tokens an image to all tokens; what it moves in numbers."""
        self.add(name, flops=4 * streams * self.batch * queries * self.tokens * self.width)
        self.move(name, read, written)

    def logits(self, name: str, queries: int, streams: int, passes: int) -> None:
        """N x N maps that are written, and read again, so many times."""
        numbers = passes * streams * self.batch * self.spec.heads * queries * self.tokens
        self.move(name, numbers, numbers)

    def pixels(self) -> None:
        """Conversion of float32 pixels to the tower's dtype."""
        numbers = self.batch * 3 * self.size[0] * self.size[1]
        if self.bytes != INPUT_BYTES:
            self.add("patch embedding", read=numbers * INPUT_BYTES, written=numbers * self.bytes)

    def embed(self) -> None:
        """Class token, position embedding and ln_pre."""
        self.parameters("embedding", "cls", self.spec.prefix * self.width)
        self.parameters("embedding", "table", self.tokens * self.width)
        self.move("embedding", self.p + self.n, 2 * self.n)
        if self.spec.ln_pre:
            self.norm("ln_pre", self.batch * self.tokens)

    def sum(self, numbers: int) -> None:
        """Sum of two tensors of so many numbers."""
        self.move("norms and sums", 2 * numbers, numbers)

    def mlp(self, name: str, block: int, rows: int, fused: bool) -> None:
        self.linear(name, [("fc", block)], rows, self.width, self.hidden)
        # x * sigmoid(1.702 x) is three of PyTorch's ops
        quick = self.spec.activation == "quick_gelu" and not fused
        self.move("activation", (4 if quick else 1) * rows * self.hidden, (3 if quick else 1) * rows * self.hidden)
        self.linear(name, [("proj", block)], rows, self.hidden, self.width)

    def head(self, rows: int) -> None:
        """The projection into the text's space."""
        self.linear("head", ["head"], rows, self.width, self.spec.embed, bias=False)
