"""The bodies of requests and answers. Requests are checked with these classes; answers are only described by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from textattn.serve.refusal import Refusal

Parsed = TypeVar("Parsed", bound="Texts")
Segment = Annotated[str, Field(min_length=1)]
Text = Segment | list[str] | dict[str, str]
# What a text may be, in a message.
A_TEXT = "a text, or for a model of several text columns a list of segments or an object with the columns"
EXAMPLE = "Delicious food, friendly staff."
# Characters of a value in a message.
SHOWN = 80
TOP_K = "Also give the scores of so many labels, the most probable first."


def _absent() -> Any:
    """Of a key that need not be there, but cannot be null."""
    return None


class Texts(BaseModel):
    """One text (`text`) or several (`texts`)."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "oneOf": [{"required": ["text"]}, {"required": ["texts"]}],
            "examples": [{"text": EXAMPLE}, {"texts": [EXAMPLE, "The room was noisy."]}],
        },
    )

    text: Text = Field(default_factory=_absent, description="One text.")
    texts: list[Text] = Field(default_factory=_absent, min_length=1, description="Several texts.")
    model: str = Field(default_factory=_absent, description="The name of a model; default: the first of /models.")

    @property
    def given(self) -> Sequence[Any]:
        """The texts as they were given."""
        return [self.text] if self.text is not None else self.texts


class PredictRequest(Texts):
    """Texts to be labelled."""

    top_k: int = Field(1, ge=1, le=100_000, description=TOP_K)
    min_score: float = Field(
        0.0, ge=0, le=1, allow_inf_nan=False, description="Give no label that is less probable than this."
    )


class ExplainRequest(Texts):
    """Texts whose answers are to be explained."""

    method: str = Field(
        default_factory=_absent,
        description="contributions or attention; default: contributions, if the model can divide its answers.",
    )
    target: str = Field(default_factory=_absent, description="The label to explain; default: the predicted one.")
    against: str = Field(default_factory=_absent, description="Explain the target rather than this label.")
    top_k: int = Field(1, ge=1, le=100_000, description=TOP_K)


class EmbedRequest(Texts):
    """Texts whose vectors are wanted."""


def parse(schema: type[Parsed], body: bytes) -> Parsed:
    """The body of a request.

    Raises:
        Refusal: it is no JSON (400), or something else than expected (422).
    """
    try:
        value = schema.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(schema, error) from None
    if (value.text is None) == (value.texts is None):
        given = "both" if value.text is not None else "neither"
        raise Refusal(422, f"expected either text or texts, got {given}", f'{{"text": "{EXAMPLE}"}}')
    return value


def _refusal(schema: type[Texts], error: ValidationError) -> Refusal:
    found = error.errors(include_url=False)[0]
    kind, message = found["type"], found["msg"]
    keys = list(schema.model_fields)
    if kind == "json_invalid":
        reason = message.removeprefix("Invalid JSON: ")
        return Refusal(400, f"the body is not JSON: {reason}", f'{{"text": "{EXAMPLE}"}}')
    place = found["loc"]
    if not place:
        return Refusal(422, f"the body must be a JSON object with the keys {', '.join(keys)}")
    key = str(place[0])
    if kind == "extra_forbidden":
        from difflib import get_close_matches

        near = get_close_matches(key, keys, n=1)
        shown = key if len(key) <= SHOWN else f"{key[:SHOWN]}…"
        return Refusal(
            422, f"unknown key {shown!r}; keys are: {', '.join(keys)}", f"did you mean {near[0]}?" if near else None
        )
    if key in ("text", "texts"):
        if len(place) == 1 and key == "texts":
            return Refusal(422, "texts must be a list of at least one text", f'{{"texts": ["{EXAMPLE}"]}}')
        where = f"texts[{place[1]}]" if key == "texts" else "text"
        if kind == "string_too_short":
            return Refusal(422, f"{where} is empty; expected a text")
        return Refusal(422, f"{where} must be {A_TEXT}")
    got = repr(found["input"])
    got = got if len(got) <= SHOWN else f"{got[:SHOWN]}…"
    return Refusal(422, f"{key}: {message[:1].lower()}{message[1:]}, got {got}")


