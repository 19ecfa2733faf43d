"""The service as a Ray Serve application: replicas of it behind Ray's proxy, as many as the load asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from ray import serve
from starlette.types import ASGIApp

from fastloc.auto import EMBEDDED, load
from fastloc.errors import FastlocError, unknown
from fastloc.serve.app import application
from fastloc.serve.settings import Settings
from fastloc.utils.schema import convert, number

__all__ = ["Deployment", "app"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A replica's model, and the number of replicas.

    Attributes:
        model, pretrained, method, device: as for `fastloc.load`; None: the model's own
        input_size: of the model, in pixels: `size` of `fastloc.load`
        self_check: the share of the model's calls that are checked, see `fastloc.Localizer`
        min_replicas, max_replicas: there are as many in between as the load asks for
        target: requests that one replica works on at a time, on average, before Ray starts another
        num_cpus, num_gpus: that Ray sets aside for a replica; a share of a GPU, such as 0.25, puts several on one
    """

    model: str = EMBEDDED
    pretrained: str | None = None
    method: str | None = None
    input_size: int | None = None
    device: str | None = None
    self_check: float = 0.0
    min_replicas: int = 1
    max_replicas: int = 4
    target: float = 16.0
    num_cpus: float = 1.0
    num_gpus: float = 0.0

    def __post_init__(self) -> None:
        number("min_replicas", self.min_replicas, 0, self.max_replicas)
        number("max_replicas", self.max_replicas, 1, 10_000)
        number("target", self.target, 0.01, 10_000)
        number("num_cpus", self.num_cpus, 0, 1_000)
        number("num_gpus", self.num_gpus, 0, 100)
        number("self_check", self.self_check, 0, 1)

    def application(self, settings: Settings) -> ASGIApp:
        """The HTTP application around this model, which has made a batch already. Raises FastlocError as `fastloc.load` does."""
        given = {"method": self.method, "size": self.input_size, "device": self.device, "self_check": self.self_check or None}
        chosen = {name: value for name, value in given.items() if value is not None}
        made = application(load(self.model, self.pretrained, **chosen), settings)
        made.state.service.warm_up()
        return made


def app(arguments: dict[str, Any]) -> serve.Application:
    """The application that `serve run fastloc.scale:app model=ViT-B-16 pretrained=laion2b_s34b_b88k max_replicas=8` starts.

    Args:
        arguments: fields of `Deployment` and of `fastloc.serve.settings.Settings`, by name; strings, as a command line gives them, or
            values, as `args:` of a Serve config file does. `methods` is a list, or names with commas between them.

    Raises:
        FastlocError: a name that neither has, or a value that is out of its range.
    """
    deployment, settings = _read(arguments, Deployment), _read(_with_lists(arguments), Settings)
    known = _names(Deployment) + _names(Settings)
    for name in arguments:
        if name not in known:
            raise FastlocError(unknown("argument", name, known))

    # made in the replica: a model does not travel
    def build() -> ASGIApp:
        return deployment.application(settings)

    replicas = serve.deployment(
        name="fastloc",
        # the service itself says when it is full, and when to come again
        max_ongoing_requests=4 * settings.queue,
        autoscaling_config={
            "min_replicas": deployment.min_replicas,
            "max_replicas": deployment.max_replicas,
            "target_ongoing_requests": deployment.target,
        },
        ray_actor_options={"num_cpus": deployment.num_cpus, "num_gpus": deployment.num_gpus},
        graceful_shutdown_timeout_s=settings.drain,
    )
    bound: serve.Application = replicas(serve.ingress(build)()).bind()
    return bound


def _read(arguments: Mapping[str, Any], kind: type[T]) -> T:
    own = {name: arguments[name] for name in _names(kind) if name in arguments}
    return convert(own, kind, "arguments of the application must be as their documentation says", FastlocError, strict=False)


def _with_lists(arguments: Mapping[str, Any]) -> dict[str, Any]:
    methods = arguments.get("methods", ())
    return {**arguments, "methods": [each for each in methods.split(",") if each] if isinstance(methods, str) else methods}


def _names(kind: type[Any]) -> list[str]:
    return [field.name for field in fields(kind)]
