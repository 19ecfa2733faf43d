"""The model's own throughput: normalised pixels that lie ready in memory, to similarity grids, for some seconds.

    python benchmarks/scale_parts/ready.py --model embedded --size 96 168 --batch 8 --seconds 5 -t cat dog

Prints {"pictures", "seconds", "gflop"} as JSON: GFLOP of a picture, counted from the plan.
"""

import argparse
import json
import sys
import time

import torch

from fastloc.bench.roofline.floor import count
from fastloc.engine.localizer import Localizer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--pretrained")
    parser.add_argument("--size", type=int, nargs=2, required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("-t", dest="texts", nargs="+", required=True)
    args = parser.parse_args()
    size = tuple(args.size)
    localizer = Localizer(args.model, args.pretrained, size=size, batch=args.batch)
    texts = localizer.encode_texts(args.texts)
    pixels = torch.randn(args.batch, 3, *size, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        localizer.scored_similarity(pixels, texts)
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < args.seconds:
        localizer.scored_similarity(pixels, texts)
        done += args.batch
    seconds = time.perf_counter() - began
    works = count(localizer.source.spec, localizer.recipe, localizer.engine.plan(args.batch, size), args.batch, size, len(texts))
    print(json.dumps({"pictures": done, "seconds": seconds, "gflop": sum(each.flops for each in works) / 1e9 / args.batch}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
