"""The command line: what it prints, writes and exits with. Most of it runs with a stand-in for the engine that needs no torch;
the tests at the end run the embedded model."""

import json
import struct
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command_line import Run, run_fixture  # noqa: F401
from fastloc.checkpoints.families import timm_towers
from fastloc.cli import locate
from fastloc.errors import FastlocWarning, ImageError, ModelError
from fastloc.imaging.geometry import fit
from fastloc.imaging.images import load
from fastloc.recipes import RECIPES
from fastloc.results.result import Result
from fastloc.utils import console
from fastloc.utils.exit_status import exit_status


class StandIn:
    """Stand-in for Localizer: every text peaks in the lower right patch."""

    made: list[tuple[tuple[Any, ...], dict[str, Any]]]

    def __init__(self, *args: Any, **options: Any) -> None:
        self.made.append((args, options))

    @property
    def method(self) -> str:
        return str(self.made[-1][0][2])

    def attempts(self, images: Iterable[Any], texts: list[str], *, max_pixels: int, decode: str) -> Iterator[Result | ImageError]:
        assert decode == "full"
        for image in images:
            try:
                yield self(image, texts, max_pixels)
            except ImageError as error:
                yield error

    def __call__(self, image: Path, texts: list[str], max_pixels: int) -> Result:
        if isinstance(image, ImageError):
            raise image
        picture = load(image, max_pixels=max_pixels)
        similarity = np.zeros((len(texts), 4, 4), np.float32)
        similarity[:, 3, 3] = 0.25
        geometry = fit(picture.size[::-1], 32, 8)
        return Result(picture=picture, texts=tuple(texts), similarity=similarity, geometry=geometry, order="picture", name=str(image))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    """The stand-in, put where the command line finds the engine."""
    stand_in = type("Localizer", (StandIn,), {"made": []})
    monkeypatch.setitem(sys.modules, "fastloc.engine.localizer", module := ModuleType("fastloc.engine.localizer"))
    module.Localizer = stand_in  # type: ignore[attr-defined]
    return stand_in


def picture(path: Path, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "teal").save(path)
    return path


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_help_has_examples_and_no_command_is_a_usage_error(run: Run) -> None:
    for command in ((), ("locate",)):
        ended = run(*command, "--help")
        assert ended.status == 0 and "examples:" in ended.out
    assert run().status == 2
    assert run("--version").out.startswith("fastloc ")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["a.png"], "-t/--text"),
        (["a.png", "-t", " "], "empty"),
        (["-t", "cat"], "IMAGE"),
        (["a.png", "-t", "cat", "--size", "0"], "336x448"),
        (["a.png", "-t", "cat", "--size", "3x4x5"], "336x448"),
        (["a.png", "-t", "cat", "--inv-temp", "-1"], "above 0"),
        (["a.png", "-t", "cat", "--inv-temp", "nan"], "above 0"),
        (["a.png", "-t", "cat", "--fit", "squash"], "letterbox"),
        (["a.png", "-t", "cat", "--plan", "attention"], "attention=sdpa"),
    ],
)
def test_usage_errors_exit_2_and_say_what_would_be_right(run: Run, argv: list[str], message: str) -> None:
    ended = run("locate", *argv)
    assert ended.status == 2 and not ended.out
    assert message in ended.err.splitlines()[-1]


def test_plan_reports_how_a_method_would_be_executed(run: Run) -> None:
    output = run("plan", "--method", "naclip", "--size", "64", "--batch", "3", "--device", "cpu", "--plan", "projection=joint")
    assert output.status == 0 and output.out.startswith("plan for naclip, batch 3, 64 x 64 on cpu\n")
    assert "joint       as requested" in output.out and "not graph: " in output.out
    decisions = json.loads(run("plan", "--json", "--device", "cpu").out)
    assert {"field", "chosen", "why", "refused"} == set(decisions[0]) and decisions[0]["chosen"] == "float32"
    refused = run("plan", "--device", "cpu", "--plan", "launch=graph")
    assert refused.status == 1 and not refused.out
    assert refused.err.strip() == "fastloc: error: launch 'graph' is not possible here: the device is cpu, and CUDA graphs need a CUDA GPU"
    assert run("plan", "--batch", "0").status == 2


