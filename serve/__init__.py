"""Serves a trained classifier as SageMaker calls it; owns the artifact and the preprocessing."""
