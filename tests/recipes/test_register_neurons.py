"""A model's register neurons in a file, and the commands that write and read it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import planted_outliers
from fastloc import embedded
from fastloc.cli import main
from fastloc.engine import calibration
from fastloc.engine.localizer import Localizer
from fastloc.errors import ModelError
from fastloc.export.options import Options
from fastloc.export.to_onnx import export
from fastloc.recipes.register_neurons import RegisterNeurons
from fastloc.runtime.localizer import OnnxLocalizer
from mutations import json_edits, raw

SAMPLE = embedded.SAMPLES / "market.webp"
SAMPLES = sorted(str(each) for each in embedded.SAMPLES.glob("*.webp"))
FOUND = RegisterNeurons(
    neurons=((1, (5, 70)), (3, (2,))), registers=2, outliers="tokens longer than 30", tokens=17, sizes=((96, 96),), pictures=4,
    source="pictures", model="a model", tower="sha256:" + "0" * 64,
)  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "registers.json"
    FOUND.save(path)
    return path


def test_survives_the_file(file: Path) -> None:
    assert RegisterNeurons.load(file) == FOUND
    assert [each.name for each in file.parent.iterdir()] == ["registers.json"]


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no JSON": (lambda content: "{", "metadata is damaged"),
    "a newer format": (lambda content: content | {"format": 2}, "of format 2"),
    "a field less": (lambda content: {key: value for key, value in content.items() if key != "neurons"}, "'neurons' is missing"),
    "no neuron": (lambda content: content | {"neurons": []}, "neurons must be .* at least one"),
    "a block twice": (lambda content: content | {"neurons": [[1, [2]], [1, [3]]]}, "neurons must be "),
    "a block below 0": (lambda content: content | {"neurons": [[-1, [2]]]}, "neurons must be "),
    "a neuron that is no number": (lambda content: content | {"neurons": [[1, ["2"]]]}, r"neurons\[0\]\[1\]\[0\] must be int, got str"),
    "no register": (lambda content: content | {"registers": 0}, "registers must be a whole number from 1 to 64, got 0"),
    "a name of two lines": (lambda content: content | {"outliers": "a\nb"}, "outliers must be one line"),
    "temperatures": (lambda content: json.loads(embedded.TEMPERATURES.read_text()), "is missing"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file(case: str, file: Path, tmp_path: Path) -> None:
    change, message = BROKEN[case]
    made = change(json.loads(file.read_text()))
    path = tmp_path / "broken.json"
    path.write_text(made if isinstance(made, str) else json.dumps(made))
    with pytest.raises(ModelError, match=message):
        RegisterNeurons.load(path)


def test_no_edit_ends_in_anything_else(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "edited.json"

    def call(made: object) -> None:
        path.write_text(json.dumps(made))
        RegisterNeurons.load(path)

    assert raw(json_edits(json.loads(file.read_text()), 5, 80), call) == []


# at the command line


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = torch.cat(list(calibration.inputs(Localizer(method="itsm", size=(96, 96), device="cpu"), SAMPLES)))
    return planted_outliers.folder(tmp_path_factory.mktemp("models") / "planted", pixels)


def test_registers_and_locate(planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "r.json"
    assert main(["registers", *SAMPLES, "--model", str(planted), "--size", "96x96", "--top", "1", "--tokens", "2", "-o", str(file)]) == 0
    output = capsys.readouterr().out
    assert "3 times the median patch" in output and "with registers 0" in output and str(file) in output
    found = RegisterNeurons.load(file)
    assert (found.neurons, found.registers) == (((planted_outliers.BLOCK, (planted_outliers.NEURON,)),), 2)
    asked = ["locate", str(SAMPLE), "-t", "cat", "--model", str(planted), "--json"]
    peaks = []
    for more in ([], ["--registers", str(file)]):
        assert main([*asked, *more]) == 0
        peaks.append(json.loads(capsys.readouterr().out)["pictures"][0]["texts"][0])
    assert peaks[0] != peaks[1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"registers {SAMPLE} -o r.txt", "--output must be a .json file, got r.txt"),
        (f"registers {SAMPLE} -o r.json", "embedded has no outlier tokens in the pictures given (1)"),
        (f"registers {SAMPLE} -o r.json --ratio 0.5", "ratio must be a number from"),
        ("registers none.png -o r.json", "none.png"),
        (f"locate {SAMPLE} -t cat --registers none.json", "register neurons file 'none.json' cannot be read"),
        (f"locate {SAMPLE} -t cat --model m.onnx --registers r.json", "--registers cannot be given with m.onnx: the file decides that"),
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


@pytest.mark.slow("an export")
def test_an_exported_file_holds_them(planted: Path, tmp_path: Path) -> None:
    size = (48, 48)
    plain = Localizer(str(planted), method="gem", size=size, fit="stretch", dtype="float32", device="cpu")
    localizer = plain.with_method("gem", fit="stretch", registers=2, neurons=((planted_outliers.BLOCK, (planted_outliers.NEURON,)),))
    manifest = export(localizer, tmp_path / "m.onnx", Options(size=size, texts=("cat", "pizza")))
    assert manifest.recipe == localizer.recipe and manifest.recipe.registers == 2
    answered = OnnxLocalizer(tmp_path / "m.onnx", providers="cpu")(SAMPLE)
    expected, without = (each(SAMPLE, ["cat", "pizza"]).similarity for each in (localizer, plain))
    assert abs(answered.similarity - expected).max() < 1e-4 < abs(without - expected).max()
