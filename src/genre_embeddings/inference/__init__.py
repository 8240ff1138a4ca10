"""Using a trained model: predictions, recommendations, neighbours, explanations, exports."""
