"""The Ray Serve application: its arguments, and one replica behind Ray's proxy, called by the client."""

import socket
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest

pytest.importorskip("ray.serve")

import ray
from ray import serve

from fastloc import Client, Localizer
from fastloc.embedded import SAMPLES
from fastloc.errors import FastlocError, ServiceError
from fastloc.scale import app
from fastloc.serve.ray_app import Deployment
from fastloc.serve.settings import Settings
from same_results import same

pytestmark = pytest.mark.slow("starts Ray")

MARKET = SAMPLES / "market.webp"
TEXTS = ["red car", "pizza"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"modell": "embedded"}, "unknown argument 'modell': did you mean 'model'?"),
        ({"max_replicas": "many"}, "arguments of the application must be as their documentation says (max_replicas must be int, got str)"),
        ({"min_replicas": "5", "max_replicas": "2"}, "min_replicas must be a number from 0 to 2, got 5"),
        ({"queue": "0"}, "queue must be a number above 0, got 0"),
        ({"num_gpus": "-1"}, "num_gpus must be a number from 0 to 100"),
    ],
)
def test_arguments_that_cannot_be(arguments: dict[str, Any], line: str) -> None:
    with pytest.raises(FastlocError) as raised:
        app(arguments)
    assert line in str(raised.value) and "\n" not in str(raised.value)


def test_no_argument_means_two_things() -> None:
    names = [field.name for kind in (Deployment, Settings) for field in fields(kind)]
    assert len(names) == len(set(names))


def test_arguments_reach_ray() -> None:
    arguments = {"min_replicas": "0", "max_replicas": "3", "target": "2.5", "num_gpus": "0.25", "queue": "10", "drain": "7"}
    found = app(arguments)._bound_deployment
    scaling = found._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (0, 3, 2.5)
    assert found.ray_actor_options["num_gpus"] == 0.25
    assert found.max_ongoing_requests == 40
    assert found._deployment_config.graceful_shutdown_timeout_s == 7


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        # the proxy and the controller take no CPU of Ray's
        serve.run(app({"max_replicas": "1", "methods": "clearclip,sclip", "texts": "3", "device": "cpu"}))
        yield f"http://127.0.0.1:{port}"
        serve.shutdown()
    finally:
        ray.shutdown()


def test_a_replica_answers_the_client(address: str) -> None:
    localizer = Localizer(device="cpu", dtype="float32")
    with Client(address) as client:
        assert client.ready()
        assert [each.method for each in client.models()] == ["gem", "clearclip", "sclip"]
        same(client(MARKET, TEXTS), localizer(MARKET, TEXTS), 1e-5)
        for one, other in zip(client([MARKET] * 9, TEXTS, "sclip"), [localizer.with_method("sclip")(MARKET, TEXTS)] * 9, strict=True):
            same(one, other, 1e-5)
        with pytest.raises(ServiceError, match="answers 413: a request must hold 1 to 3 texts, got 4"):
            client(MARKET, ["a", "b", "c", "d"])
