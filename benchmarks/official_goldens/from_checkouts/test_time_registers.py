"""Write tests/goldens/test_time_registers_*.npz: what the authors' hooks make of seeded towers, and which neurons their search finds.

    python benchmarks/official_goldens/from_checkouts/test_time_registers.py CHECKOUT [-o tests/goldens]

CHECKOUT is a clone of https://github.com/nickjiang2378/test-time-registers; its CLIP and its shared/ are run.

What surprises in the official code, all of it kept in the answers:

- The registers stand behind the patches, zeros that are added after the position embedding, so that ln_pre makes its bias of them.
- All listed neurons of a block get one value, the extreme of all of them over all tokens, the class token and the registers included.
- The first picture of a batch is edited, and no other: each picture is a call here.
- The tower keeps its position table: another size is another tower.
- The search compares lengths with the threshold for the class token too, and its filter takes every negative value for idle.

A file holds, for pictures [B]: `embedding` [B, E]; `stream` [B, 1 + P + R, C], the last block's output in the authors' order of tokens, at
every `step`-th channel; `found` [K, 3], the search's best (block, neuron, score) of the untouched tower, with the filter or without;
`outliers`, how many tokens it took for outliers; and `meta` (JSON).
"""

import sys
from dataclasses import asdict, dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from seeded_checkout import EMBED, Checkout, checkout, config, pixels, seeded_state, state, stub
from torch import Tensor

# the search's results that are kept
BEST = 40


@dataclass(frozen=True)
class Case:
    """One golden. size: (height, width). share: of the tokens of all pictures that are longer than the search's threshold."""

    name: str
    size: tuple[int, int] = (48, 48)
    layers: int = 4
    batch: int = 1
    registers: int = 1
    neurons: tuple[tuple[int, tuple[int, ...]], ...] = ((0, (3, 77)), (2, (5, 6, 400)))
    quick: bool = True
    sparse: bool = False
    share: float = 0.06
    seed: int = 0
    step: int = 4


CASES = (
    Case("default"),
    Case("wide", size=(40, 64), batch=3, registers=3, neurons=((1, (9, 10, 11)),), quick=False, sparse=True, seed=1, step=8),
    Case("next_blocks", layers=6, batch=2, registers=2, neurons=((1, (500,)), (2, (0, 1, 2, 3)), (4, (200,))), sparse=True, seed=2, step=8),
)


def tower(case: Case) -> Any:
    """The authors' image tower with the seed's weights."""
    from clip.hook import HookManager
    from clip.transformer import QuickGELU, VisionTransformer

    of = config(case.size[0], 8, case.layers)
    vision = of["vision_cfg"]
    made = VisionTransformer(
        case.size, 8, vision["width"], case.layers, vision["width"] // 64, 4.0, output_dim=EMBED, hook=HookManager(),
        act_layer=QuickGELU if case.quick else torch.nn.GELU,
    ).double()  # fmt: skip
    made.load_state_dict(weights(case))
    return made.eval()


def weights(case: Case) -> dict[str, Tensor]:
    """The seed's weights of the image tower, whose position table is of the case's grid."""
    names = state(config(case.size[0], 8, case.layers), case.seed)
    visual = {name.removeprefix("visual."): tensor for name, tensor in names.items() if name.startswith("visual.")}
    tokens, width = 1 + case.size[0] // 8 * (case.size[1] // 8), visual["class_embedding"].shape[0]
    table = seeded_state({"visual.positional_embedding": (tokens, width)}, case.seed)["visual.positional_embedding"]
    return {**visual, "positional_embedding": torch.from_numpy(table).double()}


def write(case: Case, source: Checkout) -> None:
    from clip_hook_manager import ClipHookManager
    from shared import algorithms

    visual, pictures = tower(case), pixels(case.batch, case.size, case.seed)
    hooks = ClipHookManager(SimpleNamespace(visual=visual))

    def run(registers: int, neurons: dict[int, list[int]]) -> tuple[Tensor, Tensor]:
        embeddings, streams = [], []
        for picture in pictures:
            hooks.reinit()
            if registers:
                hooks.intervene_register_neurons(num_registers=registers, neurons_to_ablate=neurons)
            hooks.finalize()
            embeddings.append(visual(picture[None], attn_method="direct", extra_tokens=registers))
            streams.append(torch.from_numpy(hooks.get_layer_outputs()[-1]))
        return torch.cat(embeddings), torch.stack(streams)

    embedding, stream = run(case.registers, {block: list(neurons) for block, neurons in case.neurons})
    _, plain = run(0, {})
    lengths = plain.norm(dim=-1).flatten().sort().values
    place = len(lengths) - round(case.share * len(lengths))
    # between two lengths, so that no rounding decides
    threshold = float((lengths[place - 1] + lengths[place]) / 2)
    algorithms.load_images = lambda path, count: list(pictures)
    asked = {
        "model": visual, "preprocess": lambda picture: picture, "run_model": lambda model, picture: model(picture, attn_method="direct"),
        "hook_manager": hooks, "num_layers": case.layers, "num_neurons_per_layer": visual.transformer.resblocks[0].mlp_width,
    }  # fmt: skip
    found = algorithms.find_register_neurons(asked, "", threshold, device="cpu", apply_sparsity_filter=case.sparse)
    arrays = {
        "embedding": embedding, "stream": stream[..., :: case.step], "found": torch.tensor(found[:BEST]),
        "outliers": torch.tensor(len(lengths) - place),
    }  # fmt: skip
    meta = asdict(case) | {"model": config(case.size[0], 8, case.layers, quick=case.quick), "threshold": threshold}
    source.write(f"test_time_registers_{case.name}", meta, arrays)


def main() -> None:
    source = checkout("nickjiang2378/test-time-registers", __doc__)
    stub("einops")
    # clip without its __init__, which imports what downloads; shared has none, and fastloc a file of that name
    for name, folder in (("clip", "clip/clip"), ("shared", "shared")):
        package = ModuleType(name)
        package.__path__ = [str(source.folder / folder)]
        sys.modules[name] = package
    sys.path.insert(0, str(source.folder / "clip"))
    torch.set_default_dtype(torch.float64)
    with torch.no_grad():
        for case in CASES:
            write(case, source)


if __name__ == "__main__":
    main()
