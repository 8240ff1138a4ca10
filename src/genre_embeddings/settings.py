"""Typed settings: `params.yaml`, section by section, checked before any work begins.

Each field has a description with its meaning, unit and range. The comments in `params.yaml` repeat
the descriptions, and `tests/test_settings.py` checks that the two are equal.
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

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class DataSettings(Section):
    """Stage prepare: read ratings, movies and genres, and choose which ratings to keep."""

    source: SOURCES
    """Data set: planted, folder, ml-latest-small, ml-100k, ml-1m, ml-10m, ml-20m, ml-25m or
    ml-32m"""
    path: Text
    """Folder that contains the archive or your own files, or the path of the archive itself"""
    min_rating: float
    """Lowest rating of the scale, in stars; only source folder uses it"""
    max_rating: float
    """Highest rating of the scale, in stars; only source folder uses it"""
    off_scale: Literal["error", "drop"]
    """If a row lacks an id or a rating, or has one outside min_rating to max_rating, such as -1:
    error, or drop (the row); only source folder uses it"""
    timestamps: Literal["read", "ignore"]
    """Timestamps of ratings: read (seconds since 1970, or dates such as 2015-03-01 12:00:00) or
    ignore; only source folder uses it"""
    genre_separator: Text
    """Text between the genres of a movie, or auto: lists, or the most frequent of | ; , and tab;
    only source folder uses it"""
    top_genres: Annotated[int, Field(ge=0, le=200)]
    """Number of genres with the most movies to keep, 0 to 200; 0 keeps all, but refuses more than
    60"""
    min_genre_movies: Count
    """Drop genres with fewer movies than this; 0 keeps all genres"""
    top_movies: Count
    """Number of most-rated movies to keep; 0 keeps all"""
    min_ratings_per_user: Count
    """Drop users with fewer ratings than this, until all have as many; 0 keeps all users"""
    min_ratings_per_movie: Count
    """Drop movies with fewer ratings than this, until all have as many; 0 keeps all movies"""
    missing_movies: Literal["error", "drop", "keep"]
    """If a rated movie is not in the movie list: error, drop (its ratings) or keep (without
    genres)"""

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
    """Seed of the planted world, 0 or more; the top-level seed does not change the data"""
    users: Annotated[int, Field(ge=2)]
    """Number of users, 2 or more"""
    movies: Annotated[int, Field(ge=2)]
    """Number of movies, 2 or more"""
    genres: Annotated[int, Field(ge=2, le=200)]
    """Number of genres, 2 to 200; the first 18 have MovieLens names"""
    ratings: Annotated[int, Field(ge=10)]
    """Number of ratings, 10 or more, at most half of users x movies"""
    genre_effect: NotNegative
    """Strength of genres in a user's taste, as a factor, 0 (no effect) or more"""
    noise: NotNegative
    """Standard deviation of a rating around the user's taste, in stars, 0 or more"""

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
    """How to split: random (by rating), temporal (the newest ratings are the test), per_user (the
    newest ratings of each user are the test) or cold_movies (by movie)"""
    train: Share
    """Fraction of ratings for training, above 0; the three fractions add up to 1"""
    validation: Share
    """Fraction of ratings for validation, above 0"""
    test: Share
    """Fraction of ratings for testing, above 0"""

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
    """Size of the user, movie and genre embeddings, 1 to 4096"""
    hidden: Annotated[tuple[Positive, ...], Field(strict=False)]
    """Units of each hidden layer, each 1 or more; [] makes one linear layer"""
    cross: bool
    """Whether the network reads the product of the user's and the movie's vector"""
    genres: bool
    """Whether the network reads the genres of a movie"""
    embedding: Literal["variational", "point"]
    """Embedding type: variational (a normal distribution per entry) or point (a number per
    entry)"""
    history: Annotated[int, Field(ge=0, le=1_000_000)]
    """Maximum number of a user's movies, and of a movie's users, that the network reads, 0 to
    1000000; 0 disables history"""
    similar_movies: Annotated[int, Field(ge=0, le=100_000)]
    """Maximum number of similar movies whose errors by the same user correct a prediction, 0 to
    100000; 0 disables the correction"""
    time: Literal["auto", "near", "latest", "none"]
    """Which other ratings tell the user's mood: near (in time, before and after), latest (the last
    before), none, or auto: latest if the split is by time, else near if most ratings have others
    within ten minutes; always none without times"""
    squash: bool
    """Whether a sigmoid limits predictions to the rating scale"""


