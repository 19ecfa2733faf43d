"""The peers: packages that you could use instead of fastloc. A script in `peers/` runs each in its own environment; none is imported."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastloc.bench.cases import Case
from fastloc.bench.towers import kinds

_DTYPES = {"float32": 4, "float16": 2, "bfloat16": 2}
# the models whose architecture CLIPSeg and OWL-ViT are built on
_B16 = ("ViT-B-16", "ViT-B-16-quickgelu")
BOTH = frozenset(("batch", "texts"))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# recipe fields that the official GEM package can change too, and the values it takes
_GEM_CHANGES: dict[str, Callable[[Any], bool]] = {
    "blocks": _number, "iterations": _number, "inv_temp": lambda value: value == "adaptive" or _number(value),
}  # fmt: skip


@dataclass(frozen=True)
class Peer:
    """A package that is measured beside fastloc.

    source: its repository and paper. environment: of `fastloc.bench.peer_environments`. script: in `peers/`.
    method: the recipe whose reference its grids must equal, "encoder" where the untouched encoder's embedding is its answer, "" where
    nothing of ours computes the same and it is run for its cost only. method_label: what it computes, as a row calls it.
    compiles: torch.compile of it works. models: that it is run beside; None is every open_clip ViT. axes: of which it takes more
    than one. square: it takes no other pictures. alive: N x N maps a head and picture that it holds at its peak, `repeated` for every
    text where it encodes the picture once for each; as measured on ViT-B/16 at 672 px, 0 where its attention writes none down.
    """

    name: str
    summary: str
    source: str
    environment: str
    script: str
    method: str
    method_label: str
    compiles: bool = True
    models: tuple[str, ...] | None = None
    axes: frozenset[str] = BOTH
    square: bool = False
    alive: int = 0
    repeated: bool = False

    def maps(self, case: Case) -> float:
        """Approximate bytes of its N x N attention maps at their peak."""
        heads = kinds.heads(case.spec)
        pictures = case.batch * (case.texts if self.repeated else 1)
        return float(self.alive * pictures * heads * case.tokens**2 * _DTYPES.get(case.dtype, 4))


_GEM = "GEM (Bousselham et al., CVPR 2024), WalBouss/GEM"

PEERS = {
    row.name: row
    for row in (
        Peer("gem_torch", "the official GEM package, with the open_clip it was written for", _GEM, "pinned", "gem_worker.py", "gem", "gem",
             alive=11),
        Peer("gem_torch-newest", "the same package as pip installs it today, with the newest open_clip", _GEM, "newest", "gem_worker.py",
             "gem", "gem", alive=11),
        Peer("open_clip", "the plain image embedding, without places", "mlfoundations/open_clip", "newest", "open_clip_worker.py",
             "encoder", "encoder", alive=1),
        Peer("legrad", "gradients of the last two layers' attention", "LeGrad (Bousselham et al., 2024, arXiv 2404.03214), WalBouss/LeGrad",
             "pinned", "legrad_worker.py", "legrad", "legrad", compiles=False, axes=frozenset(("texts",)), square=True, alive=8,
             repeated=True),
        Peer("grad-cam", "gradients of the last block's LayerNorm, one backward a text", "Grad-CAM (Selvaraju et al., ICCV 2017), "
             "jacobgil/pytorch-grad-cam", "pinned", "grad_cam_worker.py", "grad_cam", "grad-cam", compiles=False),
        Peer("clipseg", "a trained decoder on CLIP, here with random weights", "CLIPSeg (Lüddecke and Ecker, CVPR 2022), "
             "huggingface/transformers", "pinned", "clipseg_worker.py", "", "clipseg", models=_B16, square=True),
        Peer("owlvit", "a detector on CLIP, here with random weights", "OWL-ViT (Minderer et al., ECCV 2022), huggingface/transformers",
             "pinned", "owlvit_worker.py", "", "owlvit", models=_B16),
    )
}  # fmt: skip


def why_not(peer: Peer, case: Case) -> list[str]:
    """Every reason why a peer cannot run a case; none where it can."""
    reasons = []
    if peer.models is not None and case.model not in peer.models:
        reasons.append(f"it has an architecture of its own and is run beside {' and '.join(peer.models)} only, not {case.model}")
    reasons += [f"it takes one of {axis} a call, not {count}" for axis, count in (("batch", case.batch), ("texts", case.texts))
                if count > 1 and axis not in peer.axes]  # fmt: skip
    if "timm_model_name" in case.config["vision_cfg"] or case.config["vision_cfg"].get("attentional_pool"):
        reasons.append(f"it is run on open_clip's own ViTs with a class token, and {case.model} is not one")
    if peer.square and case.size[0] != case.size[1]:
        reasons.append(f"it takes square pictures, not {case.size[0]}x{case.size[1]}")
    if case.dtype not in _DTYPES:
        reasons.append(f"it computes in {', '.join(_DTYPES)}, not in {case.dtype}")
    return reasons + (_unlike(case) if peer.method == "gem" else [])


def _unlike(case: Case) -> list[str]:
    """The reasons that the official GEM package does not compute what a case asks for."""
    if case.method != "gem":
        return [f"it computes gem, not {case.method}"]
    return [f"it cannot compute gem with {name}={value!r}" for name, value in case.changes.items()
            if not _GEM_CHANGES.get(name, lambda _: False)(value)]  # fmt: skip
