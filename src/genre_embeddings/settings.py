"""Typed settings: `params.yaml`, section by section, checked before any work begins.

The comments in `params.yaml` say what each setting means.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from genre_embeddings.errors import InputError

SOURCES = Literal[
    "planted", "folder", "ml-latest-small", "ml-100k", "ml-1m", "ml-10m", "ml-20m", "ml-25m",
    "ml-32m",
]  # fmt: skip

WRITTEN = (
    "data/ablations", "data/checked", "data/genome.json", "data/predictions", "data/prepared",
    "data/split", "data/truth.json", "metrics", "models", "plots",
)  # fmt: skip
"""Outputs of the pipeline, or folders that hold them."""

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Text = Annotated[str, Field(min_length=1)]

AUTO = "auto"
OrAuto = WrapValidator(lambda value, check: value if value == AUTO else check(value))
"""Allows the word auto beside numbers; `TrainSettings.for_ratings` puts a number in its place."""


class Section(BaseModel):
    """A frozen section of `params.yaml` that rejects keys it does not know and odd types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataSettings(Section):
    """Stage prepare: read ratings, movies and genres, and choose which ratings to keep."""

    source: SOURCES
    path: Text
    min_rating: float
    max_rating: float
    off_scale: Literal["error", "drop"]
    timestamps: Literal["read", "ignore"]
    genre_separator: Text
    top_genres: Annotated[int, Field(ge=0, le=200)]
    min_genre_movies: Count
    top_movies: Count
    min_ratings_per_user: Count
    min_ratings_per_movie: Count
    missing_movies: Literal["error", "drop", "keep"]

    @field_validator("path")
    @classmethod
    def _is_not_written(cls, value: str) -> str:
        # DVC refuses it too, but names neither the setting nor the folder.
        place = Path(value).resolve()
        for name in WRITTEN:
            written = Path(name).resolve()
            if place.is_relative_to(written) or written.is_relative_to(place):
                raise ValueError(
                    f"{value!r} overlaps with {name}, to which the pipeline writes; allowed: a "
                    "folder of its own, such as data/raw, or an archive"
                )
        return value

    @model_validator(mode="after")
    def _scale_is_ordered(self) -> DataSettings:
        low, high = self.min_rating, self.max_rating
        if low >= high:
            raise ValueError(f"min_rating {low} and max_rating {high}; allowed: the lower first")
        return self


