"""Genre embeddings, versioned: a neural collaborative filter and an inspection of its genres."""
