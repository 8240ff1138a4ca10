"""The small trained model."""

import pytest

from genre_embeddings.inference.trained import open_model


@pytest.fixture
def model(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return open_model()
