"""Stage train: fit the network and keep the weights of the best epoch."""

from stages import run


def main() -> None:
    from genre_embeddings.settings import load_settings

    settings = load_settings()

    from genre_embeddings import storage
    from genre_embeddings.model.build import build_network, genre_sets
    from genre_embeddings.model.ratings import Ratings
    from genre_embeddings.model.serialization import save_model, use_threads
    from genre_embeddings.training.checkpoint import Scratch
    from genre_embeddings.training.lightning import fit, is_first_process

    use_threads(settings.train.threads)
    movies, users, genres = (
        storage.read_table(storage.PREPARED / f"{name}.parquet")
        for name in ("movies", "users", "genres")
    )
    train, validation = (Ratings.of(storage.read_side(side)) for side in ("train", "validation"))
    membership = genre_sets(movies, genres.height)
    network = build_network(settings, train, membership, users.height, storage.read_meta())
    with Scratch() as scratch:
        history, best = fit(
            network, train, validation, settings.train, settings.seed, scratch=scratch
        )
        if not is_first_process():
            return
        save_model(network)
    chosen = history[best.epoch - 1]
    print(
        f"trained {settings.train.replicas} replicas for {len(history)} epochs, best {best.epoch}: "
        f"validation RMSE {chosen['validation/rmse']:.4f} -> {storage.MODEL}"
    )


if __name__ == "__main__":
    run(main)