class TrainSettings(Section):
    """Stage train: fit the network."""

    replicas: SerializeAsAny[Annotated[int, Field(ge=1, le=64), OrAuto]]
    """Number of models to train at once and to average, 1 to 64, or auto: by the number of
    training ratings, one or more for each process"""
    epochs: SerializeAsAny[Annotated[int, Field(ge=1, le=100_000), OrAuto]]
    """Maximum number of epochs, 1 to 100000, or auto: by the number of training ratings"""
    min_epochs: Positive
    """Number of epochs before early stopping can stop training, 1 to epochs"""
    patience: Positive
    """Number of epochs without a better validation error after which training stops, 1 or more"""
    batch_size: SerializeAsAny[Annotated[int, Field(ge=1), OrAuto]]
    """Number of ratings in each training step, 1 or more, or auto: by the number of training
    ratings"""
    lr: SerializeAsAny[Annotated[float, Field(gt=0), OrAuto]]
    """Learning rate of the embeddings (Adam), above 0, or auto: by the batch size"""
    network_lr: SerializeAsAny[Annotated[float, Field(gt=0), OrAuto]]
    """Learning rate of the dense network (Adam), above 0, or auto: by the batch size"""
    weight_decay: NotNegative
    """Weight decay of the embeddings (AdamW), 0 or more; only embedding point uses it"""
    kl_weight: NotNegative
    """Weight of the KL divergence from the prior, 0 or more; only embedding variational uses it"""
    movie_dropout: Annotated[float, Field(ge=0, lt=1)]
    """Probability of replacing a movie id with the unknown movie, 0 to below 1; the network then
    learns more from genres"""
    rare_dropout: NotNegative
    """Number of further replacements per movie and epoch, on average, 0 or more; rare movies are
    replaced relatively more often"""
    threads: Count
    """Number of CPU threads, 0 for all cores; another number can change the last digits"""
    devices: Positive
    """Number of processes on each machine, 1 or more; each trains one replica or more, on its own
    GPU where there are GPUs"""
    num_nodes: Positive
    """Number of machines, 1 or more; docs/guide/scaling.md explains how to start them with
    torchrun"""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    """Floating-point precision of training: 32-true, bf16-mixed or 16-mixed (one GPU only)"""
    refit: bool
    """Whether to train once more, on training and validation ratings, for the number of epochs that
    validation chose; there are no validation errors of the model then"""
    without_genres: bool
    """Whether to train a second model without genres too, which measures what genres add"""
    shuffled_genres: Count
    """Number of further models to train with genre sets shuffled across movies, 0 or more; 20 allow
    p-values down to 0.05"""

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
            "replicas": max(4 if 200_000 <= count < 1_000_000 else 2, self.processes),
            "epochs": round(min(20 * (100_000 / count) ** 0.25, 20)) if count < 1_000_000 else 8,
            "batch_size": batch,
            "lr": float(f"{0.01 * pace:.2g}"),
            "network_lr": float(f"{0.001 * pace:.2g}"),
        }
        found = {key: value for key, value in chosen.items() if getattr(self, key) == AUTO}
        epochs = found.get("epochs", self.epochs)
        return self.model_copy(update=found | {"min_epochs": min(self.min_epochs, epochs)})

    @property
    def processes(self) -> int:
        """Number of processes on all machines."""
        return self.devices * self.num_nodes

    @model_validator(mode="after")
    def _processes_have_replicas(self) -> TrainSettings:
        if self.replicas != AUTO and self.processes > self.replicas:
            raise ValueError(
                f"devices {self.devices}, num_nodes {self.num_nodes} and replicas {self.replicas}: "
                "each process trains one replica or more; lower devices or num_nodes, or set "
                f"replicas to {self.processes} or auto"
            )
        return self

    @model_validator(mode="after")
    def _float16_has_one_process(self) -> TrainSettings:
        # Each process scales its gradients by itself, so they could not be added.
        if self.precision == "16-mixed" and self.processes > 1:
            raise ValueError(
                f"precision 16-mixed, devices {self.devices} and num_nodes {self.num_nodes}: "
                "16-mixed trains in one process; several can use bf16-mixed"
            )
        return self

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
    """Ratings that measure users' genre slopes: held_out (validation and test; with train.refit,
    test alone) or test"""
    min_movies: Positive
    """Minimum number of movies of a genre, 1 or more; genres with fewer are excluded"""
    min_pair_users: Annotated[int, Field(ge=3)]
    """Minimum number of users who rated movies of both genres of a pair, 3 or more; other pairs are
    masked"""
    permutations: Annotated[int, Field(ge=99)]
    """Number of permutations of the genre labels, 99 or more; the smallest p-value is 1 / (n +
    1)"""
    bootstrap: Annotated[int, Field(ge=100)]
    """Number of bootstrap resamples of users for each interval, 100 or more"""
    neighbours: Positive
    """Number of nearest genres to list for each genre, 1 or more"""
    alpha: Share
    """Significance level of the tests, above 0 and below 1"""
    min_ceiling_share: Fraction
    """Minimum fraction of the noise ceiling that counts as learnt, 0 to 1"""
    min_stability: Fraction
    """Minimum Spearman correlation expected between similarities learnt from other users, 0 to 1"""
    min_overlap: Fraction
    """Minimum neighbour overlap, from 0 (chance) to 1 (full); genres below it get no neighbours"""
    min_gain: NotNegative
    """Minimum improvement of RMSE that counts as larger than the difference between seeds, in
    stars, 0 or more"""


