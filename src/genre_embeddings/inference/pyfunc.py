"""The trained model as MLflow opens it: `mlflow.pyfunc.load_model`, `mlflow models serve`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from genre_embeddings.inference.predict import ROW, AnyUser, predict_rows
from genre_embeddings.inference.trained import Trained, open_model

if TYPE_CHECKING:
    import pandas as pd


class Predictor:
    """Predictions for a table of users and movies."""

    def __init__(self, model: Trained) -> None:
        self.model = model
        self.any_user = AnyUser(model.network)

    def predict(self, rows: pd.DataFrame, params: Any = None) -> pd.DataFrame:  # noqa: ARG002
        """prediction, deviation, known_user and known_movie of each row, in the same order.

        Args:
            rows: columns userId and movieId, and optionally timestamp (seconds since 1970) and
                genres, which count for movies that the model does not know.
            params: not used.

        Raises:
            InputError: a row has an invalid value.
        """
        import pandas as pd

        text = {
            name: [None if pd.isna(value) else str(value) for value in column]
            for name, column in rows.items()
        }
        table = pl.DataFrame(text, schema=dict.fromkeys(text, pl.String)).with_row_index(ROW, 1)
        columns = ("userId", "movieId")
        found = predict_rows(self.model, table, columns, "the table", self.any_user, Counter())
        return pd.DataFrame(found.to_dict(as_series=False), index=rows.index)


def _load_pyfunc(folder: str) -> Predictor:
    """Open a model folder; MLflow calls it."""
    return Predictor(open_model(Path(folder)))
