"""Counters of a service for Prometheus, in a registry of their own, so that several services of a process do not mix."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
PICTURES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters, gauges and histograms of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        answered = "Requests that were answered, by path and HTTP status"
        self.requests = Counter("fastloc_requests", answered, ["path", "status"], registry=own)
        took = "Time from a request's head to the end of its answer"
        self.latency = Histogram("fastloc_request_seconds", took, ["path"], buckets=SECONDS, registry=own)
        self.queue = Gauge("fastloc_queue_pictures", "Pictures that wait or are worked on", registry=own)
        self.batch = Histogram("fastloc_batch_pictures", "Pictures of a batch", buckets=PICTURES, registry=own)
        checked = "Calls of the model that the self-check answered again by another plan, by method and result: equal or different"
        self.checked = Counter("fastloc_self_checks", checked, ["method", "result"], registry=own)
        self.refused = Counter("fastloc_refused", "Requests that were refused with 429 because the queue was full", registry=own)

    def text(self) -> bytes:
        """All metrics, as Prometheus reads them."""
        return generate_latest(self.registry)
