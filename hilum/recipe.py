"""A recipe: one YAML page that holds a whole run. Read, overridden, checked, completed and written back here."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError, model_serializer, model_validator
from pydantic.dataclasses import dataclass

from hilum.builders import check_options, choose
from hilum.errors import InputError, from_os_error, nearest

_STRICT = ConfigDict(extra="forbid")
RECIPES = Path(__file__).parent / "recipes"


@dataclass(config=_STRICT, frozen=True)
class Choice:
    """`{name: X, option: value, ...}`: an entry of a dictionary of builders and the options its builder takes."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_page(cls, value: Any) -> Any:
        given = getattr(value, "kwargs", None) or value
        if isinstance(given, str):
            return {"name": given}
        if isinstance(given, Mapping) and "name" in given and "options" not in given:
            return {"name": given["name"], "options": {key: given[key] for key in given if key != "name"}}
        return value

    @model_serializer
    def page(self) -> dict[str, Any]:
        """The choice as it stands in a recipe."""
        return {"name": self.name, **self.options}

    def build(self, kind: str, builders: Mapping[str, Callable[..., Any]]) -> Any:
        """What the builder of that name makes of the options. Raises InputError for a name or an option it does not know."""
        builder = choose(kind, builders, self.name)
        check_options(kind, self.name, builder, self.options)
        return builder(**self.options)


def _word(value: Any) -> Any:
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


def _words(value: Any) -> Any:
    """`flip, rotate:5` as a list; `none` as an empty one."""
    words = value.split(",") if isinstance(value, str) else value if value is not None else []
    return [word for each in words if (word := str(each).strip()) != "none"] if isinstance(words, list) else value


Words = Annotated[list[str], BeforeValidator(_words)]
Switch = Annotated[
    Literal["auto", "on", "off", "all"], BeforeValidator(_word)
]  # YAML reads a bare on and off as true and false


@dataclass(config=_STRICT)
class CacheSpec:
    """Where the decoded images are, and the pixel spec they were decoded with."""

    folder: str = "cache"
    size: int = 224
    fit: Literal["pad", "stretch", "crop"] = "pad"
    tone: Literal["as_is", "equalize_hist", "window"] = "as_is"


@dataclass(config=_STRICT)
class SplitSpec:
    """Who trains, who validates, who is tested: by patient, from a column, or the k-th of several folds.

    Shares are of patients' studies. What the table's own column `split` calls test is never dealt: it stays test, and is in
    no fold. With `column` the rows of its valid are kept, too; a missing valid part is carved out of train by patient.
    """

    by: Literal["patient"] = "patient"
    valid: float = 0.1
    test: float = 0.2
    seed: int = 0
    column: str | None = None
    folds: int | None = None
    fold: int = 0


@dataclass(config=_STRICT)
class ModelSpec:
    """The three parts of a model.

    heads: one `shared` by all views, or two of them, `by_view`, for frontal and for lateral views.
    demographics: how age and sex join the features that the head reads; null = not at all.
    labels: how the findings' names become vectors, for heads that read them; null = minilm as it is.
    """

    backbone: Choice = field(default_factory=lambda: Choice("resnet18"))
    fusion: Choice = field(default_factory=lambda: Choice("mean"))
    head: Choice = field(default_factory=lambda: Choice("linear"))
    heads: Literal["shared", "by_view"] = "shared"
    demographics: Choice | None = None
    labels: Choice | None = None


