"""Genre embeddings, versioned: a neural collaborative filter and an inspection of its genres.

In the project's folder, after `dvc repro`:

    from genre_embeddings.inference.neighbours import neighbours
    from genre_embeddings.inference.recommend import recommend
    from genre_embeddings.inference.trained import open_model

    model = open_model()
    table, known = recommend(model, user_id=42)
    neighbours(model, "Horror").table

- `genre_embeddings.inference.trained.open_model` opens a model, whose network, users, movies and
  genres are attributes of `genre_embeddings.inference.trained.Trained`.
- `genre_embeddings.inference.predict`, `genre_embeddings.inference.recommend`,
  `genre_embeddings.inference.neighbours` and `genre_embeddings.inference.explain` answer questions.
- `genre_embeddings.inference.newcomer` adds a person who was not in training.
- `genre_embeddings.experiments.revisions.read_runs` reads the results of experiments, and
  `genre_embeddings.experiments.compare.compare` compares what they learnt.
- `genre_embeddings.storage` reads the files of the stages.

Errors that a user can correct are `genre_embeddings.errors.InputError`. All else in this package is
for the pipeline, and may change.
"""
