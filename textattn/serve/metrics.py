"""What /metrics says, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from textattn.inference.classifier import Prediction
from textattn.serve.works import Predict

if TYPE_CHECKING:
    from textattn.serve.batching import Batch, Batcher
    from textattn.serve.models import ServedModel

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
TEXTS = (1, 2, 4, 8, 16, 32, 48)
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
# With more labels than this, none are counted: each is a series.
MOST_LABELS = 200


class Metrics:
    """The figures of a server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "textattn_requests", "Requests that were answered.", ["endpoint", "status"], registry=registry
        )
        self.seconds = Histogram(
            "textattn_request_seconds",
            "From the head of a request to the end of its answer.",
            ["endpoint"],
            buckets=SECONDS,
            registry=registry,
        )
        self.batch_texts = Histogram(
            "textattn_batch_texts", "Texts that were computed together.", ["kind"], buckets=TEXTS, registry=registry
        )
        self.batch_seconds = Histogram(
            "textattn_batch_seconds", "Time to compute a batch.", ["kind"], buckets=SECONDS, registry=registry
        )
        self.answers = Counter(
            "textattn_answers", "Texts that were labelled, by label.", ["model", "label"], registry=registry
        )
        self.unknown = Histogram(
            "textattn_unknown_share",
            "Share of the tokens of a text that the model has never seen.",
            ["model"],
            buckets=SHARES,
            registry=registry,
        )
        self.reloads = Counter("textattn_reloads", "Reloads of the models.", ["result"], registry=registry)
        self.info = Gauge("textattn_model_info", "A model of the server.", ["model", "fingerprint"], registry=registry)
        self.drift = Gauge(
            "textattn_drift", "Whether the last window of texts has drifted.", ["model"], registry=registry
        )
        self.drift_effect = Gauge(
            "textattn_drift_effect",
            "How much the last window of texts differs from the validation split, from 0 to 1.",
            ["model", "figure"],
            registry=registry,
        )
        ProcessCollector(registry=registry)
        self._served: list[ServedModel] = []

    def watch_queue(self, batcher: Batcher) -> None:
        """Adds how much waits."""
        waiting = Gauge("textattn_waiting_texts", "Texts that wait for an answer.", registry=self.registry)
        waiting.set_function(lambda: batcher.waiting_texts)

    def request(self, endpoint: str, status: int, seconds: float) -> None:
        """Counts a request that was answered."""
        self.requests.labels(endpoint, status).inc()
        self.seconds.labels(endpoint).observe(seconds)

    def batch(self, batch: Batch) -> None:
        """Counts a batch that was computed."""
        self.batch_texts.labels(batch.work.kind).observe(len(batch.texts))
        self.batch_seconds.labels(batch.work.kind).observe(batch.seconds)
        if isinstance(batch.work, Predict):
            self._count_answers(batch.work.served, batch.results)

    def models(self, served: Iterable[ServedModel]) -> None:
        """Names the models that answer from now on."""
        self._served = list(served)
        for gauge in (self.info, self.drift, self.drift_effect):
            gauge.clear()
        for model in self._served:
            self.info.labels(model.name, model.fingerprint[:12]).set(1)

    def text(self) -> bytes:
        """All figures in Prometheus' own format."""
        for served in self._served:
            report = None if served.drift is None else served.drift.latest
            if report is not None:
                self.drift.labels(served.name).set(bool(report.drifted))
                for figure, difference in report.differences.items():
                    self.drift_effect.labels(served.name, figure).set(difference.effect)
        return generate_latest(self.registry)

    def _count_answers(self, served: ServedModel, predictions: Sequence[Prediction]) -> None:
        unknown = self.unknown.labels(served.name)
        count_labels = len(served.model.labels) <= MOST_LABELS
        for prediction in predictions:
            unknown.observe(prediction.unknown)
            if count_labels:
                for label in prediction.labels or [""]:
                    self.answers.labels(served.name, label).inc()
