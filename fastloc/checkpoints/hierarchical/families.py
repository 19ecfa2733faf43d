"""The families of hierarchical image towers: for each, the functions that read it and the place of its last norm and classifier."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from fastloc.checkpoints.hierarchical import convnext, fastvit, fastvit_folding, swin
from fastloc.checkpoints.hierarchical.take import Take

__all__ = ["FAMILIES", "Arch", "Family", "family_of"]


class Arch(Protocol):
    """The fields that every family's architecture has."""

    @property
    def channels(self) -> int:
        """Of the last map."""
        ...

    @property
    def stride(self) -> int:
        """Pixels per cell of the last map."""
        ...

    @property
    def stages(self) -> int:
        """The number of maps, the last one that of the head."""
        ...


@dataclass(frozen=True)
class Family:
    """One family.

    architecture: timm's name, without prefix and tag -> the family's own `Arch`, or None for a name of another family.
    trunk: (Arch, Take) -> the family's own `Trunk`; raises ModelError for tensors that are missing or of another shape.
    folded: Trunk -> the same trunk with its BatchNorms and branches merged into convolutions.
    norm: the last LayerNorm's name in the trunk; "" for none. norm_first: it passes over every cell before the mean.
    attending: Arch -> the blocks of the last stage that attend over its whole grid, which methods with a local path can change.
    norm_eps: Arch -> that norm's eps. classifier: the name of the trunk's own linear layer in place of a head of open_clip's.
    """

    architecture: Callable[[str], Any]
    trunk: Callable[[Any, Take], Any]
    folded: Callable[[Any], Any]
    norm: str = ""
    norm_first: bool = False
    norm_eps: Callable[[Any], float] = lambda arch: 1e-6
    classifier: str = "head.fc"
    attending: Callable[[Any], int] = lambda arch: 0


FAMILIES = {
    "ConvNeXt": Family(convnext.architecture, convnext.trunk, convnext.folded, "head.norm", norm_eps=lambda arch: arch.norm_eps),
    "FastViT": Family(fastvit.architecture, fastvit.trunk, fastvit_folding.folded, attending=lambda arch: arch.depths[-1]),
    "Swin": Family(swin.architecture, swin.trunk, swin.folded, "norm", norm_first=True, norm_eps=lambda arch: swin.NORM_EPS),
}


def family_of(name: str) -> tuple[str, str, Any] | None:
    """(family, timm's name without prefix and tag, Arch) of a tower by timm's name; None for one that is not hierarchical."""
    plain = name.removeprefix("timm/").partition(".")[0]
    for family, row in FAMILIES.items():
        arch = row.architecture(plain)
        if arch is not None:
            return family, plain, arch
    return None
