"""Stage publish: the model card, and the run on an MLflow server if one is named."""

from stages import run


def main() -> None:
    from genre_embeddings.settings import load_settings

    settings = load_settings()

    from genre_embeddings.publish.card import CARD, write_card

    write_card(settings)
    print(f"wrote the model card -> {CARD}", flush=True)
    if settings.tracking.mlflow_uri:
        from genre_embeddings.publish.mlflow import log_run

        if said := log_run(settings):
            print(said)


if __name__ == "__main__":
    run(main)
