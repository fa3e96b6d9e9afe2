"""MLflow runs, the registry and the model bundle."""
