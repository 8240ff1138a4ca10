"""The summary, the model card, and an MLflow tracking server."""
