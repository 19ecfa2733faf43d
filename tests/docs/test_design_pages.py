"""The design pages name every row that they describe, and their limits are the code's."""

import pytest

from fastloc.kernels.compile_gate import SHARED_LIMIT
from fastloc.kernels.table import OPS
from fastloc.onnx_file import formats, golden
from repo import REPO

KERNELS, GRAPHS, TOLERANCES = (
    (REPO / "docs" / "design" / f"{name}.md").read_text(encoding="utf-8") for name in ("kernels", "onnx_graphs", "tolerances")
)


def row(text: str, start: str) -> list[str]:
    """The cells of the only row that begins so."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {start}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_kernel_has_a_row() -> None:
    assert all(len(row(KERNELS, f"`{name}` |")) == 3 for name in OPS)


def test_the_shared_memory_of_a_block_is_the_gate_s() -> None:
    assert all(f"{SHARED_LIMIT[sm] >> 10} KiB at {sm // 10}.{sm % 10}" in KERNELS for sm in (80, 89, 90))


@pytest.mark.parametrize("table", [formats.SPELLINGS, formats.DTYPES, formats.OUTPUTS], ids=["spellings", "dtypes", "outputs"])
def test_every_row_of_the_formats_has_one(table: dict[str, object]) -> None:
    assert all(row(GRAPHS, f"`{name}` |") for name in table)


def test_every_kind_of_input_and_every_opset_is_stated() -> None:
    assert all(f"`{each.name}`" in GRAPHS for each in formats.INPUTS.values())
    for each in formats.SPELLINGS.values():
        stated = row(GRAPHS, f"`{each.name}` |")[2]
        expected = str(each.opsets[0]) if len(each.opsets) == 1 else f"{each.opsets[0]} ({min(each.opsets)} to {max(each.opsets)})"
        assert stated == expected, each.name


def test_the_limits_of_files_are_those_of_the_golden() -> None:
    kinds = ("float32", "float16", "int8-static")
    numbers = row(TOLERANCES, "similarity, scores and background")[1:4]
    assert [float(each) for each in numbers] == [golden.TOLERANCES[kind] for kind in kinds]
    numbers = row(TOLERANCES, "heatmaps, mean error")[1:4]
    assert [float(each) for each in numbers] == [golden.MAP_TOLERANCES[kind] for kind in kinds]
    shares = row(TOLERANCES, "labels, share of equal ones")[1:4]
    assert [float(each.rstrip(" %")) / 100 for each in shares] == pytest.approx([golden.LEAST_AGREEMENT[kind] for kind in kinds])
    tables = golden.TOLERANCES, golden.MAP_TOLERANCES, golden.LEAST_AGREEMENT
    assert all(table["int8-static"] == table["int8-dynamic"] for table in tables)
