"""Stage train: fit the network and keep the weights of the best epoch."""

from stages import run


def main() -> None:
    import sys

    from genre_embeddings.settings import load_settings

    settings = load_settings()

    from genre_embeddings import storage
    from genre_embeddings.model.build import build_network, genre_sets
    from genre_embeddings.model.ratings import Ratings
    from genre_embeddings.model.serialization import Tables, configure_torch, save_model
    from genre_embeddings.training.ablations import (
        ablation_names,
        ablations_beside,
        train_ablations,
    )
    from genre_embeddings.training.checkpoint import Scratch
    from genre_embeddings.training.gauge import fit_genres
    from genre_embeddings.training.lightning import fit, is_first_process

    configure_torch(settings.train.threads)
    tables = Tables(
        *(storage.read_table(storage.PREPARED / f"{name}.parquet") for name in Tables._fields)
    )
    meta = storage.read_meta()
    # Not read_sides, which looks at the test ratings, too.
    train, validation = (Ratings.of(storage.read_side(side)) for side in ("train", "validation"))
    if (
        int(train.user.max()) >= tables.users.height
        or int(train.movie.max()) >= tables.movies.height
    ):
        why = "the split has users or movies that the prepared data lack"
        raise storage.different_runs(storage.SPLIT, storage.PREPARED, why)
    if sys.argv[1:] == ["--ablations"]:  # a second process beside the first, see ablations_beside
        with Scratch(quiet=True) as scratch:
            train_ablations(settings, train, validation, tables, meta, scratch)
        return
    sets = genre_sets(tables.movies, tables.genres.height)
    network = build_network(settings, train, sets, tables.users.height, meta)
    fitting = settings.train.for_ratings(train.count)
    names = ablation_names(settings, meta, tables.genres.height)
    with (
        Scratch() as scratch,
        ablations_beside(fitting, train.count, names) as wait,
    ):
        history, best = fit(
            network,
            train,
            validation,
            settings.train,
            settings.seed,
            scratch=scratch,
        )
        if not is_first_process():
            return
        fit_genres(network, train, validation)
        save_model(network)
        if wait:
            wait()
        else:
            train_ablations(settings, train, validation, tables, meta, scratch)
    chosen = history[best.epoch - 1]
    print(
        f"trained {fitting.replicas} replicas in batches of {fitting.batch_size:,} ratings for "
        f"{len(history)} epochs, best {best.epoch}: validation RMSE "
        f"{chosen['validation/rmse']:.4f} -> {storage.MODEL}"
    )


if __name__ == "__main__":
    run(main)
