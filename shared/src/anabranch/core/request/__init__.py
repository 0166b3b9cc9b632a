"""A request as users write it: its models, its validation, its graph and its plan. Pure."""
