"""Records of which only some rows are measured again."""

import json
from pathlib import Path

import pytest

from quality_parts.kept_rows import Incomplete, together

OLD = {"machine": "a", "fastloc": "0.1", "rows": [{"method": "gem", "x": 1}, {"method": "itsm", "x": 2}]}


def test_old_rows_say_which_version_measured_them(tmp_path: Path) -> None:
    path, fresh = tmp_path / "record.json", [{"method": "pearl", "x": 3}, {"method": "gem", "x": 4}]
    path.write_text(json.dumps(OLD))
    found = together(path, {"machine": "a", "fastloc": "0.2"}, "rows", fresh, ("itsm", "gem", "pearl"))
    assert found == [{"method": "itsm", "x": 2, "fastloc": "0.1"}, {"method": "gem", "x": 4}, {"method": "pearl", "x": 3}]
    path.write_text(json.dumps({**OLD, "rows": found, "fastloc": "0.2"}))
    assert together(path, {"machine": "a", "fastloc": "0.2"}, "rows", fresh, ("itsm", "gem", "pearl")) == found


def test_rows_of_another_machine_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(OLD))
    with pytest.raises(Incomplete, match="no rows of itsm"):
        together(path, {"machine": "b", "fastloc": "0.1"}, "rows", [{"method": "gem", "x": 4}], ("itsm", "gem"))
