"""A Locate that kills its process, for tests of who makes its work again; actors import it by name."""

import os
import signal
from collections.abc import Iterator
from typing import Any

from fastloc.scale.locate import Locate


class Deadly(Locate):
    """Kills every actor of Ray that comes to the picture 04.png."""

    def windows(self, groups: Any) -> Iterator[Any]:
        """The windows of Locate."""
        import ray

        for tag, pictures in groups:
            if any(key == "04.png" for key, _ in pictures) and ray.get_runtime_context().get_actor_id():
                os.kill(os.getpid(), signal.SIGKILL)
            yield from super().windows([(tag, pictures)])
