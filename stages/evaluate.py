"""Stage evaluate: errors, skill, calibration, and pictures of them."""

from stages import run


def main() -> None:
    from genre_embeddings.settings import load_settings

    settings = load_settings()

    import polars as pl

    from genre_embeddings import storage
    from genre_embeddings.evaluation.bias import fit_bias
    from genre_embeddings.evaluation.evaluate import Predicted, evaluate
    from genre_embeddings.figures import draw_histogram
    from genre_embeddings.model.predict import predict
    from genre_embeddings.model.ratings import Ratings
    from genre_embeddings.model.serialization import configure_torch, load_whole, require_same_data

    configure_torch(settings.train.threads)
    meta = storage.read_meta()
    split = storage.read_sides(settings.train.refit)
    require_same_data(split["train"])
    network, (_, movies, genres) = load_whole()
    network.index_ratings(Ratings.of(split["train"]))
    sides = {}
    for name, side in split.items():
        asked, drawn = (side.user, side.movie, side.timestamp), name == "test"
        found = predict(network, *asked, own=name == "train", posterior=drawn)
        sides[name] = Predicted(side.user, side.movie, side.rating, *found)
    train, test = sides["train"], sides["test"]
    baseline = fit_bias(train.user, train.movie, train.rating, network.users, network.unknown)
    scale = (meta.min_rating, meta.max_rating)
    measured, shown = evaluate(sides, baseline, movies, genres, scale, settings.seed)

    with storage.replacing(storage.PREDICTIONS, folder=True) as folder:
        table = pl.DataFrame(test._asdict()).rename({"mean": "prediction"})
        storage.write_table(folder / "test.parquet", table)
    plots = storage.PLOTS / "evaluate"
    for name, rows in shown.items():
        storage.write_rows(plots / f"{name}.json", rows)
    draw_histogram(shown["histogram"], plots / "histogram.png")
    model = {"model": storage.model_fingerprint()}
    storage.write_metrics(storage.METRICS / "evaluate.json", model | measured)
    errors = measured["test"]
    print(
        f"evaluated {errors['ratings']:,} test ratings: RMSE {errors['rmse']:.4f}, "
        f"user + movie bias {errors['baselines']['user_movie_bias']['rmse']:.4f} "
        f"-> {storage.METRICS / 'evaluate.json'}, {plots}"
    )


if __name__ == "__main__":
    run(main)