class TrackingSettings(Section):
    """Stage publish: log the run to an MLflow server; the pipeline works without one."""

    mlflow_uri: str
    """Address of an MLflow tracking server, such as http://127.0.0.1:5000; empty disables
    logging"""
    mlflow_experiment: Annotated[str, Field(min_length=1, max_length=500)]
    """Name of the experiment on the MLflow server, 1 to 500 characters"""

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
    """Seed of all random draws outside the planted world, a whole number from 0 to 2147483647"""
    data: DataSettings
    planted: PlantedSettings
    split: SplitSettings
    model: ModelSettings
    train: TrainSettings
    inspect: InspectSettings
    tracking: TrackingSettings

    def in_effect(self, has_time: bool, sessions: bool, genres: int) -> ModelSettings:
        """The settings of the network, less what these data and this split do not allow.

        `model.time` takes effect only where the data hold times. Where the split is by time, held
        out ratings are newer than the training ratings, which are seldom near them in time. Where
        users do not rate in sessions, there is no mood to learn, and the network would learn noise.
        `model.genres` takes effect only where there are genres.
        """
        time = self.model.time if has_time else "none"
        if time == "auto":
            time = "latest" if self.split.by_time else "near" if sessions else "none"
        return self.model.model_copy(
            update={"time": time, "genres": self.model.genres and genres > 0}
        )


def effective(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of settings, named `section.key`, that affect what is learnt and measured, sorted."""
    source = settings.get("data.source")
    unused = ["train.threads", "tracking."]
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

    PyYAML follows YAML 1.1: it reads `1e-3` as text, `off` as false, `1:30` as 90. Whole numbers
    such as 010, 0o17 and 0x1f are no whole numbers here; DVC reads 10, 15 and 31.
    """

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f"the key {key.value!r} stands twice"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                seen.add(key.value)
        return node


for _tag, _pattern in {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(0|[1-9][0-9_]*)",
    "float": r"[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)"
    r"|\.(nan|NaN|NAN)",
    "merge": r"<<",
}.items():
    _whole = re.compile(rf"({_pattern})\Z")
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _whole, None)


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
  similar_movies: 200, time: auto, squash: false}
train: {replicas: auto, epochs: auto, min_epochs: 5, patience: 6, batch_size: auto, lr: auto,
  network_lr: auto, weight_decay: 0.01, kl_weight: 0.4, movie_dropout: 0.05, rare_dropout: 0.5,
  threads: 1, devices: 1, num_nodes: 1, precision: 32-true, refit: false,
  without_genres: true, shuffled_genres: 0}
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