class PlantedSettings(Section):
    """Stage prepare: generate the planted world, synthetic ratings with known genre positions."""

    seed: Count
    users: Annotated[int, Field(ge=2)]
    movies: Annotated[int, Field(ge=2)]
    genres: Annotated[int, Field(ge=2, le=200)]
    ratings: Annotated[int, Field(ge=10)]
    genre_effect: NotNegative
    noise: NotNegative

    @model_validator(mode="after")
    def _pairs_suffice(self) -> PlantedSettings:
        if self.ratings > self.users * (self.movies // 2):
            raise ValueError(
                f"ratings {self.ratings}: at most half of the {self.users} x {self.movies} "
                "pairs of users and movies can carry a rating"
            )
        return self


class SplitSettings(Section):
    """Stage split: split ratings into train, validation and test."""

    strategy: Literal["random", "temporal", "per_user", "cold_movies"]
    train: Share
    validation: Share
    test: Share

    @property
    def by_time(self) -> bool:
        """Whether held-out ratings are newer than training ratings."""
        return self.strategy in ("temporal", "per_user")

    @model_validator(mode="after")
    def _fractions_add_up(self) -> SplitSettings:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(
                f"train {self.train} + validation {self.validation} + test {self.test} "
                f"= {total:g}: the three fractions must add up to 1"
            )
        return self


class ModelSettings(Section):
    """Stage train: define the network."""

    dim: Annotated[int, Field(ge=1, le=4096)]
    hidden: Annotated[tuple[Positive, ...], Field(strict=False)]
    cross: bool
    genres: bool
    embedding: Literal["variational", "point"]
    history: Annotated[int, Field(ge=0, le=1_000_000)]
    time: Literal["auto", "near", "latest", "none"]
    squash: bool


class TrainSettings(Section):
    """Stage train: fit the network."""

    replicas: SerializeAsAny[Annotated[int, Field(ge=1, le=64), OrAuto]]
    epochs: SerializeAsAny[Annotated[int, Field(ge=1, le=100_000), OrAuto]]
    min_epochs: Positive
    patience: Positive
    batch_size: SerializeAsAny[Annotated[int, Field(ge=1), OrAuto]]
    lr: SerializeAsAny[Annotated[float, Field(gt=0), OrAuto]]
    network_lr: SerializeAsAny[Annotated[float, Field(gt=0), OrAuto]]
    weight_decay: NotNegative
    kl_weight: NotNegative
    movie_dropout: Annotated[float, Field(ge=0, lt=1)]
    rare_dropout: NotNegative
    threads: Count
    devices: Positive
    num_nodes: Positive
    strategy: Literal["auto", "ddp"]
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    without_genres: bool
    shuffled_genres: Count

    def for_ratings(self, count: int) -> TrainSettings:
        """The settings for `count` training ratings, with numbers in the place of auto.

        docs/method/choosing.md has the measurements behind this rule.
        """
        count = max(count, 1)
        # Few ratings need small batches for enough steps an epoch, many need large ones for speed.
        few, many = (2 ** round(math.log2(count / part)) for part in (40, 170))
        batch = int(max(min(few, 1024), min(many, 16_384), 32))
        if self.batch_size != AUTO:
            batch = self.batch_size
        pace = math.sqrt(max(batch / 1024, 1))  # larger batches have less noisy gradients
        chosen = {
            "replicas": 4 if 200_000 <= count < 1_000_000 else 2,
            "epochs": round(min(max(20 * (100_000 / count) ** 0.25, 8), 20)),
            "batch_size": batch,
            "lr": float(f"{0.01 * pace:.2g}"),
            "network_lr": float(f"{0.001 * pace:.2g}"),
        }
        found = {key: value for key, value in chosen.items() if getattr(self, key) == AUTO}
        epochs = found.get("epochs", self.epochs)
        return self.model_copy(update=found | {"min_epochs": min(self.min_epochs, epochs)})

    @model_validator(mode="after")
    def _epochs_are_ordered(self) -> TrainSettings:
        if self.epochs != AUTO and self.min_epochs > self.epochs:
            raise ValueError(
                f"min_epochs {self.min_epochs} and epochs {self.epochs}: "
                "min_epochs must not exceed epochs"
            )
        return self


class InspectSettings(Section):
    """Stage inspect: test whether the learnt genre similarity matches independent evidence."""

    evidence: Literal["held_out", "test"]
    min_movies: Positive
    min_pair_users: Annotated[int, Field(ge=3)]
    permutations: Annotated[int, Field(ge=99)]
    bootstrap: Annotated[int, Field(ge=100)]
    neighbours: Positive
    alpha: Share
    min_ceiling_share: Fraction
    min_stability: Fraction
    min_overlap: Fraction
    min_gain: NotNegative


class TrackingSettings(Section):
    """Stages train and publish: log the run to an MLflow server; the pipeline works without one."""

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

        `model.time` takes effect only where the data hold times. Where the split is by time, held
        out ratings are newer than the training ratings, which are seldom near them in time.
        `model.genres` takes effect only where there are genres.
        """
        time = self.model.time if has_time else "none"
        if time == "auto":
            time = "latest" if self.split.by_time else "near"
        return self.model.model_copy(
            update={"time": time, "genres": self.model.genres and genres > 0}
        )


def effective(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of settings, named `section.key`, that affect what is learnt and measured, sorted."""
    source = settings.get("data.source")
    unused = ["train.threads", "train.devices", "train.num_nodes", "tracking."]
    if source != "planted":
        unused.append("planted.")
    if source != "folder":  # other sources know their scale, and are the same in every folder
        unused += ["data.path", "data.min_rating", "data.max_rating"]
    return {k: v for k, v in sorted(settings.items()) if not k.startswith(tuple(unused))}


def load_settings(path: Path | str = "params.yaml") -> Settings:
    """Read and check the settings file.

    Raises:
        InputError: the file is missing, is not YAML, or holds a key or value that is not
            allowed; every finding is listed as `section.key`, the value, what is allowed.
    """
    try:
        return parse_settings(Path(path).read_bytes(), str(path))
    except FileNotFoundError:
        raise InputError(
            f"{path} is not here: run the command in the project's top folder, "
            "or bring the file back with `git checkout params.yaml`."
        ) from None


def parse_settings(text: str | bytes, name: str = "params.yaml") -> Settings:
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


def load_yaml(text: str | bytes, name: str = "the text") -> Any:
    """Content of YAML text, read as DVC reads it; `name` stands for the text in error messages.

    Raises:
        InputError: the text is not valid YAML, or a key stands twice in it.
    """
    try:
        return _Loader(text).get_single_data()
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{name} is not valid YAML: {error}") from None


def _describe(detail: ErrorDetails) -> str:
    """One finding as `section.key is VALUE; allowed: RANGE`, mostly in the words of pydantic."""
    *above, last = names = [n if n.isprintable() else repr(n) for n in map(str, detail["loc"])]
    key, kind, message = ".".join(names), detail["type"], detail["msg"]
    if kind == "missing":
        return f"{key} is missing; `git diff params.yaml` shows what was taken out"
    if kind == "value_error":
        return f"{key}: {message.removeprefix('Value error, ')}"
    if kind == "extra_forbidden":
        section: Any = Settings
        for part in above:
            section = section.model_fields[part].annotation
        if close := get_close_matches(last, section.model_fields, n=1):
            return f"{key} is not a setting; did you mean {'.'.join([*above, *close])}?"
        return f"{key} is not a setting; allowed here: {', '.join(section.model_fields)}"
    # pydantic has names of Python for these
    allowed = {
        "bool_type": "true or false",
        "tuple_type": "a list, such as [64, 32]",
        "model_type": "a section with keys of its own",
    }
    rule = allowed.get(kind, re.sub("^(Input|String) should (be|have) ", "", message))
    if key.startswith("train.") and OrAuto in TrainSettings.model_fields[last].metadata:
        rule += ", or auto"
    return f"{key} is {detail['input']!r}; allowed: {rule}"


DEFAULTS: dict[str, Any] = load_yaml(
    """
seed: 0
data: {source: planted, path: data/raw, min_rating: 0.5, max_rating: 5.0, off_scale: error,
  timestamps: read, genre_separator: auto, top_genres: 0, min_genre_movies: 0, top_movies: 0,
  min_ratings_per_user: 0, min_ratings_per_movie: 0, missing_movies: error}
planted: {seed: 0, users: 1000, movies: 1500, genres: 18, ratings: 100000, genre_effect: 1.0,
  noise: 0.7}
split: {strategy: random, train: 0.7, validation: 0.2, test: 0.1}
model: {dim: 16, hidden: [64, 32], cross: true, genres: true, embedding: variational, history: 256,
  time: auto, squash: false}
train: {replicas: auto, epochs: auto, min_epochs: 5, patience: 6, batch_size: auto, lr: auto,
  network_lr: auto, weight_decay: 0.01, kl_weight: 0.4, movie_dropout: 0.05, rare_dropout: 0.5,
  threads: 1, devices: 1, num_nodes: 1, strategy: auto, precision: 32-true, without_genres: true,
  shuffled_genres: 0}
inspect: {evidence: held_out, min_movies: 2, min_pair_users: 20, permutations: 9999,
  bootstrap: 1000, neighbours: 3, alpha: 0.05, min_ceiling_share: 0.8, min_stability: 0.6,
  min_overlap: 0.5, min_gain: 0.003}
tracking: {mlflow_uri: '', mlflow_experiment: genre-embeddings}
""",
    "the defaults",
)
"""What params.yaml holds before anyone changes it: the report lists the settings that differ.

The settings have no defaults of their own, so that a key that is missing is an error.
"""
