"""Stage inspect: are the genre embeddings appropriate? Evidence, verdicts, pictures, a report."""

from stages import run


def main() -> None:
    from genre_embeddings.settings import load_settings

    settings = load_settings()

    from genre_embeddings import storage
    from genre_embeddings.figures import draw_heatmaps
    from genre_embeddings.inspection.inspect import inspect
    from genre_embeddings.inspection.question import gather
    from genre_embeddings.inspection.report import write_report

    answer = inspect(gather(settings))
    plots = storage.PLOTS / "inspect"
    for name, rows in answer.plots.items():
        storage.write_rows(plots / f"{name}.json", rows)
    labels = [f"{name} ({count:,})" for name, count in answer.genres.items()]
    picture = plots / "heatmaps.png"
    draw_heatmaps(answer.matrices, labels, answer.order, answer.unsure, picture)
    write_report(answer, settings)
    measured = {"model": storage.model_fingerprint(), **answer.metrics}
    storage.write_metrics(storage.METRICS / "inspect.json", measured)
    outcomes = ", ".join(f"{verdict.line}: {verdict.outcome}" for verdict in answer.verdicts)
    print(f"inspected the genres ({outcomes}) -> {storage.REPORT}")


if __name__ == "__main__":
    run(main)
