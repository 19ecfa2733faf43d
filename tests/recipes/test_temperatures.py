"""A model's temperatures in a file: read on request, refused by another model, and never half written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastloc import embedded
from fastloc.checkpoints.digests import digest
from fastloc.cli import main
from fastloc.engine import calibration
from fastloc.engine.localizer import Localizer
from fastloc.errors import FastlocError, ModelError, RecipeError
from fastloc.export.options import Options
from fastloc.export.to_onnx import export
from fastloc.recipes import recipe, temperatures
from fastloc.recipes.temperatures import Temperatures
from fastloc.runtime.localizer import OnnxLocalizer
from mutations import json_edits, raw

SIZE = (48, 48)
SAMPLE = embedded.SAMPLES / "market.webp"


@pytest.fixture(scope="module")
def found() -> Temperatures:
    """Temperatures of the embedded model at a small size."""
    return calibration.calibrate(Localizer(size=SIZE), calibration.scenes(2, SIZE), blocks=3, source="two scenes")


@pytest.fixture(scope="module")
def file(found: Temperatures, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("temperatures") / "embedded.json"
    found.save(path)
    return path


def test_survives_the_file(found: Temperatures, file: Path) -> None:
    assert Temperatures.load(file) == found
    assert [each.name for each in file.parent.iterdir()] == ["embedded.json"]
    assert (found.blocks, found.iterations, found.sizes, found.pictures) == (3, 1, (SIZE,), 2)


def test_a_recipe_reads_its_part(found: Temperatures) -> None:
    table = np.asarray(found.table)
    part = np.asarray(found.table_for(recipe("gem", blocks=2, iterations=0, terms=("qq", "vv"))))
    assert np.array_equal(part, table[-2:, :, [2, 0], :1])


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("gem", {"blocks": 4}, "it changes 4 blocks, and 3 were measured"),
        ("gem", {"blocks": 3, "iterations": 2}, "it has 2 iterations, and 1 were measured"),
        ("gem_calibrated", {"blocks": 3, "rho": 0.2}, "its rho is 0.2, and they were measured at 0.7"),
        ("gem_matched", {"blocks": 3}, "it solves its own for every picture"),
        ("clip_surgery", {}, "they are for attention of unit vectors to themselves, as in 'gem'"),
        ("gem", {"blocks": 3, "terms": ("qk", "vv"), "iterations": 0}, "qk was not measured, only vv, kk, qq"),
    ],
)
def test_what_does_not_fit_is_refused(method: str, changes: dict[str, Any], message: str, found: Temperatures) -> None:
    with pytest.raises(RecipeError, match=f"temperatures of embedded do not fit method {method!r}: {message}"):
        found.table_for(recipe(method, **changes))


# in a localizer


def test_every_unit_method_takes_them(file: Path, found: Temperatures) -> None:
    for method in ("gem", "gem_calibrated"):
        localizer = Localizer(method=method, temperatures=file, size=SIZE, blocks=3, official=True)
        assert localizer.recipe.inv_temp == found.table_for(localizer.recipe), method
        # a file given is for calibrated methods chosen later too, and for no other
        assert localizer.with_method("gem_calibrated", blocks=2).recipe.inv_temp == found.table_for(recipe("gem_calibrated", blocks=2))
        assert localizer.with_method("gem", official=True).recipe.inv_temp == "adaptive"
    result = Localizer(method="gem_calibrated", temperatures=found, size=SIZE, blocks=3)(SAMPLE, ["cat", "pizza"])
    assert np.isfinite(result.heatmaps).all()


def test_the_embedded_model_comes_with_its_own() -> None:
    localizer = Localizer(method="gem_calibrated")
    shipped = Temperatures.load(temperatures.shipped_with("embedded") or "")
    assert localizer.recipe.inv_temp == shipped.table_for(recipe("gem_calibrated"))
    assert shipped.tower == digest(localizer.source.vit)


def test_the_shipped_table_is_what_its_pictures_give() -> None:
    shipped = Temperatures.load(temperatures.shipped_with("embedded") or "")
    pictures = calibration.scenes(shipped.pictures, (96, 96))
    again = calibration.calibrate(Localizer(), pictures, rho=shipped.rho, blocks=1, iterations=shipped.iterations)
    assert again.sizes == shipped.sizes
    np.testing.assert_allclose(again.table[-1], shipped.table[-1], rtol=1e-3)


def test_a_number_of_ones_own_is_an_answer() -> None:
    assert Localizer(method="gem_calibrated", inv_temp=7.0).recipe.inv_temp == 7.0


def test_another_models_are_refused(found: Temperatures, file: Path) -> None:
    match = r"measured on embedded \(image tower [0-9a-f]{12}\), and the model is embedded \([0-9a-f]{12}\): run `fastloc calibrate` on it"
    with pytest.raises(ModelError, match=match):
        Localizer("embedded", "random", "gem", temperatures=file, blocks=3)


def test_two_answers_are_refused(found: Temperatures) -> None:
    with pytest.raises(RecipeError, match=r"temperatures must be left out with inv_temp, got both \(inv_temp 5\.0\)"):
        Localizer(temperatures=found, inv_temp=5.0, blocks=3)


@pytest.mark.slow("an export")
def test_an_exported_file_holds_them(file: Path, tmp_path: Path) -> None:
    localizer = Localizer(method="gem_calibrated", temperatures=file, size=SIZE, blocks=2, fit="stretch", dtype="float32")
    manifest = export(localizer, tmp_path / "m.onnx", Options(size=SIZE, texts=("cat", "pizza")))
    assert manifest.recipe == localizer.recipe
    answered = OnnxLocalizer(tmp_path / "m.onnx", providers="cpu")(SAMPLE)
    expected = localizer(SAMPLE, ["cat", "pizza"])
    assert np.abs(answered.similarity - expected.similarity).max() < 1e-4


# files that are none


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no JSON": (lambda content: "{", "metadata is damaged"),
    "another kind": (lambda content: {"model": "x"}, "metadata is damaged"),
    "a newer format": (lambda content: content | {"format": 2}, "of format 2"),
    "a field less": (lambda content: {key: value for key, value in content.items() if key != "tower"}, "'tower' is missing"),
    "a table of zeros": (lambda content: content | {"table": [[[[0.0], [1.0], [1.0]]]]}, "table must be of numbers above 0"),
    "a ragged table": (lambda content: content | {"table": [[[[1.0], [1.0, 2.0], [1.0]]]]}, "table must be of numbers above 0"),
    "nested too deep": (lambda content: '{"format": 1, "table": ' + "[" * 100_000, "must not be nested so deep"),
    "a table of texts": (lambda content: content | {"table": [[[["1"]]]]}, r"table\[0\]\[0\]\[0\]\[0\] must be float, got str"),
    "a number beyond all others": (lambda content: json.dumps(content)[:-1] + ', "rho": 1e400}', "rho: Number out of range"),
    "a rho that is no share": (lambda content: content | {"rho": 7}, "rho must be a number from 1e-06 to 1, got 7"),
    "an unknown stream": (lambda content: content | {"streams": ["vv", "kk", "zz"]}, "unknown stream 'zz'"),
    "a stream twice": (lambda content: content | {"streams": ["vv", "kk", "kk"]}, "streams must be named once each"),
    "a name of two lines": (lambda content: content | {"model": "a\nb"}, "model must be one line"),
    "another number of streams": (lambda content: content | {"table": [[[[1.0], [1.0]]]]}, "table must be of numbers above 0"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file(case: str, file: Path, tmp_path: Path) -> None:
    change, message = BROKEN[case]
    made = change(json.loads(file.read_text()))
    path = tmp_path / "t.json"
    path.write_text(made if isinstance(made, str) else json.dumps(made))
    with pytest.raises(ModelError, match=message):
        Temperatures.load(path)


def test_no_edit_ends_in_anything_else(file: Path, tmp_path: Path) -> None:
    path, row = tmp_path / "t.json", recipe("gem_calibrated")

    def call(made: object) -> None:
        path.write_text(json.dumps(made))
        Temperatures.load(path).table_for(row)

    assert raw(json_edits(json.loads(file.read_text()), 5, 300), call) == []


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"temperatures file '.*none\.json' cannot be read: No such file"):
        Temperatures.load(tmp_path / "none.json")
    with pytest.raises(ModelError, match="cannot be read: Is a directory"):
        Temperatures.load(tmp_path)


# at the command line


def test_calibrate_and_locate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t.json"
    made = "calibrate --from noise --count 1 --size 48 --blocks 2 --iterations 0 --rho 0.5 -o"
    assert main([*made.split(), str(file)]) == 0
    output = capsys.readouterr().out
    assert "rho met" in output and "fastloc's noise" in output and str(file) in output
    found = Temperatures.load(file)
    assert (found.rho, found.blocks, found.iterations, found.pictures) == (0.5, 2, 0, 1)
    asked = ["--method", "gem", "--blocks", "2", "--iterations", "0", "--temperatures", str(file), "--size", "48", "--json"]
    assert main(["locate", str(SAMPLE), "-t", "cat", *asked]) == 0
    assert main(["calibrate", str(SAMPLE), "--size", "48", "--blocks", "1", "-o", str(file)]) == 0
    assert Temperatures.load(file).source == "pictures"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("calibrate -o t.json", "give pictures, or --from scenes or --from noise"),
        (f"calibrate {SAMPLE} --from noise -o t.json", "give pictures, or --from scenes or --from noise, not both"),
        (f"calibrate {SAMPLE} -o t.txt", "--output must be a .json file, got t.txt"),
        (f"calibrate {SAMPLE} -o t.json --rho 1.5", "rho must be a share of the tokens between 0 and 1, got 1.5"),
        (f"calibrate {SAMPLE} -o t.json --blocks 7", "blocks must be 1 to 6 for this model, got 7"),
        ("calibrate none.png -o t.json", "none.png"),
        (f"locate {SAMPLE} -t cat --temperatures none.json", "temperatures file 'none.json' cannot be read"),
    ],
)
def test_what_is_wrong_is_reported_in_one_line(
    line: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == 1
    error_line = capsys.readouterr().err.splitlines()[-1]
    assert error_line.startswith("fastloc: error: ") and message in error_line
    assert not list(tmp_path.iterdir())


def test_an_exported_file_takes_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["locate", str(SAMPLE), "-t", "cat", "--model", "m.onnx", "--temperatures", "t.json"]) == 1
    assert "--temperatures cannot be given with m.onnx: the file decides that" in capsys.readouterr().err


def test_errors_are_of_one_family() -> None:
    assert issubclass(ModelError, FastlocError) and issubclass(RecipeError, FastlocError)
