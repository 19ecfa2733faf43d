"""The table of ops. A row names a module of this folder; a module is imported at the first use of its op."""

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType


@dataclass(frozen=True)
class Op:
    """One op. Its module holds, under these names:

    a launcher of the op's own name; `why_not`, which takes the launcher's arguments and returns every reason to refuse them;
    `reference`, which takes them too, in any dtype, and is plain PyTorch; `CASES` for the correctness gate; and
    `builds(head_width, dtype)`, which starts the launcher once for each configuration that is shipped, for the compile gate.
    """

    name: str
    summary: str

    @property
    def module(self) -> ModuleType:
        return import_module(f"fastloc.kernels.{self.name}")


_ROWS = (
    Op("inverse_norms", "1/|x| of every head's vector: what normalisation costs when it is folded into the exponent"),
    Op("self_self_step", "one iteration of self-self attention on unit vectors: no maximum, no sum, no division"),
    Op("self_self_ensemble", "self-self attention weights on unit vectors, applied to v and averaged over the streams"),
    Op("self_attention", "self-self attention with an online softmax, and a neighbourhood bias that is computed, not read"),
    Op("add_norm", "residual sum and LayerNorm, with the length of every normalised token"),
    Op("quick_gelu", "x * sigmoid(1.702 x)"),
    Op("frame_patches", "uint8 camera frames to the patch embedding's operand: Pillow's antialiased resize, bit for bit"),
    Op("cosine", "patch features and text embeddings to similarity grids, normalisation included"),
    Op("project_cosine", "the last LayerNorm, the projection and the cosines in one pass; a variant, see `fastloc.kernels.variants`"),
    Op("heatmap", "similarity grids to min-maxed heatmaps at picture size, floats or bytes"),
    Op("label_map", "similarity grids to the best text of every pixel, without T maps of the picture's size"),
)
OPS: dict[str, Op] = {row.name: row for row in _ROWS}
