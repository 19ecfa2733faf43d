"""Print what test-time registers do to a real model with outliers, the supervised ViT-Tiny, on twelve photographs.

    python benchmarks/quality_parts/registers.py FOLDER [--size 224] [--depth 0.5 0.667]

docs/methods/newer.md holds the results. FOLDER holds the model and the photographs, see `quality_parts.temperature.Real`. The search
reads the same photographs, without their masks. Differences are of the same questions, with and without registers, and their standard
errors those of the mean over questions.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fastloc.engine.registers.search import Rule, outliers_left, search
from quality_parts.temperature import Real

METHODS = ("itsm", "gem", "clip_surgery", "maskclip", "sclip", "clearclip", "naclip", "legrad")
TEMPLATE = "plain"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the model and the photographs")
    parser.add_argument("--size", type=int, default=224, help="side of the input in pixels")
    parser.add_argument("--depth", type=float, nargs="+", default=[0.5, 0.667], help="shares of the blocks whose neurons are kept")
    args = parser.parse_args()
    real = Real(args.folder, None)
    localizer, pictures = real.localizer(args.size), [photo.picture for photo in real.photos]
    plain = {name: np.array(real.answers(localizer.with_method(name, template=TEMPLATE), real.photos)) for name in METHODS}
    for depth in args.depth:
        rule = Rule(depth=depth)
        found = search(localizer, pictures, rule).neurons
        before, after = outliers_left(localizer, pictures, rule, found)
        print(f"depth {depth:g}: neurons {found.neurons}; outliers {before}, with registers {after}")
        for name, usual in plain.items():
            changed = localizer.with_method(name, template=TEMPLATE, registers=found.registers, neurons=found.neurons)
            gain = np.array(real.answers(changed, real.photos)) - usual
            numbers = zip(usual.mean(0), gain.mean(0), gain.std(0, ddof=1) / len(gain) ** 0.5, strict=True)
            cells = "   ".join(f"{mean:.3f} {more:+.3f} ± {error:.3f}" for mean, more, error in numbers)
            print(f"{name:14}{len(usual)} questions   pointing, IoU, AUC: {cells}")


if __name__ == "__main__":
    main()
