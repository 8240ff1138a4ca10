"""Stage split: canonical ratings into train, validation and test."""

from stages import run


def main() -> None:
    from genre_embeddings.settings import load_settings

    settings = load_settings()

    from genre_embeddings import files
    from genre_embeddings.splits import assign_sides, write_split

    ratings, users, movies = (
        files.read_table(files.PREPARED / f"{name}.parquet")
        for name in ("ratings", "users", "movies")
    )
    sides = assign_sides(ratings, users, movies, files.read_meta(), settings.split, settings.seed)
    counts = write_split(ratings, sides)
    files.write_metrics(files.METRICS / "split.json", {"sides": counts})
    shares = ", ".join(f"{side} {counts[side]['ratings']:,}" for side in files.SIDES)
    print(
        f"split {ratings.height:,} ratings ({settings.split.strategy}): {shares} -> {files.SPLIT}"
    )


if __name__ == "__main__":
    run(main)
