"""Stage evaluate: errors, skill, calibration, and pictures of them."""

from stages import run


def main() -> None:
    from genre_embeddings.settings import load_settings

    settings = load_settings()

    import polars as pl

    from genre_embeddings import files
    from genre_embeddings.baselines import fit_bias
    from genre_embeddings.batches import Ratings
    from genre_embeddings.evaluation import Predicted, evaluate
    from genre_embeddings.figures import draw_histogram
    from genre_embeddings.model import POSTERIOR_DRAWS, load_whole, predict, use_threads

    use_threads(settings.train.threads)
    meta = files.read_meta()
    network, (_, movies, genres) = load_whole()
    network.follow(Ratings.of(files.read_side("train")))
    sides = {}
    for name in files.SIDES:
        side = files.read_side(name)
        mean, deviation = predict(
            network,
            side.user,
            side.movie,
            side.timestamp,
            settings.seed,
            own=name == "train",
            draws=POSTERIOR_DRAWS if name == "test" else 0,
        )
        sides[name] = Predicted(side.user, side.movie, side.rating, mean, deviation)
    train, test = sides["train"], sides["test"]
    baseline = fit_bias(train.user, train.movie, train.rating, network.users, network.unknown)
    scale = (meta.min_rating, meta.max_rating)
    result = evaluate(sides, baseline, movies, genres, scale, settings.seed)

    with files.replacing_folder(files.PREDICTIONS) as folder:
        table = {"user": test.user, "movie": test.movie, "rating": test.rating}
        table |= {"prediction": test.mean, "deviation": test.deviation}
        files.write_table(folder / "test.parquet", pl.DataFrame(table))
    plots = files.PLOTS / "evaluate"
    for name in ("histogram", "reliability", "genres", "support", "calibration"):
        files.write_rows(plots / f"{name}.json", getattr(result, name))
    draw_histogram(result.histogram, plots / "histogram.png")
    files.write_metrics(files.METRICS / "evaluate.json", result.metrics)
    errors = result.metrics["test"]
    print(
        f"evaluated {errors['ratings']:,} test ratings: RMSE {errors['rmse']:.4f}, "
        f"user + movie bias {errors['baselines']['user_movie_bias']['rmse']:.4f} "
        f"-> {files.METRICS / 'evaluate.json'}, {plots}"
    )


if __name__ == "__main__":
    run(main)
