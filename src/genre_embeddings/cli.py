"""The command line: `./genres` in a checkout, `genres` where the package is installed.

It parses and prints; the library does the work. Nothing heavy is imported before a command
runs, so that help comes at once.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import tomllib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genre_embeddings.errors import InputError, messages, plain

if TYPE_CHECKING:
    import polars as pl

    from genre_embeddings.inference.trained import Trained

FILE = click.Path(path_type=Path)


def _out(default: str, what: str) -> Any:
    return click.option("--out", type=FILE, default=Path(default), help=what)


def _top(what: str) -> Any:
    return click.option("--top", type=click.IntRange(min=1), default=10, help=what)


replica = click.option(
    "--replica",
    type=int,
    default=0,
    help="Replica whose vectors to use; each has its own basis, so they cannot be averaged.",
)


def version() -> str:
    """The version in `pyproject.toml`: of this checkout, or of the installed package."""
    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    if project.is_file():  # a checkout, whatever is installed besides
        return tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
    return metadata.version("genre-embeddings")


def main() -> None:
    """Run `genres`; what a user can correct ends in one message, without a traceback."""
    # OpenMP threads that spin while they wait take cores from other processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with messages():
        sys.exit(genres())


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--model", type=FILE, default=Path("models"), help="Folder of the trained model.")
@click.version_option(version(), message="genres %(version)s")
@click.pass_context
def genres(context: click.Context, model: Path) -> None:
    """Use a trained model, and compare experiments.

    Run it in the top folder of the project. Users are given by the ids of the data. Movies are
    given by id or by a title, or a part of one, in upper or lower case: "toy story". A genre
    counts more than an id, an id more than a title, and a whole name more than a part.
    """
    context.obj = model


@genres.command()
@click.argument("revisions", nargs=-1, metavar="REV REV [REV]...")
def compare(revisions: tuple[str, ...]) -> None:
    """Compare the genre similarities that revisions learnt.

    REV is an experiment's name, a branch, a tag, a commit, or `workspace`. The others are
    compared with the first. `dvc plots diff` shows the similarities as heatmaps.
    """
    from genre_embeddings.experiments import compare as comparison

    found = comparison.compare(revisions)
    for warning in found.warnings:
        click.echo(f"{warning}\n")
    _print("Settings that differ, verdicts and scores", found.scores())
    _print("Agreement of the genre similarities (Spearman's rho)", found.agreements())
    title = f"Genres that changed most from {revisions[0]} (mean absolute change of similarity)"
    _print(title, found.moved().head(10))
    if found.left_out:
        click.echo(f"Left out, because some revision lacks them: {', '.join(found.left_out)}\n")


@genres.command()
def runs() -> None:
    """List experiments and branches whose stage publish ended: settings and results.

    A row shows the settings that differ, errors, agreement and verdicts. Test ratings judge
    a model; choose among models by validation error (see `genres sweep`).
    """
    from genre_embeddings.experiments import runs as listing

    table, notes = listing.table()
    _print("Experiments and branches, the newest first", table)
    for note in notes:
        click.echo(textwrap.fill(note, shutil.get_terminal_size().columns))


@genres.command()
@click.argument("setting", default="model.dim", metavar="[SETTING]")
@click.option(
    "--where", multiple=True, metavar="KEY=VALUE", help="Only runs with this setting; repeatable."
)
@_out("dvc_plots/sweep.png", "The picture to write.")
def sweep(setting: str, where: tuple[str, ...], out: Path) -> None:
    """Chart quality against a setting, over all experiments.

    SETTING is a key of params.yaml, such as train.lr; the default is model.dim. Experiments
    that differ in other settings are drawn as separate lines.
    """
    from genre_embeddings.experiments import sweep as sweeps

    found = sweeps.collect(setting, where)
    sweeps.draw(found, out)
    for title, table in found.tables().items():
        _print(title, table)
    for line in filter(None, (*found.notes, found.answer())):
        click.echo(line)
    click.echo(f"-> {out}")


@genres.command()
@_out("exports", "The folder to write; an earlier export in it is replaced.")
@replica
@click.pass_obj
def export(model: Path, out: Path, replica: int) -> None:
    """Write embeddings and a scorer for other programs.

    The embeddings of genres, movies and users are Parquet files; genres and movies are also
    written for TensorBoard's Embedding Projector. scorer.pt2 predicts ratings in PyTorch,
    without this program.
    """
    from genre_embeddings.inference import export as exporting

    opened = _open(model)
    exporting.export(opened, out, replica)
    what = f"{opened.movies.height:,} movies and {opened.users.height:,} users"
    if opened.network.settings.genres:
        what = f"{opened.genres.height} genres, {what}"
    click.echo(f"exported {what} of replica {replica}, and the scorer -> {out}")


@genres.command()
@click.argument("file", type=FILE)
@click.option("--out", type=FILE, required=True, help="The csv file to write.")
@click.pass_obj
def predict(model: Path, file: Path, out: Path) -> None:
    """Predict the rating of each row of a csv file.

    FILE has a header with userId, movieId and, if known, timestamp. Unknown ids still get
    predictions, flagged in the columns known_user and known_movie. A column genres, such as
    Drama|Comedy, says what an unknown movie is about.
    """
    from genre_embeddings.inference.predict import predict_file

    _require_outside(model, out)
    rows, users, movies = predict_file(_open(model), file, out)
    click.echo(
        f"predicted {rows:,} rows, {users:,} of unknown users and {movies:,} of unknown movies "
        f"-> {out}"
    )


@genres.command()
@click.argument("user_id", required=False)
@click.option(
    "--ratings",
    type=FILE,
    metavar="FILE",
    help="A csv file with the ratings of a new person: movieId or title, and rating.",
)
@click.option("--all", "everyone", is_flag=True, help="For all users, into the file --out.")
@click.option("--out", type=FILE, help="The Parquet file to write, with --all.")
@click.option("--genre", help="Only movies of this genre.")
@_top("Movies to list for a user.")
@click.pass_obj
def recommend(
    model: Path,
    user_id: str | None,
    ratings: Path | None,
    everyone: bool,
    out: Path | None,
    genre: str | None,
    top: int,
) -> None:
    """List the movies that a user would like best.

    Movies that the user rated in training are left out. With --ratings, the user is
    somebody who was not in training, and the table below shows their taste by genre. The
    model stays as it is.
    """
    from genre_embeddings.inference import newcomer
    from genre_embeddings.inference import recommend as recommending

    asked = (user_id is not None) + (ratings is not None) + everyone
    if asked != 1 or everyone != (out is not None):
        raise click.UsageError(
            "Give one of USER_ID, --ratings FILE, and --all with --out FILE.parquet."
        )
    if out is not None:
        _require_outside(model, out)
    opened, title, rated = _open(model), f"For user {user_id}", None
    genre = None if genre is None else opened.genre_names[opened.genre(genre)]
    if out is not None:
        rows, users = recommending.recommend_all(opened, out, genre, top), opened.users.height
        click.echo(f"recommended {rows:,} movies to {users:,} users -> {out}")
        return
    if ratings is not None:
        person = newcomer.read_user(opened, ratings)
        opened, user_id, rated = person.model, str(person.user_id), person.ratings.movie
        title = f"From {len(rated)} rating{'s' * (len(rated) > 1)} in {ratings}"
        if person.unknown:
            click.echo(
                f"Left out {person.unknown} of {len(rated) + person.unknown} ratings, of movies "
                f"that the model does not know: {person.left_out}.\n"
            )
        if len(rated) == 1:
            click.echo("One rating says little: this is nearly what users like on average.\n")
    table, known = recommending.recommend(opened, str(user_id), genre, top, rated)
    if not known:
        name = plain(str(user_id))
        click.echo(f"User {name} is not known: this is what users like on average.\n")
    if table.is_empty():
        click.echo("There are no movies to recommend.")
    else:
        _print(title + (f", {genre}" if genre else ""), table)
    if ratings is not None and opened.network.settings.genres:
        title = "Taste by genre, in stars above or below what users think of it on average"
        _print(title, newcomer.taste(opened, str(user_id)))


@genres.command()
@click.argument("genre_or_movie")
@_top("Neighbours to list.")
@click.pass_obj
def neighbours(model: Path, genre_or_movie: str, top: int) -> None:
    """List the genres or movies most similar to one.

    GENRE_OR_MOVIE is a genre or its beginning, or the id, the title or a part of the title of a
    movie.
    """
    from genre_embeddings.inference import neighbours as nearest

    found = nearest.neighbours(_open(model), genre_or_movie, top)
    _print(f"Most like {found.name}", found.table)
    if found.repeatable is False:
        click.echo("Not repeatable: trained on other users, the model would list other genres.")


@genres.command()
@click.argument("user_id")
@click.argument("movie")
@click.pass_obj
def explain(model: Path, user_id: str, movie: str) -> None:
    """Show a prediction as a sum of parts.

    The parts are the mean, the user, each genre and the movie. MOVIE is the id, the title
    or a part of the title of a movie.
    """
    from genre_embeddings.inference import explain as explaining

    found = explaining.explain(_open(model), user_id, movie)
    if not found.known_user:
        click.echo(f"User {plain(user_id)} is not known: this is the mean over users.")
    if not found.known_movie:
        name = plain(movie)
        click.echo(f"Movie {name} is not known: this is the prediction for any unknown movie.")
    name = found.title if found.known_movie else f"movie {movie}"
    _print(
        f"User {user_id}, {name}: {found.prediction:.2f} stars "
        f"(standard deviation {found.deviation:.2f})",
        found.parts,
    )


@genres.command()
@click.argument("names", metavar="GENRE[,GENRE]...")
@replica
@click.pass_obj
def embed(model: Path, names: str, replica: int) -> None:
    """Print the vector of a new movie with these genres."""
    from genre_embeddings.inference import export as exporting

    opened = _open(model)
    listed = [opened.genre_names[opened.genre(name)] for name in names.split(",") if name.strip()]
    _print(f"{', '.join(listed)}, replica {replica}", exporting.embed(opened, listed, replica))


def _require_outside(model: Path, out: Path) -> None:
    """Refuse to write over a model's files."""
    if model.resolve() in out.resolve().parents:
        raise InputError(f"--out {out} lies in the folder of the model: choose another place.")


