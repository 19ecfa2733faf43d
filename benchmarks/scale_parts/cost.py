"""A cost model of up to 10^9 pictures: hours, money, egress and storage of rows, from the record and a table of assumptions.

With a GPU the cores decode, resize, read out and write while the model runs, so the slower of the two bounds a machine:

    host/s    = cores / seconds of those stages             (measured here; a core there is assumed to be as fast)
    located/s = FLOP/s x utilisation / FLOP of a picture    (FLOP counted from the plan; a GPU's rate is a prediction)
    hours     = pictures / min(host/s, located/s) / 3600,   money = hours x price

Machines without a GPU do both on the same cores: the rate of `fastloc batch` that was measured here, by the number of cores. Nothing else
is scaled, and nothing here was run on a GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

Row = dict[str, Any]
SIZES = (10**6, 10**7, 10**8, 10**9)
# machines that share the work, in the table of sizes
MACHINES = 64
# stages that stay on the cores beside a GPU
HOST = ("decode", "preprocess", "readout", "write")


@dataclass(frozen=True)
class Device:
    """A class of machine. price: dollars an hour; tflops: dense, in half precision, 0 without a GPU."""

    name: str
    cores: int
    price: float
    tflops: float


# edit these, and run `python benchmarks/doc_tables/scale.py`: every number below is assumed
DEVICES = (
    Device("2 cores", 2, 0.10, 0),
    Device("16 cores", 16, 0.80, 0),
    Device("L4, 8 cores", 8, 0.85, 121),
    Device("A100, 12 cores", 12, 3.50, 312),
    Device("H100, 26 cores", 26, 5.00, 989),
)
UTILISATION = 0.35
EGRESS = 0.09
STORAGE = 0.023
ASSUMED = (
    ("utilisation of a GPU", f"{UTILISATION:.2f}", "share of its dense peak that a pass reaches; no GPU was measured"),
    ("egress, $ a GB", f"{EGRESS:g}", "the order of list prices from a cloud to the internet; within a region it is 0"),
    ("storage, $ a GB and month", f"{STORAGE:g}", "the order of list prices of object storage"),
    ("speed of a core", "1", "as fast as a core that was measured on"),
    ("scaling over machines", "1", "shards have nothing in common"),
    *((f"{each.name}: $ an hour", f"{each.price:.2f}", "the order of list prices") for each in DEVICES),
    *((f"{each.name}: TFLOP/s", f"{each.tflops:g}", "dense FP16 of NVIDIA's data sheet") for each in DEVICES if each.tflops),
)


@dataclass(frozen=True)
class Measured:
    """Facts of the record about a model: milliseconds of a picture in one thread, to decode it and in all stages but the model; its GFLOP;
    pictures a second of one process on `cores`; bytes of a JPEG and of a picture's rows."""

    model: str
    decode_ms: float
    host_ms: float
    gflop: float
    rate: float
    cores: int
    picture_bytes: float
    row_bytes: float


def measured(rows: Sequence[Row], model: str) -> Measured | None:
    """None where a part that is needed was not measured."""
    mine = [row for row in rows if row.get("model") == model and "failed" not in row]
    # the command's default
    stages = [row for row in mine if row["part"] == "stages" and row["contender"] == "with masks"]
    ready = [row for row in mine if row.get("contender") == "model alone"]
    batch = [row for row in mine if row["part"] == "process" and row.get("rows") and row.get("steady")]
    if not (stages and ready and batch):
        return None
    height, width = stages[0]["picture"]
    return Measured(
        model=model,
        decode_ms=median(row["decode_ms"] for row in stages),
        host_ms=median(sum(row[f"{stage}_ms"] for stage in HOST) for row in stages),
        gflop=ready[0]["gflop"],
        rate=median(row["steady"] for row in batch),
        cores=batch[0]["cores"],
        picture_bytes=stages[0]["bits_per_pixel"] * height * width / 8,
        row_bytes=median(row["row_bytes"] / row["pictures"] for row in batch),
    )


@dataclass(frozen=True)
class Cost:
    """Cost of a device: pictures a second and their bound."""

    device: Device
    rate: float
    bound: str

    def hours(self, pictures: float) -> float:
        return pictures / self.rate / 3600

    def money(self, pictures: float) -> float:
        """Dollars, of the machines alone."""
        return self.hours(pictures) * self.device.price


def cost(device: Device, known: Measured) -> Cost:
    if not device.tflops:
        return Cost(device, known.rate * device.cores / known.cores, "processor")
    host = device.cores * 1000 / known.host_ms
    located = device.tflops * 1e3 * UTILISATION / known.gflop
    return Cost(device, min(host, located), "host" if host < located else "model")


def egress(pictures: float, known: Measured) -> float:
    """Dollars for all pictures' bytes."""
    return pictures * known.picture_bytes / 1e9 * EGRESS


def storage(pictures: float, known: Measured) -> tuple[float, float]:
    """(GB of rows, dollars a month)."""
    size = pictures * known.row_bytes / 1e9
    return size, size * STORAGE