@dataclass(config=_STRICT)
class TrainSpec:
    """How a stage is trained.

    level:        what a training sample is: a study with all its views, or a single image with its study's labels.
    views:        most views of a study seen at once; in training drawn anew each time, at prediction chosen by order.
    batch_size:   samples per optimiser step and device, reached by `accumulate` smaller batches.
    sampler:      which samples an epoch draws, and how often.
    mix:          whom a training sample is mixed with; single images only.
    optimizer:    what takes the steps.
    schedule:     how the learning rate falls after its rise: by default a cosine to `final_lr` times lr.
    warmup:       share of all steps over which the learning rate rises.
    layer_decay:  the backbone's learning rate, times this for every layer further from its end; 1 = all alike.
    clip:         largest gradient norm, 0 = none.
    ema:          decay of the moving average of the weights, 0 = none; the average is what is judged and saved.
    patience:     epochs without a better validation value after which to stop, 0 = never.
    select:       the validation value that chooses the best epoch.
    precision:    auto, or a precision of Lightning Fabric (32-true, bf16-mixed, 16-mixed).
    checkpoint_minutes: also save in the middle of an epoch after this time.
    """

    epochs: int = 10
    batch_size: int = 32
    accumulate: int = 1
    level: Literal["study", "image"] = "study"
    views: int = 4
    sampler: Choice = field(default_factory=lambda: Choice("shuffle"))
    mix: Choice = field(default_factory=lambda: Choice("none"))
    optimizer: Choice = field(default_factory=lambda: Choice("adamw"))
    lr: float = 1e-4
    schedule: Choice = field(default_factory=lambda: Choice("cosine"))
    final_lr: float = 0.01
    warmup: float = 0.05
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    clip: float = 1.0
    ema: float = 0.0
    patience: int = 0
    select: Literal["map", "auroc", "loss", "balanced_accuracy"] = "map"
    precision: str = "auto"
    device: str = "auto"
    devices: int = 1
    seed: int = 0
    checkpoint_minutes: float = 10.0
    feature_cache: Switch = "auto"
    feature_versions: int | None = None


@dataclass(config=_STRICT)
class PseudoSpec:
    """Pseudo labels for unknown entries of training studies.

    table:  what `hilum pseudo` wrote. weight: of its entries in the loss, times the table's own; a known label has 1.
    """

    table: str
    weight: float = 1.0


@dataclass(config=_STRICT)
class LoraSpec:
    """Maps of low rank beside a backbone's frozen ones, added into them when the stage ends.

    rank: of each. alpha: their weight is alpha / rank. dropout: of what they read. targets: endings of layers' names; empty =
    every linear map.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: list[str] = field(default_factory=list)


@dataclass(config=_STRICT)
class Stage:
    """One training of one model. What a stage does not say it takes from the stage it starts from, else the defaults.

    init:   an earlier stage, or a bundle folder, whose weights are loaded first, key by key.
    freeze: parts that are not trained and stay in evaluation mode (backbone, fusion, head).
    lora:   train the backbone by maps of low rank alone; null = as it is.
    fresh:  parts that start anew, not from `init`.
    objective: what is learnt: the findings' `labels`, or without labels `simclr`, which trains the backbone for a later
            stage; `none`: nothing, for models that are ready.
    tau:    train nothing, but divide each row of the head's last layer by its length to the power tau, the best of these.
    pseudo: a teacher's labels where a training study has none; null = none.
    """

    name: str = "main"
    init: str | None = None
    freeze: list[Literal["backbone", "fusion", "head"]] = field(default_factory=list)
    lora: LoraSpec | None = None
    fresh: list[Literal["backbone", "fusion", "head"]] = field(default_factory=list)
    objective: Choice = field(default_factory=lambda: Choice("labels"))
    tau: list[float] | None = None
    model: ModelSpec = field(default_factory=ModelSpec)
    loss: Choice = field(default_factory=lambda: Choice("bce"))
    augment: Choice = field(default_factory=lambda: Choice("standard"))
    pseudo: PseudoSpec | None = None
    train: TrainSpec = field(default_factory=TrainSpec)


@dataclass(config=_STRICT)
class PredictSpec:
    """How studies are predicted: when the epoch and the thresholds are chosen, by the run, and by its bundle unless told else.

    tta:   test-time transforms beside the image as it is (flip, rotate:5, shift:0.04, zoom:0.08, random:4); none by default.
    space: what is averaged over them. seed: of the random ones.
    """

    tta: Words = field(default_factory=list)
    space: Literal["probability", "logit"] = "probability"
    seed: int = 0


@dataclass(config=_STRICT)
class Recipe:
    """A whole run. `findings` null means every finding of the table.

    single_label: keep only images with exactly one positive finding and no unknown one, in every part; for loss softmax.
    """

    studies: str | list[str] = "studies.parquet"
    findings: str | list[str] | None = None
    uncertain: Literal["ignore", "ones", "zeros", "smooth"] = "ignore"
    single_label: bool = False
    cache: CacheSpec = field(default_factory=CacheSpec)
    split: SplitSpec = field(default_factory=SplitSpec)
    stages: list[Stage] = field(default_factory=lambda: [Stage()])
    predict: PredictSpec = field(default_factory=PredictSpec)
    trackers: list[str] = field(default_factory=list)

    def to_page(self) -> dict[str, Any]:
        """The recipe as plain values, every option said."""
        page: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return page

    def to_yaml(self) -> str:
        """The recipe as YAML, every option said; reading it back gives an equal recipe."""
        return yaml.safe_dump(self.to_page(), sort_keys=False, allow_unicode=True, width=100)


_ADAPTER = TypeAdapter(Recipe)
_OF_A_STAGE = ("init", "freeze", "lora", "fresh", "objective", "tau", "model", "loss", "augment", "pseudo", "train")


class _Loader(yaml.SafeLoader):
    """safe_load that reads 1e-4 as a number, as YAML 1.2 does and PyYAML does not."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)$"),
    list("-+0123456789."),
)


