"""The installed package: light to import, complete in a wheel, clear about names it does not have."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import fastloc
from repo import REPO

HEAVY = ("torch", "onnxruntime", "onnx", "triton", "open_clip", "scipy", "PIL", "numpy", "rich")
# folder of the repo -> folder of the wheel
ROOMS = {"fastloc": "fastloc", "kernels": "fastloc/kernels", "export": "fastloc/export"}


def fresh_python(code: str, folder: Path) -> str:
    """Output of code in a new interpreter started in `folder`, where no fastloc lies about."""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "module",
    [
        "fastloc",
        "fastloc.errors",
        "fastloc.onnx_file.formats",
        "fastloc.kernels",
        "fastloc.export",
        "fastloc.cli",
        "fastloc.bench.peer_environments",
    ],
)
def test_import_is_light(module: str, tmp_path: Path) -> None:
    found = fresh_python(f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])", tmp_path)
    assert not found.split(), f"import {module} imports {found.strip()}"


def test_every_public_name_exists() -> None:
    assert set(fastloc.__all__) <= set(dir(fastloc))
    for name in fastloc.__all__:
        assert getattr(fastloc, name) is not None, name


def test_the_face_survives_the_import_of_every_module(tmp_path: Path) -> None:
    """A submodule becomes an attribute of its package when it is imported, and could take the place of a name of the face."""
    modules = sorted(str(file.relative_to(REPO)).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
                     for folder in ("fastloc", "fastloc/kernels", "fastloc/export") for file in (REPO / folder).rglob("*.py")
                     if "peers" not in file.parts and file.name != "__main__.py")  # fmt: skip
    code = f"""
import importlib, fastloc
names = {{name: getattr(fastloc, name) for name in fastloc.__all__}}
for name in {modules!r}:
    importlib.import_module(name)
print(*[name for name, value in names.items() if getattr(fastloc, name) is not value])
"""
    assert not fresh_python(code, tmp_path).split()


def test_methods_are_the_recipes() -> None:
    from fastloc.recipes import RECIPES

    assert fastloc.methods() == list(RECIPES)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'Localiser'.*Localizer"):
        _ = fastloc.Localiser


def test_the_installed_version_is_the_package_s() -> None:
    from importlib.metadata import version

    assert version("fastloc") == fastloc.__version__


def test_rooms_are_linked_into_the_package() -> None:
    for room in ("kernels", "export"):
        link = REPO / "fastloc" / room
        assert link.is_symlink() and link.readlink() == Path("..") / room, f"{link} must be a relative symlink to ../{room}"


def expected_files() -> set[str]:
    """Every file of the three folders, named as in a wheel."""
    files = set()
    for folder, target in ROOMS.items():
        for file in (REPO / folder).rglob("*"):
            inside = file.relative_to(REPO / folder)
            linked = folder == "fastloc" and inside.parts[0] in ("kernels", "export")
            if file.is_file() and not linked and "__pycache__" not in inside.parts:
                files.add(f"{target}/{inside}")
    return files


def build(kind: str, source: Path, folder: Path) -> Path:
    """The wheel or sdist of a source tree, built offline by this environment's setuptools."""
    command = [sys.executable, "-P", "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what packaging reads, so that building leaves nothing behind in the repo (setuptools reuses a stale build/)."""
    import shutil

    copy = tmp_path_factory.mktemp("source")
    for name in (*ROOMS, "pyproject.toml", "LICENSE", "NOTICE", "README.md"):
        if (REPO / name).is_dir():
            shutil.copytree(REPO / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        elif (REPO / name).is_file():
            shutil.copy(REPO / name, copy / name)
    return copy


def test_the_wheel_holds_the_repo_s_files(source: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(build("wheel", source, tmp_path)) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())
    assert held == expected_files()


def test_an_unpacked_wheel_imports_from_itself(source: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(build("wheel", source, tmp_path)) as wheel:
        wheel.extractall(site)
    # first on sys.path, so before the editable install
    code = f"import sys; sys.path.insert(0, {str(site)!r}); import fastloc.kernels, fastloc.export; print(fastloc.kernels.__file__)"
    assert Path(fresh_python(code, tmp_path).strip()) == site / "fastloc" / "kernels" / "__init__.py"
