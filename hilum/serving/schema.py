"""What the API answers, as types: the OpenAPI page is made of these, and a test holds real answers against them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hilum.serving.problems import MEDIA_TYPE, PROBLEMS

_Probability = Field(ge=0, le=1)


class _Told(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Averaged(_Told):
    """Test-time transforms that every probability is the mean over, and whether of probabilities or of logits."""

    transforms: list[str]
    space: Literal["probability", "logit"]


class Model(_Told):
    """Which model answered: its identity is the SHA-256 of weights, findings, pixel spec and architecture."""

    identity: str
    calibration: str | None
    hilum_version: str
    engine: str
    note: str | None
    findings: int
    vocabulary: Literal["open", "closed"]
    tta: Averaged | None


class Image(_Told):
    """One file of the study, by its place in the request."""

    file_index: int
    view: Literal["PA", "AP", "LATERAL", "unknown"]
    view_source: Literal["given", "header", "unknown"]
    width: int
    height: int
    sha256: str
    decoder: str
    warnings: list[str]
    png: str | None = None


class Finding(_Told):
    """One finding. views: the probability of each file read by itself, null for one that was not read.

    zero_shot: asked about by name and never trained on; its probability is an order of studies, with nothing known of it besides.
    """

    name: str
    probability: float = _Probability
    threshold: float | None
    positive: bool | None
    tier: Literal["head", "medium", "tail"] | None
    training_positives: int | None
    training_known: int | None
    reliability: dict[str, Any] | None
    views: list[float | None]
    zero_shot: bool


class Distribution(_Told):
    """How unlike the images of training these are: beyond the limit they are out of distribution."""

    score: float
    limit: float
    reasons: list[str]


class _Head(_Told):
    request_id: str
    research_only: str
    model: Model
    images: list[Image]
    unknown: list[str]


class Answer(_Head):
    """The answer to POST /api/v1/predict; findings stand in the order of the bundle, then those asked about by name."""

    findings: list[Finding]
    in_distribution: bool | None
    distribution: Distribution | None


class Map(_Told):
    """Where an image speaks for a finding: an 8-bit grey PNG in the image's aspect, the words for it, and its highest point."""

    finding: str
    file_index: int
    method: str
    png: str
    words: str
    peak: tuple[float, float]


class Explanation(_Head):
    """The answer to POST /api/v1/explain."""

    maps: list[Map]


class Ready(_Told):
    """The answer to GET /health/ready. self_test: whether the bundle holds one, which the engine then passed."""

    ready: Literal[True]
    self_test: Literal["passed", "none"]


class Told(_Told):
    """A problem after RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    code: str
    file_index: int | None = None
    warnings: list[str]


_FIELDS: dict[str, Any] = {
    "files": {
        "type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1, "maxItems": 8,
        "description": "PNG, JPEG or DICOM: the views of one study.",
    },
    "view": {"type": "array", "items": {"type": "string", "enum": ["PA", "AP", "LATERAL", "unknown"]}, "description": "Of each file, in their order."},
    "age": {"type": "number", "minimum": 0, "maximum": 120, "description": "Years."},
    "sex": {"type": "string", "enum": ["F", "M"]},
    "findings": {"type": "string", "description": "Names of further findings with commas between: the bundle's `askable`. Open vocabularies only."},
    "images": {"type": "boolean", "description": "Also give each image as PNG, its longest side 1024 pixels at most."},
}  # fmt: skip
_EXPLAINS: dict[str, Any] = {
    "finding": {
        "type": "array",
        "items": {"type": "string"},
        "minItems": 1,
        "maxItems": 4,
        "description": "One of the bundle's `findings` or `askable`.",
    },
    "method": {"type": "string", "description": "One of the bundle's `methods`."},
}
FIELDS = {"predict": frozenset(_FIELDS) - {"files"}, "explain": frozenset({**_FIELDS, **_EXPLAINS}) - {"files"}}


def form_of(route: str) -> dict[str, Any]:
    """The request body of a route, for its OpenAPI entry."""
    fields, needed = (_FIELDS, ["files"]) if route == "predict" else ({**_FIELDS, **_EXPLAINS}, ["files", "finding"])
    schema = {"type": "object", "properties": fields, "required": needed, "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def problems_of(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems that a route may answer, for its OpenAPI entry; those of the door may be the answer to anything."""
    reference = {"schema": Told.model_json_schema()}
    told: dict[int | str, dict[str, Any]] = {}
    for status in sorted({401, 403, 421, 500, *statuses}):
        codes = ", ".join(sorted(code for code, (number, _) in PROBLEMS.items() if number == status))
        told[status] = {"description": f"Problem: {codes}.", "content": {MEDIA_TYPE: reference}}
    return told
