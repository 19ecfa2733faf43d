"""The model's own throughput: normalised pixels that lie ready in memory, to similarity grids, for some seconds.

    python benchmarks/scale_parts/ready.py --model embedded --size 96 168 --batch 8 --seconds 5 -t cat dog

Prints as JSON: pictures a second of one batch on all threads, of as many batches as there are threads side by side, `steady`, the better of
both, and `gflop`, of a picture, counted from the plan.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

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

    def call() -> None:
        localizer.scored_similarity(pixels, texts)

    threads = torch.get_num_threads()
    together = timed(call, 1, args.seconds / 2)
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        beside = timed(lambda: [future.result() for future in [pool.submit(call) for _ in range(threads)]], threads, args.seconds / 2)
    rates = {name: args.batch * rate for name, rate in (("all_threads", together), ("a_thread_each", beside))}
    works = count(localizer.source.spec, localizer.recipe, localizer.engine.plan(args.batch, size), args.batch, size, len(texts))
    print(json.dumps({**rates, "steady": max(rates.values()), "gflop": sum(each.flops for each in works) / 1e9 / args.batch}))
    return 0


def timed(call: Callable[[], object], calls: int, seconds: float) -> float:
    """Calls a second, of a function that makes so many, after one that warms up."""
    call()
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        call()
        done += calls
    return done / (time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main())
