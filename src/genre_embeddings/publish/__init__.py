"""The model card, and an MLflow tracking server."""
