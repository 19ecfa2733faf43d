"""Made-up rows of runs for the tests of what becomes of them: no number here was measured."""

from typing import Any

from fastloc.bench.schema import Row, checked

METHODS = ("itsm", "rclip", "gem", "clip_surgery", "maskclip", "sclip", "clearclip", "naclip")
SIZES = (224, 336, 448, 672, 896, 1344)
VERSIONS = {"fastloc": "0.1.0", "torch": "2.15.0", "numpy": "2.4.6"}
OFFICIAL = {"gem_torch": "1.0.1", "open_clip_torch": "2.23.0", "torch": "2.15.0", "numpy": "2.4.6"}
WHY = (
    "it computes something else: off by 3.1e-01 of the largest value, 1e-04 is allowed; with this version of open_clip an image's answer "
    "depends on the other images of its batch"
)


def row(suite: str, contender: str, ms: float | None = None, **more: Any) -> Row:
    """A row of a processor; its times follow from `ms`."""
    base: Row = {
        "run": "20261121-184005", "suite": suite, "contender": contender, "by": "fastloc", "device": "AMD EPYC, 2 threads",
        "processor": "AMD EPYC, 2 threads", "cores": 2, "threads": 2, "load_before": 0.21, "python": "3.11.7", "versions": VERSIONS,
        "commit": "a5d76c8",
    }  # fmt: skip
    if ms is not None:
        base |= {"ms": ms, "ms_p20": 0.96 * ms, "ms_p80": 1.05 * ms, "ms_p99": 1.4 * ms, "end_ms": ms + 9, "rounds": 9, "calls": 90}
    return checked(base | more)


def gpu(rows: list[Row]) -> list[Row]:
    """The rows as if they had been measured on a GPU."""
    where = {"device": "NVIDIA H200", "driver": "570.1", "capability": "9.0", "processor": "Xeon, 16 threads", "cores": 16}
    return [checked({**each, **where, "device_working_mb": each.get("working_mb")}) for each in rows]


