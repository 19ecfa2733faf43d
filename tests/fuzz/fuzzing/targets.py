"""The table of all targets, by name."""

from __future__ import annotations

from fuzzing import of_data, of_messages, of_models, of_onnx, of_pictures
from fuzzing.target import Target

__all__ = ["TARGETS", "Target"]

TARGETS: dict[str, Target] = {
    row.name: row for rows in (of_onnx.ROWS, of_models.ROWS, of_messages.ROWS, of_pictures.ROWS, of_data.ROWS) for row in rows
}
