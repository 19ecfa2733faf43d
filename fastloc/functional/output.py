"""The result of one pass through an image tower."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

Grid = tuple[int, int]


@dataclass(frozen=True)
class Output:
    """The result of one pass. `captured` holds the requested intermediates by name."""

    patches: Tensor  # [B, P, E], in the text's space, not normalised; [B, P, C] with `Ops.unread`
    cls: Tensor | None  # [B, E], the encoder's own image embedding, not normalised; None unless requested
    grid: Grid
    captured: Mapping[str, Tensor] = field(default_factory=dict)
