"""Stage train: fit the network and keep the weights of the best epoch.

The RMSE that it prints is from before the correction by similar movies, as are the curves by epoch;
stage evaluate measures errors after it.
"""

from stages import run


def main() -> None:
    import sys

    from genre_embeddings.settings import load_settings

    settings = load_settings()

    from genre_embeddings import storage
    from genre_embeddings.model.serialization import configure_torch, read_tables
    from genre_embeddings.training.ablations import (
        ablation_names,
        ablations_beside,
        train_ablations,
    )
    from genre_embeddings.training.checkpoint import Scratch
    from genre_embeddings.training.model import Data, train_model
    from genre_embeddings.training.replicas import is_first_process

    configure_torch(settings.train.threads)
    tables = read_tables()
    # Not read_sides, which looks at the test ratings, too.
    train, validation = (storage.read_side(side) for side in ("train", "validation"))
    data = Data(train, validation, tables, storage.read_meta())
    if train.user.max() >= tables.users.height or train.movie.max() >= tables.movies.height:
        why = "the split has users or movies that the prepared data lack"
        raise storage.different_runs(storage.SPLIT, storage.PREPARED, why)
    if sys.argv[1:] == ["--ablations"]:  # a second process beside the first, see ablations_beside
        with Scratch(quiet=True) as scratch:
            train_ablations(settings, data, scratch)
        return
    count = train.rating.size
    fitting = settings.train.for_ratings(count)
    names = ablation_names(settings, data.meta, tables.genres.height)
    with Scratch() as scratch, ablations_beside(fitting, count, names) as wait:
        history, best = train_model(settings, data, scratch=scratch)
        if wait:
            wait()
        else:
            train_ablations(settings, data, scratch)
    if not is_first_process():
        return
    again = ", then again with the validation ratings" if fitting.refit else ""
    print(
        f"trained {fitting.replicas} replicas in batches of {fitting.batch_size:,} ratings for "
        f"{len(history)} epochs, best {best}: validation RMSE "
        f"{history[best - 1]['validation/rmse']:.4f}{again} -> {storage.MODEL}"
    )


if __name__ == "__main__":
    run(main)
