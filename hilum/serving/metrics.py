"""What a running server counts, for Prometheus: routes, codes and seconds; never a patient, a file or a name."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("hilum_requests", "Requests answered.", ("route", "status", "code"), registry=registry)
        self.seconds = Histogram(
            "hilum_request_seconds", "From a request to its answer.", ("route",), buckets=_SECONDS, registry=registry
        )
        self.in_flight = Gauge("hilum_studies_in_flight", "Studies being read or answered.", registry=registry)
        self.waiting = Gauge("hilum_studies_waiting", "Studies that wait for the model.", registry=registry)
        self.waited = Histogram(
            "hilum_queue_seconds", "What a batch's first study waited.", buckets=_SECONDS, registry=registry
        )
        self.decode = Histogram("hilum_decode_seconds", "To decode a file.", buckets=_SECONDS, registry=registry)
        self.infer = Histogram("hilum_infer_seconds", "To answer a batch.", buckets=_SECONDS, registry=registry)
        self.batch = Histogram(
            "hilum_batch_studies", "Studies answered together.", buckets=(1, 2, 4, 8, 16), registry=registry
        )
        self.lost = Gauge("hilum_decoders_lost", "Decoder processes that crashed or hung.", registry=registry)
        self.warnings = Counter("hilum_warnings", "Warnings about images.", ("code",), registry=registry)
        self.unlike = Counter("hilum_out_of_distribution", "Studies unlike those of training.", registry=registry)

    def seen(self, studies: int, waited: float, took: float) -> None:
        """Note a batch that was answered."""
        self.batch.observe(studies)
        self.waited.observe(waited)
        self.infer.observe(took)

    def text(self) -> bytes:
        """All of it as Prometheus reads it."""
        return generate_latest(self.registry)
