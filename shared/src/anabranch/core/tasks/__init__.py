"""Tasks as people manage them: models, dependencies, and the decisions of the registry. Pure."""
