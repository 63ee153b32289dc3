"""The large-image engine: scenes, plans, and the run that weaves a canvas."""
