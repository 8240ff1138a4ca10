"""A small trained project, once for each file of tests, and its model."""

import pytest

from genre_embeddings.inference.trained import open_model
from tests.trained import train_project


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return train_project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def model(project, monkeypatch):
    monkeypatch.chdir(project)
    return open_model()