def test_locate_prints_where_and_writes_an_overlay(run: Run, engine: type[StandIn], tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    ended = run("locate", "a.png", "-t", "cat", "[bold]pizza", "-t", "red car")
    assert ended.status == 0
    for text in ("cat", "[bold]pizza", "red car"):
        # the lower right patch of 4 x 4 in a picture of 40 x 30, centred at (35, 26.25)
        (row,) = [line.split() for line in ended.out.splitlines() if line.startswith(text)]
        x, y = map(int, row[len(text.split()) :][:2])
        assert 30 <= x < 40 and 22 <= y < 30
    assert files(tmp_path) == ["a.gem.png", "a.png"]
    assert "written: a.gem.png" in ended.out
    with Image.open(tmp_path / "a.gem.png") as overlay:
        overlay.verify()


def test_options_reach_the_engine(run: Run, engine: type[StandIn], tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    run("locate", "a.png", "-t", "cat")
    run(*"locate a.png -t cat --model M --pretrained P --method m --size 48x64 --fit crop --template plain --device cpu".split(),
        *"--dtype bfloat16 --plan attention=bmm launch=eager --official --blocks 3 --iterations 0 --inv-temp 20".split(),
        "--projections", "phi.safetensors", "--temperatures", "t.json", "--registers", "r.json")  # fmt: skip
    plain = {"size": None, "fit": None, "template": None, "device": None, "dtype": None, "plan": {}, "official": False,
             "projections": None, "temperatures": None, "registers": None}  # fmt: skip
    chosen = {
        "size": (48, 64), "fit": "crop", "template": "plain", "device": "cpu", "dtype": "bfloat16", "official": True,
        "plan": {"attention": "bmm", "launch": "eager"}, "projections": "phi.safetensors", "temperatures": Path("t.json"),
        "registers": Path("r.json"),
    }  # fmt: skip
    assert engine.made == [
        (("embedded", None, "gem"), plain),
        (("M", "P", "m"), {**chosen, "blocks": 3, "iterations": 0, "inv_temp": 20.0}),
    ]


def test_json_is_all_there_is_on_stdout(run: Run, engine: type[StandIn], tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    ended = run("locate", "a.png", "nothing.png", "-t", "cat", "--json")
    report = json.loads(ended.out)
    assert ended.status == 1
    assert set(report) == {"fastloc", "pictures", "errors"}
    (found,) = report["pictures"]
    assert found["name"] == "a.png" and found["overlay"] is None and found["npz"] is None
    assert found["texts"][0]["text"] == "cat" and found["texts"][0]["peak"]["x"] >= 30
    assert [each["name"] for each in report["errors"]] == ["nothing.png"] and "no such file" in report["errors"][0]["error"]
    assert files(tmp_path) == ["a.png"]
    # the overlays come back with -o, and are named
    ended = run("locate", "a.png", "-t", "cat", "--json", "--npz", "-o", "deep/maps")
    (found,) = json.loads(ended.out)["pictures"]
    assert (tmp_path / found["overlay"]).is_file() and (tmp_path / found["npz"]).is_file()


def test_npz_holds_the_maps(run: Run, engine: type[StandIn], tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    assert run("locate", "a.png", "-t", "cat", "dog", "--npz", "-o", "maps").status == 0
    with np.load(tmp_path / "maps" / "a.gem.npz") as arrays:
        assert arrays["heatmaps"].shape == (2, 30, 40)
        assert arrays["texts"].tolist() == ["cat", "dog"]


def test_bad_pictures_do_not_stop_the_others(run: Run, engine: type[StandIn], tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "z.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "a.png").read_bytes()[:50])
    ended = run("locate", "missing.png", "a.png", "bad.png", "z.png", "-t", "cat", "-o", "maps")
    assert ended.status == 1
    assert files(tmp_path / "maps") == ["a.gem.png", "z.gem.png"]
    assert "2 of 4 pictures" in ended.err
    assert [line.strip().partition(":")[0] for line in ended.err.splitlines()[-2:]] == ["missing.png", "bad.png"]
    assert "Traceback" not in ended.err


def test_nothing_is_written_for_a_bad_picture(run: Run, engine: type[StandIn], tmp_path: Path) -> None:
    ended = run("locate", "missing.png", "-t", "cat", "-o", "maps")
    assert ended.status == 1 and ended.err.splitlines()[-1] == "fastloc: error: missing.png: no such file"
    assert not (tmp_path / "maps").exists()


def test_no_output_takes_another_s_name(run: Run, engine: type[StandIn], tmp_path: Path) -> None:
    # a.gem.png is a picture here, and what a.png would be written to
    paths = [picture(tmp_path / name, (40, 30 + 10 * n)) for n, name in enumerate(["a.png", "x/A.png", "a.gem.png", "y/a.jpg"])]
    before = [path.read_bytes() for path in paths]
    ended = run("locate", *paths, "-t", "cat")
    assert ended.status == 0
    assert [path.read_bytes() for path in paths] == before
    assert len(set(files(tmp_path))) == 8
    jobs = locate.plan([Path("a.png"), Path("b/a.png"), Path("a-2.png")], "gem", Path("maps"), npz=True)
    assert [str(job.overlay) for job in jobs] == ["maps/a.gem.png", "maps/a-2.gem.png", "maps/a-2-2.gem.png"]
    assert [job.npz and job.npz.stem for job in jobs] == ["a.gem", "a-2.gem", "a-2-2.gem"]


def test_output_that_is_a_file_is_refused_before_the_model_is_loaded(run: Run, engine: type[StandIn], tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    ended = run("locate", "a.png", "-t", "cat", "-o", "a.png")
    assert ended.status == 1 and "a.png" in ended.err and not engine.made


def test_errors_are_one_line(run: Run, engine: type[StandIn], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ModelError("no such\nmodel")

    monkeypatch.setattr(engine, "__init__", fail)
    assert run("locate", "a.png", "-t", "cat") == (1, "", "fastloc: error: no such model\n")


@pytest.mark.parametrize(("raised", "status"), [(KeyboardInterrupt(), 130), (OSError("disk full"), 1)])
def test_other_ends(
    run: Run, engine: type[StandIn], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, raised: BaseException, status: int
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise raised

    monkeypatch.setattr(engine, "__call__", fail)
    ended = run("locate", picture(tmp_path / "a.png"), "-t", "cat")
    assert ended.status == status and "Traceback" not in ended.err


def test_a_missing_engine_says_how_to_get_it(tmp_path: Path) -> None:
    done = without_torch(tmp_path, "locate", "a.png", "-t", "cat", "--model", "ViT-B-16")
    assert done.returncode == 1
    assert done.stderr == 'fastloc: error: this needs torch, which is not installed: pip install "fastloc[engine]"\n'


def test_the_main_job_without_torch(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    done = without_torch(tmp_path, "locate", "a.png", "-t", "cat", "pizza", "--json")
    assert done.returncode == 0, done.stderr
    assert [each["text"] for each in json.loads(done.stdout)["pictures"][0]["texts"]] == ["cat", "pizza"]
    assert "without torch the embedded model runs in onnxruntime" in done.stderr
    assert without_torch(tmp_path, "demo").returncode == 0
    refused = without_torch(tmp_path, "locate", "a.png", "-t", "cat", "--blocks", "3")
    assert refused.returncode == 1 and 'needs torch: pip install "fastloc[engine]"' in refused.stderr


def without_torch(folder: Path, *argv: str) -> "subprocess.CompletedProcess[str]":
    code = f"import sys; sys.modules['torch'] = None; from fastloc.cli import main; sys.exit(main({list(argv)!r}))"
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_notes_are_reported_once(run: Run, engine: type[StandIn], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answer = engine.__call__

    def warn(self: StandIn, image: Path, texts: list[str], max_pixels: int) -> Result:
        warnings.warn("never saw 'zyx'", FastlocWarning, stacklevel=2)
        return answer(self, image, texts, max_pixels)

    monkeypatch.setattr(engine, "__call__", warn)
    ended = run("locate", picture(tmp_path / "a.png"), picture(tmp_path / "b.png"), "-t", "zyx", "--model", "M")
    assert ended.err == "fastloc: note: never saw 'zyx'\n"


def test_warnings_of_pillow_are_no_notes(tmp_path: Path) -> None:
    """A picture whose EXIF block names twenty values beyond its end is whole, and Pillow warns of each."""
    entries = b"".join(struct.pack("<HHII", 270 + number, 2, 1000, 9999) for number in range(20))
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 20) + entries + bytes(4)
    path = tmp_path / "a.jpg"
    Image.new("RGB", (8, 6), "red").save(path, exif=exif)
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        assert load(path).size == (8, 6)
        # in a program of the user's own Python's filters decide
        assert len(noted) >= 20
        noted.clear()
        assert exit_status("fastloc", lambda: 8 - load(path).width) == 0
        assert not noted


def test_a_bar_is_drawn_only_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with console.progress(3, stdout_is_data=False) as (_, step):
        step()
    assert not any(capsys.readouterr())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with console.progress(3, stdout_is_data=True) as (_, step):
        step()
    out, err = capsys.readouterr()
    assert not out and "3" in err


def test_methods_lists_every_recipe(run: Run) -> None:
    ended = run("methods")
    assert ended.status == 0 and all(name in ended.out for name in RECIPES)
    listed = json.loads(run("methods", "--json").out)
    assert [row["name"] for row in listed] == list(RECIPES)
    assert listed[0].keys() == {"name", "summary", "source", "blocks", "trained", "template", "fit", "official"}


def test_the_recommended_methods_come_with_their_measurements(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "220")
    listed = json.loads(run("methods", "best", "--json").out)
    assert listed.keys() == {"token", "pool", "resnet", "hierarchical"}
    assert all(kind["best"] in RECIPES and kind["why"] for kind in listed.values())
    ended = run("methods", "best")
    assert ended.status == 0 and "gem_calibrated for a model with a class token" in ended.out and "0.849 ± 0.014" in ended.out


# from here on with torch and the embedded model


def test_models_lists_what_fits(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # cells are broken at the terminal's width, whatever that is here
    monkeypatch.setenv("COLUMNS", "220")
    listed = json.loads(run("models", "--json").out)
    assert listed[0]["name"] == "embedded" and not any(row["refused"] for row in listed)
    # every configuration of open_clip is run
    assert json.loads(run("models", "--all", "--json").out) == listed
    ended = run("models")
    assert ended.status == 0 and "laion2b_s34b_b88k" in ended.out
    # a table for each family, with its columns; refused ones only where they are asked for
    shown = ("SigLIP 2", "PE-Core", "ConvNeXt", "text tower", "webli (Apache-2.0)", "nllb-200-distilled-600M, 77 tokens", "1.9 B", "316 M")
    for words in shown:
        assert words in ended.out, words
    assert "vit_relpos_medium_patch16_cls_224" in ended.out


def test_models_that_are_not_run_are_listed_where_they_are_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "220")
    monkeypatch.setattr(timm_towers, "_ROWS", ())
    listed, everything = (json.loads(run("models", *more, "--json").out) for more in ((), ("--all",)))
    refused = [row["name"] for row in everything if row["refused"]]
    assert len(everything) == len(listed) + len(refused) and "ViT-B-16-SigLIP" in refused
    assert "ViT-B-16-SigLIP " not in run("models").out
    assert "ViT-B-16-SigLIP " in (every := run("models", "--all").out) and "its image tower is timm's" in every


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "gme"], "'gem'"),
        (["--model", "ViT-B-61"], "'ViT-B-16'"),
        (["--model", "ViT-B-16"], "laion2b_s34b_b88k"),
        (["--size", "100"], "100"),
        (["--blocks", "99"], "99"),
        (["--template", "gm"], "'gem'"),
        (["--dtype", "float31"], "'float32'"),
        (["--device", "abacus"], "abacus"),
    ],
)
def test_what_the_engine_refuses_is_reported_in_one_line(run: Run, tmp_path: Path, options: list[str], message: str) -> None:
    ended = run("locate", picture(tmp_path / "a.png"), "-t", "cat", *options)
    assert ended.status == 1 and not ended.out
    last = ended.err.splitlines()[-1]
    assert last.startswith("fastloc: error: ") and message in last and "Traceback" not in ended.err
    assert files(tmp_path) == ["a.png"]


@pytest.mark.parametrize("method", RECIPES)
def test_locate_runs_every_method_on_the_embedded_model(run: Run, tmp_path: Path, method: str) -> None:
    ended = run("locate", picture(tmp_path / "a.png", (96, 64)), "-t", "cat", "red car", "--size", "96", "--method", method, "--json")
    assert ended.status == 0, ended.err
    (found,) = json.loads(ended.out)["pictures"]
    assert found["method"] == method and found["model"] == "embedded" and found["grid"] == {"height": 12, "width": 18}


def test_demo_finds_its_texts_and_says_what_to_type_next(run: Run, tmp_path: Path) -> None:
    from fastloc.cli.demo import sample

    file, texts = sample()
    ended = run("demo")
    assert ended.status == 0, ended.err
    assert all(text in ended.out for text in texts) and file.name in ended.out
    assert "locate photo.jpg" in ended.out and "--pretrained" in ended.out
    assert not ended.err, "the sample's texts are words that the embedded model knows"
    with Image.open(tmp_path / "fastloc-demo.png") as overlay:
        overlay.verify()


def test_python_m_fastloc_locates(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    command = [sys.executable, "-m", "fastloc", "locate", "a.png", "-t", "cat", "--size", "96"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "written: a.gem.png" in done.stdout and (tmp_path / "a.gem.png").is_file()


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    command = ["bash", "-c", '"$0" -m fastloc methods --json | head -c 1', sys.executable]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "[" and not done.stderr
