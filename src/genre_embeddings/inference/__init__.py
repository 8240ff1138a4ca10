"""Using a trained model: predict, recommend, neighbours, explain, export."""
