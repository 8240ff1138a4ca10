"""The network: embeddings, histories, sessions; saving, loading, predicting."""
