"""Typed settings: `params.yaml`, section by section, checked before any work begins.

Every key's meaning, unit and range stands twice on purpose: as a comment in `params.yaml`, where
it is changed, and here, where it is enforced. `tests/test_settings.py` holds the two together.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from genre_embeddings.errors import InputError

SOURCES = Literal[
    "planted",
    "folder",
    "ml-latest-small",
    "ml-100k",
    "ml-1m",
    "ml-10m",
    "ml-20m",
    "ml-25m",
    "ml-32m",
]

Fraction = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A frozen section of `params.yaml` that rejects keys it does not know and odd types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataSettings(Section):
    """Where the ratings come from and which of them are kept (stage prepare)."""

    source: SOURCES
    path: Annotated[str, Field(min_length=1)]
    min_rating: float
    max_rating: float
    top_movies: Annotated[int, Field(ge=0)]
    min_ratings_per_user: Annotated[int, Field(ge=0)]
    min_ratings_per_movie: Annotated[int, Field(ge=0)]
    missing_movies: Literal["error", "drop", "keep"]

    @model_validator(mode="after")
    def _scale_is_ordered(self) -> DataSettings:
        if self.min_rating >= self.max_rating:
            raise ValueError(
                f"min_rating {self.min_rating} and max_rating {self.max_rating}: "
                "min_rating must be below max_rating"
            )
        return self


class PlantedSettings(Section):
    """Size and shape of the planted world (stage prepare, source `planted`)."""

    seed: Annotated[int, Field(ge=0)]
    users: Annotated[int, Field(ge=2)]
    movies: Annotated[int, Field(ge=2)]
    genres: Annotated[int, Field(ge=2, le=200)]
    ratings: Annotated[int, Field(ge=10)]
    genre_effect: Annotated[float, Field(ge=0)]
    noise: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _pairs_suffice(self) -> PlantedSettings:
        if self.ratings > self.users * self.movies // 2:
            raise ValueError(
                f"ratings {self.ratings}: at most half of the {self.users} x {self.movies} "
                "pairs of users and movies can carry a rating"
            )
        return self


class SplitSettings(Section):
    """How ratings are divided into train, validation and test (stage split)."""

    strategy: Literal["random", "temporal", "cold_movies"]
    train: Fraction
    validation: Fraction
    test: Fraction

    @model_validator(mode="after")
    def _fractions_add_up(self) -> SplitSettings:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(
                f"train {self.train} + validation {self.validation} + test {self.test} "
                f"= {total:g}: the three fractions must add up to 1"
            )
        if min(self.train, self.validation, self.test) == 0:
            raise ValueError(
                f"train {self.train}, validation {self.validation}, test {self.test}: "
                "every side needs a share above 0"
            )
        return self


class ModelSettings(Section):
    """The network (stage train)."""

    dim: Annotated[int, Field(ge=1, le=4096)]
    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False)]
    cross: bool
    genres: bool
    embedding: Literal["variational", "point"]
    history: Annotated[int, Field(ge=0, le=1_000_000)]
    time: bool
    squash: bool


class TrainSettings(Section):
    """How the network is fitted (stage train)."""

    replicas: Annotated[int, Field(ge=1, le=64)]
    epochs: Annotated[int, Field(ge=1, le=100_000)]
    min_epochs: Annotated[int, Field(ge=1)]
    patience: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    lr: Annotated[float, Field(gt=0)]
    network_lr: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    kl_weight: Annotated[float, Field(ge=0)]
    movie_dropout: Annotated[float, Field(ge=0, lt=1)]
    rare_dropout: Annotated[float, Field(ge=0)]
    threads: Annotated[int, Field(ge=0)]
    devices: Annotated[int, Field(ge=1)]
    num_nodes: Annotated[int, Field(ge=1)]
    strategy: Literal["auto", "ddp"]
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]

    @model_validator(mode="after")
    def _epochs_are_ordered(self) -> TrainSettings:
        if self.min_epochs > self.epochs:
            raise ValueError(
                f"min_epochs {self.min_epochs} and epochs {self.epochs}: "
                "min_epochs must not exceed epochs"
            )
        return self


class InspectSettings(Section):
    """How the genre embeddings are questioned (stage inspect)."""

    evidence: Literal["held_out", "test"]
    users: Annotated[int, Field(ge=3)]
    draws: Annotated[int, Field(ge=0)]
    min_movies: Annotated[int, Field(ge=1)]
    min_pair_users: Annotated[int, Field(ge=3)]
    shrinkage: Annotated[float, Field(ge=0)]
    splits: Annotated[int, Field(ge=1)]
    permutations: Annotated[int, Field(ge=99)]
    bootstrap: Annotated[int, Field(ge=100)]
    without_genres: bool
    retrainings: Annotated[int, Field(ge=0)]
    neighbours: Annotated[int, Field(ge=1)]
    alpha: Annotated[float, Field(gt=0, lt=1)]
    min_ceiling_share: Fraction
    min_stability: Fraction
    min_overlap: Fraction
    min_gain: Annotated[float, Field(ge=0)]


class TrackingSettings(Section):
    """Where the run is logged besides (stage publish)."""

    mlflow_uri: str
    mlflow_experiment: Annotated[str, Field(min_length=1, max_length=500)]

    @field_validator("mlflow_uri")
    @classmethod
    def _is_a_server(cls, value: str) -> str:
        # No name and password before the host: params.yaml lies in git.
        if value and not re.fullmatch(
            r"https?://([\w.-]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?(/[^\s@]*)?", value
        ):
            raise ValueError(
                f"{value!r} is not the address of a server; allowed: '' or one such as "
                "http://127.0.0.1:5000, without a name and password (MLflow reads those from the "
                "environment: MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD)"
            )
        return value


class Settings(Section):
    """The whole of `params.yaml`."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    data: DataSettings
    planted: PlantedSettings
    split: SplitSettings
    model: ModelSettings
    train: TrainSettings
    inspect: InspectSettings
    tracking: TrackingSettings

    def in_effect(self, has_time: bool, genres: int) -> ModelSettings:
        """The settings of the network, less what these data and this split do not allow.

        `model.time` takes effect only where the data hold times and the split does not cut by
        time: ratings that are all newer than the training ratings have no neighbours in time
        among them. `model.genres` does only where there are genres.
        """
        time = self.model.time and has_time and self.split.strategy != "temporal"
        return self.model.model_copy(
            update={"time": time, "genres": self.model.genres and genres > 0}
        )


