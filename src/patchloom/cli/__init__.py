"""One file a verb, and no logic."""
