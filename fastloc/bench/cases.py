"""A case: one pass to be timed, as sent to the process that times it, and the files of its inputs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastloc.bench.peers.seeded import seeded_array, seeded_pixels, seeded_texts
from fastloc.bench.towers import kinds
from fastloc.recipes import Recipe, recipe
from fastloc.recipes.readout import LOGIT_SCALE

# inputs that calls take in turns: fewer where they are large
INPUTS, LARGE, FEWER = 4, 64 << 20, 2


@dataclass(frozen=True)
class Case:
    """One pass and its inputs. Everything a worker needs is in here or in the files that it names.

    config: open_clip's configuration of the model ({"embed_dim", "vision_cfg", …}). weights: a .safetensors file of its tensors
    under open_clip's names, float32 (the image tower's at least). preprocess: open_clip's preprocess configuration, if any.
    method, changes: the recipe and fields of it that are changed. size: (height, width) of the input; frame: of a camera's frame.
    settings: chosen plan fields. compiled: through torch.compile, if the contender is a PyTorch module.
    inputs: a folder with pixels-0.npy … (float32 [B, 3, H, W]), frames.npy (uint8 [B, H, W, 3]) and texts.npy (float32 [T, E], unit).
    """

    model: str
    config: dict[str, Any]
    weights: str
    method: str
    size: tuple[int, int]
    inputs: str
    changes: dict[str, Any] = field(default_factory=dict)
    preprocess: dict[str, Any] = field(default_factory=dict)
    batch: int = 1
    texts: int = 4
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 1
    frame: tuple[int, int] = (720, 1280)
    settings: dict[str, str] = field(default_factory=dict)
    compiled: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The case as a mapping for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Case":
        """The case of a mapping of `to_dict`, once it went through JSON."""
        return cls(**{**fields, "size": tuple(fields["size"]), "frame": tuple(fields["frame"])})

    def at(self, size: tuple[int, int], inputs: str) -> "Case":
        """The same case at another input size."""
        return replace(self, size=size, inputs=inputs)

    @property
    def recipe(self) -> Recipe:
        """The recipe at CLIP's own scale, as the peers' workers have it: seeded weights were never trained to one."""
        return recipe(self.method, **self.changes).at_scale(LOGIT_SCALE)

    @property
    def spec(self) -> kinds.Spec:
        return kinds.spec_of(self.config, self.preprocess)

    @property
    def patch(self) -> int:
        return self.spec.patch[0]

    @property
    def tokens(self) -> int:
        """Patches and the tokens in front of them."""
        return kinds.tokens(self.spec, self.size)


def write_inputs(folder: Path, batch: int, size: tuple[int, int], texts: int, embed: int, frame: tuple[int, int]) -> Path:
    """The files of `Case.inputs`, the same on every machine; the folder they are in."""
    folder.mkdir(parents=True, exist_ok=True)
    count = INPUTS if batch * size[0] * size[1] * 12 * INPUTS <= LARGE else FEWER
    for seed in range(count):
        np.save(folder / f"pixels-{seed}.npy", seeded_pixels((batch, 3, *size), seed))
    np.save(folder / "texts.npy", seeded_texts(texts, embed, 0))
    blobs = seeded_array("frames", (batch, -(-frame[0] // 16), -(-frame[1] // 16), 3), 0, centre=128.0, deviation=60.0)
    frames = blobs.clip(0, 255).astype(np.uint8).repeat(16, 1).repeat(16, 2)[:, : frame[0], : frame[1]]
    np.save(folder / "frames.npy", np.ascontiguousarray(frames))
    return folder


def empty_text(texts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A vector in the place of the empty text's embedding, [E] of unit length, which costs what any other costs.

    It is the mean direction of the texts [T, E]; beside one alone, from which it must differ, that text's numbers in reverse order.
    """
    found: np.ndarray[Any, Any] = texts.mean(0) if len(texts) > 1 else texts[0, ::-1].copy()
    found /= np.linalg.norm(found)
    return found


def read_inputs(case: Mapping[str, Any]) -> dict[str, list[np.ndarray[Any, Any]]]:
    """{"pixels": [...], "frames": [one], "texts": [one]} of a case's folder. Peers read the files themselves."""
    folder = Path(case["inputs"])
    return {name: [np.load(file) for file in sorted(folder.glob(f"{name}*.npy"))] for name in ("pixels", "frames", "texts")}