class LabelScore(BaseModel):
    """A label and its probability."""

    label: str
    score: float


class Prediction(BaseModel):
    """The answer to a text, as `textattn predict --json` prints it."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={"examples": [{"label": "pos", "score": 0.9762, "unknown": 0.0, "text": EXAMPLE}]},
    )

    label: str | None = Field(description="The most probable label; null if it is too unsure, or the text unreadable.")
    score: float = Field(description="Its probability; or the number, if the model predicts one.")
    labels: list[LabelScore] = Field(
        default_factory=list, description="Of a model that gives several labels: those that are given."
    )
    scores: list[LabelScore] = Field(default_factory=list, description="With top_k of more than 1.")
    low: float | None = Field(default_factory=_absent, description="Of a number: the lower end of its interval.")
    high: float | None = Field(default_factory=_absent, description="Its upper end.")
    unknown: float = Field(description="The share of the tokens that the model has never seen.")
    text: str


class Predictions(BaseModel):
    """An answer for each text, in the order of the texts."""

    model: str
    answers: list[Prediction]


class ExplainedWord(BaseModel):
    """A word and what it counted."""

    word: str
    start: int
    end: int
    weight: float
    attention: float


class ExplainedWindow(BaseModel):
    """A window of a text, its share of the attention, and the sum of the weights of its tokens."""

    start: int
    end: int
    attention: float
    weight: float


class Sum(BaseModel):
    """How the contributions add up: bias + words + ngrams = answer, in nats, before calibration."""

    bias: float
    words: float
    ngrams: float | None
    answer: float
    temperature: float
    is_log_odds: bool
    steps: str | None = Field(
        description="Of a grade whose answer is a mean of log-odds: the steps between grades that count, `up`, "
        "`up and stop` or `none up`; null for others."
    )


class Explanation(BaseModel):
    """An answer and its explanation, as `textattn explain --json` prints it."""

    model_config = ConfigDict(extra="allow")

    label: str
    score: float
    labels: list[LabelScore] = Field(default_factory=list)
    scores: list[LabelScore] = Field(default_factory=list)
    text: str
    target: str
    method: str
    tokens: list[str]
    offsets: list[tuple[int, int]]
    weights: list[float]
    attention_weights: list[float]
    words: list[ExplainedWord]
    truncated: bool
    windows: list[ExplainedWindow] = Field(
        default_factory=list, description="Only of models that read window by window: their windows, in order."
    )
    contributions: dict[str, list[float]] = Field(default_factory=dict)
    sum: Sum = Field(default_factory=_absent)
    verdict: str | None = Field(description="How far the method can be trusted for this model; null: not measured.")


class Explanations(BaseModel):
    """An explanation for each text, in the order of the texts."""

    model: str
    answers: list[Explanation]


class Vector(BaseModel):
    """The pooled vector of a text."""

    text: str
    vector: list[float]


class Vectors(BaseModel):
    """A vector for each text, in the order of the texts."""

    model: str
    answers: list[Vector]


class ModelFacts(BaseModel):
    """A model of the server."""

    model_config = ConfigDict(extra="allow")

    name: str
    path: str
    labels: list[str]
    multi_label: bool
    decimals: int | None = Field(description="Of a model that predicts numbers: the digits to show; null for labels.")
    text_columns: list[str]
    summary: str
    runtime: str
    methods: list[str]
    verdict: str | None
    examples: list[str]
    report: bool
    fingerprint: str
    loaded: str


class ModelList(BaseModel):
    """The models of the server; the first is the default."""

    models: list[ModelFacts]


class Reloaded(BaseModel):
    """The models after a reload, and which of them have changed."""

    models: list[str]
    changed: list[str]


class Health(BaseModel):
    """Whether the server answers."""

    status: str = Field(examples=["ok"])
    version: str
    models: list[str]


class ErrorText(BaseModel):
    """What was wrong, and what helps."""

    message: str
    hint: str = Field(default_factory=_absent)


class Error(BaseModel):
    """A request that was not answered."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"error": {"message": "text is empty; expected a text"}}]}
    )

    error: ErrorText
