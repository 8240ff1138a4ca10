"""Stage prepare: read ratings from their source into canonical tables, and count what was done."""

from stages import run


def main() -> None:
    from genre_embeddings.settings import load_settings

    settings = load_settings()

    from genre_embeddings import storage
    from genre_embeddings.data.sources import open_source
    from genre_embeddings.data.sources.genome import genome_content
    from genre_embeddings.data.tables import build_tables, reasons, truth_content, write_tables

    with open_source(settings.data, settings.planted) as source:
        tables = build_tables(source, settings.data)
        genome = genome_content(source.genome, tables.movies, tables.genres)
    write_tables(tables)
    storage.write_json(storage.TRUTH, truth_content(tables.genres, source.truth))
    storage.write_json(storage.GENOME, genome)
    storage.write_metrics(storage.METRICS / "prepare.json", tables.counts)
    dropped, read = tables.counts["dropped"], tables.counts["rows_read"]
    if any(dropped.values()):
        print(f"left out {sum(dropped.values()):,} of {read:,} rows: {reasons(dropped)}")
    print(
        f"prepared {tables.ratings.height:,} ratings by {tables.users.height:,} users of "
        f"{tables.movies.height:,} movies in {tables.genres.height} genres -> {storage.PREPARED}"
    )


if __name__ == "__main__":
    run(main)
