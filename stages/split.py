"""Stage split: split the canonical ratings into train, validation and test."""

from stages import run


def main() -> None:
    from genre_embeddings.settings import load_settings

    settings = load_settings()

    from genre_embeddings import storage
    from genre_embeddings.data.split import assign_sides, write_split

    ratings, users, movies = (
        storage.read_table(storage.PREPARED / f"{name}.parquet")
        for name in ("ratings", "users", "movies")
    )
    sides = assign_sides(ratings, users, movies, storage.read_meta(), settings.split, settings.seed)
    counts = write_split(ratings, sides)
    storage.write_metrics(storage.METRICS / "split.json", {"parts": counts})
    shares = ", ".join(f"{side} {counts[side]['ratings']:,}" for side in storage.SIDES)
    print(
        f"split {ratings.height:,} ratings ({settings.split.strategy}): {shares} -> {storage.SPLIT}"
    )


if __name__ == "__main__":
    run(main)