def load_settings(path: Path | str = "params.yaml") -> Settings:
    """Read and check the settings file.

    Raises:
        InputError: the file is missing, is not YAML, or holds a key or value that is not
            allowed; every finding is listed as `section.key`, the value, what is allowed.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(
            f"{path} is not here: run the command in the project's top folder, "
            "or bring the file back with `git checkout params.yaml`."
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error}): write it anew as such.") from None
    return parse_settings(text, str(path))


def parse_settings(text: str, name: str = "params.yaml") -> Settings:
    """Settings from YAML text; `name` stands for the file in error messages."""
    content = load_yaml(text, name)
    if not isinstance(content, dict):
        raise InputError(f"{name} must hold the sections {', '.join(Settings.model_fields)}.")
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        findings = "\n".join(f"  {_describe(detail)}" for detail in error.errors())
        raise InputError(
            f"{name} holds settings that cannot be used:\n{findings}\n"
            f"Change them in {name}, or with `dvc exp run -S section.key=value`."
        ) from None


class _Loader(yaml.SafeLoader):
    """Reads plain scalars by YAML 1.2, as DVC does, and refuses a key that stands twice.

    PyYAML follows YAML 1.1: it reads `1e-3` as text, `off` as false, `010` as 8, `1:30` as 90.
    """

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    problem = f"the key {key.value!r} stands twice"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                seen.add((key.tag, key.value))
        return node


def _whole_number(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, 0 if text.lstrip("+-")[1:2] in ("b", "o", "x") else 10)


for _tag, _pattern, _starts in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:[0-9][0-9_]*|0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+)", "+-0123456789"),
    (
        "float",
        r"[-+]?(?:(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))"
        r"|\.(?:nan|NaN|NAN)",
        "+-.0123456789",
    ),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _starts
    )
_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)


def load_yaml(text: str, name: str = "the text") -> Any:
    """Content of YAML text, read as DVC reads it; `name` stands for the text in error messages.

    Raises:
        InputError: the text is not valid YAML, or a key stands twice in it.
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{name} is not valid YAML: {error}") from None


_ALLOWED = {
    "greater_than_equal": "at least {ge}",
    "greater_than": "above {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "below {lt}",
    "literal_error": "one of {expected}",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "string_too_long": "at most {max_length} characters",
    "tuple_type": "a list, such as [64, 32]",
    "model_type": "a section with keys of its own",
}


def _describe(detail: ErrorDetails) -> str:
    """One finding as `section.key is VALUE; allowed: RANGE`."""
    key = ".".join(str(part) for part in detail["loc"])
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "missing":
        return f"{key} is missing; `git diff params.yaml` shows what was taken out"
    if kind == "extra_forbidden":
        return f"{key} is not a setting{_nearest(detail['loc'])}"
    if kind == "value_error":
        return f"{key}: {context['error']}"
    allowed = _ALLOWED.get(kind, detail["msg"]).format(**context)
    return f"{key} is {detail['input']!r}; allowed: {allowed}"


def _nearest(location: tuple[int | str, ...]) -> str:
    """The known keys of the section in which an unknown key was found."""
    section: Any = Settings
    for part in location[:-1]:
        section = section.model_fields[part].annotation
    *_, key = location
    close = get_close_matches(str(key), section.model_fields, n=1)
    if close:
        return f"; did you mean {'.'.join([*map(str, location[:-1]), close[0]])}?"
    return f"; allowed here: {', '.join(section.model_fields)}"
