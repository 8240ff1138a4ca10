"""Stage publish: headline numbers, the model card, and the run on an MLflow server, if named."""

from stages import run


def main() -> None:
    from genre_embeddings.settings import load_settings

    settings = load_settings()

    from genre_embeddings.publish.card import CARD, write_card
    from genre_embeddings.publish.summary import SUMMARY, TABLE, read_details, write_summary

    details = read_details()
    write_summary(settings, details)
    write_card(settings, details)
    print(f"published the headline numbers and the card -> {SUMMARY}, {TABLE}, {CARD}", flush=True)
    if settings.tracking.mlflow_uri:
        from genre_embeddings.publish.mlflow import log_run

        if said := log_run(settings, details):
            print(said)


if __name__ == "__main__":
    run(main)
