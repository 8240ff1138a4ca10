"""Stage summarize: the headline metrics, and the table on top of the comparison page."""

from stages import run


def main() -> None:
    from genre_embeddings.settings import load_settings

    settings = load_settings()

    from genre_embeddings import storage
    from genre_embeddings.summary import SUMMARY, TABLE, headlines, require_one_run, table

    prepared, split, evaluated, inspected = (
        storage.read_json(storage.METRICS / f"{stage}.json")
        for stage in ("prepare", "split", "evaluate", "inspect")
    )
    require_one_run(prepared, split, evaluated, inspected)
    test_ratings = split["parts"]["test"]["ratings"]
    storage.write_metrics(SUMMARY, headlines(evaluated, inspected))
    fingerprints = {
        "data": storage.fingerprint_of(storage.PREPARED),
        "split": storage.fingerprint_of(*(storage.SPLIT / side for side in storage.SIDES)),
    }
    counts = prepared["ratings"], test_ratings
    storage.write_rows(TABLE, table(settings, *counts, evaluated, inspected, fingerprints))
    print(f"summarized the run -> {SUMMARY}, {TABLE}")


if __name__ == "__main__":
    run(main)
