"""Dependencies of fastloc: a lock with hashes that fits pyproject.toml, and a NOTICE with every licence."""

import re
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from repo import REPO

LOCK = (REPO / ".ci" / "requirements.lock").read_text(encoding="utf-8")
NOTICE = (REPO / "NOTICE").read_text(encoding="utf-8")
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# what is installed for those who use fastloc, not for those who change it
EXTRAS = {"-": PROJECT["dependencies"], **{name: rows for name, rows in PROJECT["optional-dependencies"].items() if name != "dev"}}


def requirements(extra: str) -> list[Requirement]:
    """The requirements of an extra, and of those it names in turn."""
    found: list[Requirement] = []
    for each in map(Requirement, PROJECT["optional-dependencies"][extra]):
        found += [row for name in sorted(each.extras) for row in requirements(name)] if each.name == "fastloc" else [each]
    return found


def locked() -> dict[str, list[str]]:
    """The entries of the lock by package."""
    found: dict[str, list[str]] = {}
    for entry in re.split(r"\n(?=\S)", LOCK.strip()):
        found.setdefault(canonicalize_name(entry.partition("==")[0]), []).append(entry)
    return found


def test_every_entry_of_the_lock_is_one_version_with_hashes_and_from_nowhere_in_particular() -> None:
    for name, entries in locked().items():
        for entry in entries:
            first, *lines = entry.splitlines()
            assert re.fullmatch(r"[a-z0-9-]+==[0-9][\w.!+]*( ; .+)? \\", first), f"{name}: {first}"
            assert all(re.fullmatch(r" {4}(--hash=sha256:[0-9a-f]{64}( \\)?|# .*)", line) for line in lines), name
            assert "--hash=sha256:" in entry, f"{name} has no hash"
    assert not re.search(r"://|^-|/(home|root|work|opt|tmp)/|@ ", LOCK, re.MULTILINE), "an address, an option or a machine's path"


def test_the_lock_fits_pyproject() -> None:
    """`make lock` writes it again."""
    entries = locked()
    for requirement in [*map(Requirement, PROJECT["dependencies"]), *requirements("dev")]:
        versions = [re.split(r"[ ;]", entry.partition("==")[2])[0] for entry in entries.get(canonicalize_name(requirement.name), [])]
        assert versions, f"{requirement.name} is not in the lock: make lock"
        assert all(requirement.specifier.contains(version) for version in versions), f"{requirement} is locked at {versions}: make lock"


def test_a_build_needs_nothing_that_is_not_locked() -> None:
    """The lock is installed first, and fastloc itself without build isolation."""
    requires = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    assert {canonicalize_name(Requirement(each).name) for each in requires} <= set(locked())


def listed() -> dict[str, tuple[str, list[str]]]:
    """NOTICE's table: licence and extras by package."""
    table = NOTICE.partition("    package ")[2].partition("\n")[2].partition("\n\n")[0]
    rows = [re.split(r" {2,}", line.strip()) for line in table.splitlines()]
    return {canonicalize_name(name): (licence, extras.split(", ")) for name, licence, extras in rows}


def test_notice_names_every_direct_dependency_and_no_other() -> None:
    named: dict[str, list[str]] = {}
    for extra, rows in EXTRAS.items():
        for requirement in map(Requirement, rows):
            if requirement.name != "fastloc":
                named.setdefault(canonicalize_name(requirement.name), []).append(extra)
    assert {name: sorted(extras) for name, (_, extras) in listed().items()} == {name: sorted(extras) for name, extras in named.items()}


# as packages name them that have no SPDX expression, in a classifier or in words
CLASSIFIERS = {
    "BSD License": "BSD-3-Clause", "MIT License": "MIT", "Apache Software License": "Apache-2.0",
    "Other/Proprietary License": "Proprietary", "Python Software Foundation License": "PSF-based",
    "FreeBSD": "BSD-2-Clause", "Apache 2.0": "Apache-2.0",
}  # fmt: skip


@pytest.mark.parametrize("name", listed())
def test_licences_are_those_that_the_packages_declare(name: str) -> None:
    try:
        about = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        pytest.skip("not installed here")
    licence = listed()[name][0].partition(" (")[0]
    plain = about.get("License") or ""
    declared = [CLASSIFIERS[plain]] if plain in CLASSIFIERS else re.findall(r"[\w.-]+", about.get("License-Expression") or plain)
    declared += [CLASSIFIERS[each.rpartition(" :: ")[2]] for each in about.get_all("Classifier", []) if each.startswith("License ::")]
    assert licence in declared, f"{name} declares {declared}"


def test_the_vocabulary_that_is_bundled_has_its_licence() -> None:
    from fastloc.embedded import GEM_TEXT_ONNX
    from fastloc.onnx_file import header
    from fastloc.onnx_file.text_manifest import TOKENIZER, unpack

    assert '"<|startoftext|>"' in (content := unpack(header.read(GEM_TEXT_ONNX).metadata[TOKENIZER], "")) or '"<start_of_text>"' in content
    assert "49,408 tokens" in NOTICE and "Copyright (c) 2021 OpenAI\n\n    Permission is hereby granted, free of charge" in NOTICE
    assert 'THE SOFTWARE IS PROVIDED "AS IS"' in NOTICE
    assert set(PROJECT["license-files"]) == {"LICENSE", "NOTICE"}, "both are in every wheel"