def recipe_names() -> dict[str, str]:
    """Every recipe of the package: bare name -> the sentence in its first comment line."""
    pages = sorted(RECIPES.glob("*.yaml"))
    return {page.stem: page.read_text(encoding="utf-8").splitlines()[0].lstrip("# ") for page in pages}


def load_recipe(which: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by path or bare name and apply dotted overrides (`train.epochs=3`, `stages.fusion.train.lr=1e-4`).

    Raises InputError with one line per fault.
    """
    path = Path(which)
    if not path.suffix and not path.is_file():  # a folder of that name does not hide the recipe
        path = RECIPES / f"{which}.yaml"
        if not path.exists():
            raise InputError(f"there is no recipe {str(which)!r}", do=nearest(str(which), recipe_names()))
    try:
        page = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise from_os_error(error, path) from error
    except UnicodeDecodeError as error:
        raise InputError("this is not a text file", where=path, do="give a recipe in YAML") from error
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        line = f"{path}, line {place.line + 1}" if place else path
        raise InputError("this is not valid YAML", where=line, do="check the indentation and the colons") from error
    return parse_recipe(page, overrides, where=path.name)


def parse_recipe(page: Any, overrides: Sequence[str] = (), *, where: str = "recipe") -> Recipe:
    """The recipe that a page of plain values and overrides describe; see load_recipe."""
    if not isinstance(page, Mapping):
        raise InputError("a recipe is a list of `key: value` lines", where=where, do="see `hilum recipes` for examples")
    page = _staged(page, where)
    for override in overrides:
        _override(page, override)
    _inherit(page["stages"], where)
    try:
        return _ADAPTER.validate_python(page)
    except ValidationError as error:
        raise _readable(error, page, where) from error


def merged(base: Any, over: Any) -> Any:
    """`over` laid upon `base`, key by key; a choice of another name replaces the whole choice."""
    if not (isinstance(base, Mapping) and isinstance(over, Mapping)):
        return over
    if "name" in over and over["name"] != base.get("name"):
        return dict(over)
    return _laid_upon(base, over)


def _laid_upon(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    return {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}


def _staged(page: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The page with a list of stages, whether or not it had one."""
    own = {key: page[key] for key in _OF_A_STAGE if key in page}
    rest = {key: value for key, value in page.items() if key not in own}
    stages = rest.pop("stages", None)
    if stages is None:
        return {**rest, "stages": [{"name": "main", **own}]}
    if not isinstance(stages, list) or not all(isinstance(stage, Mapping) and "name" in stage for stage in stages):
        raise InputError("stages is not a list of stages with names", where=where, do="write `- name: ...` per stage")
    return {**rest, "stages": [_laid_upon(own, stage) for stage in stages]}


def _inherit(stages: list[Any], where: str) -> None:
    """Complete each stage by the stage that it starts from."""
    earlier: dict[str, Any] = {}
    for position, stage in enumerate(stages):
        if stage["name"] in earlier:
            raise InputError(f"two stages are named {stage['name']!r}", where=where, do="give each its own name")
        if stage.get("init") in earlier:
            parent = {key: earlier[stage["init"]].get(key) for key in ("model", "loss", "augment", "pseudo", "train")}
            stages[position] = _laid_upon({key: value for key, value in parent.items() if value is not None}, stage)
        listed = {key: [stage[key]] for key in ("freeze", "fresh") if isinstance(stage.get(key), str)}
        if isinstance(stage.get("tau"), int | float):
            listed["tau"] = [stage["tau"]]
        stages[position] = {**stages[position], **listed}
        earlier[stage["name"]] = stages[position]


def _override(page: dict[str, Any], text: str) -> None:
    """Lay `a.b.c=value` upon the page; model, loss, augment, pseudo and train without a stage's name mean every stage."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"{text!r} is not an override", do="write key=value, such as train.epochs=3")
    parts = key.strip().split(".")
    try:
        parsed = yaml.load(value, Loader=_Loader)
    except yaml.YAMLError as error:
        raise InputError(f"the value of {text!r} is not valid YAML", do="put it in quotes") from error
    if parts[0] in _OF_A_STAGE:
        for stage in page["stages"]:
            _lay(stage, parts, parsed)
    elif parts[0] == "stages" and len(parts) > 2:
        stages = {stage["name"]: stage for stage in page["stages"]}
        if parts[1] not in stages:
            raise InputError(f"there is no stage {parts[1]!r}", where=text, do=nearest(parts[1], stages))
        _lay(stages[parts[1]], parts[2:], parsed)
    else:
        _lay(page, parts, parsed)


def _lay(page: dict[str, Any], parts: Sequence[str], value: Any) -> None:
    nested = value
    for part in reversed(parts[1:]):
        nested = {part: nested}
    page[parts[0]] = merged(page.get(parts[0]), nested) if len(parts) > 1 else nested


def _readable(error: ValidationError, page: Mapping[str, Any], where: str) -> InputError:
    """pydantic's faults as sentences of ours, one line each, with the nearest name for a misspelt key."""
    lines = []
    for fault in error.errors():
        location = [part for part in fault["loc"] if part != "options"]
        shown = ".".join(_named(page, location))
        parent = ".".join(_named(page, location[:-1])) or "a recipe"
        if fault["type"] == "unexpected_keyword_argument":
            hint = nearest(str(location[-1]), _fields_at(location[:-1]))
            lines.append(f"{shown} is not an option of {parent}; {hint}")
        elif fault["type"] in ("missing", "missing_argument"):
            lines.append(f"{shown} is missing")
        else:
            lines.append(f"{shown} is {fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}")
    faults = list(dict.fromkeys(lines))
    return InputError("; ".join(faults), where=where, do="correct it in the recipe or on the command line")


def _named(page: Mapping[str, Any], location: Sequence[Any]) -> list[str]:
    """A fault's place in words: stages by their names, a lone stage not at all."""
    if len(location) >= 2 and location[0] == "stages" and isinstance(location[1], int):
        stages = page["stages"]
        rest = [str(part) for part in location[2:]]
        return rest if len(stages) == 1 else ["stages", str(stages[location[1]]["name"]), *rest]
    return [str(part) for part in location]


def _fields_at(location: Sequence[Any]) -> list[str]:
    """The options that a place in a recipe takes."""
    places: dict[str, type] = {
        "cache": CacheSpec, "split": SplitSpec, "stages": Stage, "model": ModelSpec, "train": TrainSpec,
        "pseudo": PseudoSpec, "lora": LoraSpec, "predict": PredictSpec,
    }  # fmt: skip
    words = [part for part in location if isinstance(part, str)]
    place = places.get(words[-1], Recipe) if words else Recipe
    known = list(place.__dataclass_fields__)  # type: ignore[attr-defined]
    if place is Recipe:
        known = [name for name in known if name != "stages"] + [*_OF_A_STAGE, "stages"]
    return known