def _open(model: Path) -> Trained:
    from genre_embeddings.inference.trained import open_model

    return open_model(model)


def _print(title: str, table: pl.DataFrame) -> None:
    """A table that fits the terminal; in a narrow one, the values of each row as a paragraph."""
    import polars as pl

    table = table.with_columns(pl.col(pl.String).map_elements(plain, return_dtype=pl.String))
    width = shutil.get_terminal_size(fallback=(1000, 24)).columns  # a file has any width
    layout: Any = {
        "tbl_formatting": "NOTHING", "tbl_cell_numeric_alignment": "RIGHT", "tbl_rows": -1,
        "tbl_hide_column_data_types": True, "tbl_hide_dataframe_shape": True, "tbl_cols": -1,
        "tbl_width_chars": 1000, "float_precision": 3,
    }  # fmt: skip
    for longest in (1000, 60, 40, 30, 20):
        with pl.Config(**layout, fmt_str_lengths=longest):
            shown = str(table)
        if max(map(len, shown.splitlines())) <= width:
            break
    else:
        rows = [
            ", ".join(
                f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()
            )
            for row in table.iter_rows(named=True)
        ]
        wrap = textwrap.TextWrapper(width, subsequent_indent="  ", break_on_hyphens=False)
        shown = "\n".join(map(wrap.fill, rows))
    click.echo(f"{textwrap.fill(plain(title), width)}\n{shown}\n")