def methods(contenders: tuple[str, ...] = ("torch", "ort"), model: str = "ViT-B-16", size: int = 224, names: tuple[str, ...] = METHODS,
            spread: float = 1.0, **more: Any) -> list[Row]:  # fmt: skip
    """A group for each method, each with its encoder."""
    found = []
    for i, method in enumerate(names):
        group = f"{model} {size} px, {method}"
        same = {"group": group, "model": model, "weights": "random" if model != "embedded" else "trained", "height": size, "width": size,
                "tokens": 1 + (size // 16) ** 2, "batch": 1, "texts": 4, "dtype": "float32", **more}  # fmt: skip
        found.append(row("methods", "encoder", 100 + i, method="itsm", **same))
        for k, who in enumerate(contenders):
            over = (1.0 + 0.08 * i) * (1 - 0.5 * k / len(contenders)) * spread**k
            ratios = {"encoder": [over, over - 0.03, over + 0.04]}
            limit = {"floor_ms": 61.0, "bound": "products", "achieved": 0.61 / over}
            judged = {"error": 1.2e-6, "allowed": 1e-4}
            mb = 40.0 + 6 * i
            found.append(row("methods", who, 100 * over, method=method, ratios=ratios, working_mb=mb, **judged, **limit, **same))
    return found


def peers(group: str = "ViT-B-16 224 px, gem") -> list[Row]:
    """Peers beside GEM: one that is compared, one that computes something else, one of which only the cost is of interest."""
    ours = [checked({**each, "suite": "peers"}) for each in beside_peers(methods(names=("gem",))) if each["group"] == group]
    same = {"group": group, "by": "peer", "model": "ViT-B-16", "weights": "random", "height": 224, "width": 224, "tokens": 197, "batch": 1,
            "texts": 4, "dtype": "float32", "versions": OFFICIAL}  # fmt: skip
    return [
        *ours,
        row("peers", "gem_torch", 160.0, method="gem", ratios={"encoder": [1.6, 1.55, 1.66]}, error=9e-7, allowed=1e-4, working_mb=89.0,
            peak_mb=1304.0, **same),
        row("peers", "gem_torch newest", method="gem", failed=WHY, error=0.31, allowed=1e-4, **same),
        row("peers", "clipseg", 210.0, method="CLIPSeg", checked="cost only", ratios={"encoder": [2.1, 2.0, 2.2]}, working_mb=120.0,
            **same),
    ]  # fmt: skip


def beside_peers(rows: list[Row]) -> list[Row]:
    """GEM's rows with their ratios to the peers."""
    return [
        checked({**each, "ratios": {**each["ratios"], "gem_torch": [0.625, 0.6, 0.65], "clipseg": [0.5, 0.48, 0.53]}})
        if each["method"] == "gem" and each["contender"] != "encoder" else each
        for each in rows
    ]  # fmt: skip


def tokens() -> list[Row]:
    """Ours, the official form until it does not fit, and the encoder, over the input's size."""
    found = []
    for size in (*SIZES, 2016):
        n = 1 + (size // 16) ** 2
        same = {"group": f"tokens: {size} px", "model": "ViT-B-16", "weights": "random", "height": size, "width": size, "tokens": n,
                "batch": 1, "texts": 4, "dtype": "float32"}  # fmt: skip
        if size in SIZES:
            found += [
                row("tokens", "encoder", 5 + 0.4 * n + 1e-4 * n * n, method="itsm", working_mb=20 + 0.05 * n, **same),
                row("tokens", "torch", 6 + 0.5 * n + 1.2e-4 * n * n, method="gem", working_mb=30 + 0.06 * n, error=1e-6, **same),
                row("tokens", "official", 6 + 0.6 * n + 4e-4 * n * n, method="gem", working_mb=40 + 6e-4 * n * n, error=1e-6, **same),
            ]
        else:
            found.append(row("tokens", "official", method="gem", needs_mb=48400.0, failed="does not fit: its N x N maps would take about "
                             "48.4 GB, and 14.1 GB are free", **same))  # fmt: skip
    return found


def axis(suite: str, values: tuple[int, ...], who: tuple[str, ...] = ("torch", "official")) -> list[Row]:
    """One of the smaller scaling suites."""
    found = []
    for value in values:
        same: Row = {"group": f"{suite}: {value}", "model": "ViT-B-16", "weights": "random", "height": 224, "width": 224, "tokens": 197,
                     "batch": 1, "texts": 4, "dtype": "float32"}  # fmt: skip
        same |= {suite: value} if suite != "blocks" else {}
        base = {"batch": 90.0 * value, "texts": 100 + 0.01 * value, "blocks": 95 + 6.0 * value}[suite]
        found.append(row(suite, "encoder", 0.9 * base, method="itsm", working_mb=20.0, **same))
        changes = {"blocks": value} if suite == "blocks" else {}
        found += [row(suite, each, base * (1 + 0.4 * k), method="gem", changes=changes, working_mb=30.0 + value * (k + 1), **same)
                  for k, each in enumerate(who)]  # fmt: skip
    return found


def scaling() -> list[Row]:
    return axis("batch", (1, 2, 4, 8, 16, 32)) + axis("texts", (1, 10, 100, 1000)) + axis("blocks", (1, 2, 4, 6, 8, 12))


def waterfall() -> list[Row]:
    same = {"group": "waterfall", "method": "gem", "model": "ViT-B-16", "weights": "random", "height": 224, "width": 224, "tokens": 197,
            "batch": 1, "texts": 4}  # fmt: skip
    found = (("official form", 298.0, 89.0, 1e-6), ("restructured", 262.0, 61.0, 1e-6), ("fused attention", 271.0, 44.0, 1e-6),
             ("exported, onnxruntime", 205.0, 38.0, 9e-7), ("8-bit products", 107.0, 30.0, 5e-2))  # fmt: skip
    return [row("waterfall", "torch", ms, step=step, working_mb=mb, error=error, **same) for step, ms, mb, error in found]


def cold() -> list[Row]:
    same = {"model": "embedded", "method": "gem", "height": 96, "width": 96, "batch": 1, "texts": 4}
    return [
        row("cold", "torch", import_s=2.91, load_s=0.14, first_ms=31.2, loaded_mb=402.0, **same),
        row("cold", "ort", import_s=0.31, load_s=0.09, first_ms=6.4, loaded_mb=88.0, versions={"fastloc": "0.1.0", "onnxruntime": "1.31.1",
            "numpy": "2.4.6"}, **same),
    ]  # fmt: skip


def ceilings() -> list[Row]:
    return [row("ceilings", "matrix product", case="4096 x 4096 x 4096", dtype="float32", rate=189.4, unit="GFLOP/s"),
            row("ceilings", "copy", rate=11.2, unit="GB/s")]  # fmt: skip


def quality(contenders: tuple[str, ...] = ("torch", "ort")) -> list[Row]:
    """The embedded model's methods, official and recommended, with their quality."""
    points = {"itsm": 0.08, "rclip": 0.30, "gem": 0.55, "clip_surgery": 0.80, "maskclip": 0.14, "sclip": 0.17, "clearclip": 0.18,
              "naclip": 0.19}  # fmt: skip
    better = {"gem": 0.84, "clip_surgery": 0.81, "clearclip": 0.56, "naclip": 0.47}
    found = []
    for name, value in points.items():
        found += methods(contenders, "embedded", 96, (name,), quality={"pointing": value, "miou": 0.4, "auc": 0.9})
    for name, value in better.items():
        found += methods(contenders, "embedded", 96, (name,), changes={"blocks": 6}, quality={"pointing": value, "miou": 0.4, "auc": 0.9})
    shift = {name: 1 + 0.1 * i for i, name in enumerate(points)}
    return [
        checked({**each, "group": each["group"] + str(each.get("changes", "")),
                 **{name: each[name] * shift[each["method"]] / 20 for name in ("ms", "ms_p20", "ms_p80", "ms_p99", "end_ms")}})
        for each in found
    ]  # fmt: skip


def everything() -> list[Row]:
    return [*methods(), *peers(), *quality(), *tokens(), *scaling(), *waterfall(), *cold(), *ceilings()]
