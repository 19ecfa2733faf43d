"""Functions that tests send to processes that are not forked: these import them by name."""

from pathlib import Path
from typing import Any


def locate_in(connection: Any, localizer: Any, picture: Path, text: str) -> None:
    """Send the localizer's Result."""
    connection.send(localizer(picture, text))


class Located:
    """A data set as one writes it for a DataLoader: the localizer is an attribute, an item a similarity [1, h, w]."""

    def __init__(self, localizer: Any, picture: Path, texts: list[str]) -> None:
        self.localizer, self.picture, self.texts = localizer, picture, texts

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> Any:
        return self.localizer(self.picture, self.texts[index]).similarity
