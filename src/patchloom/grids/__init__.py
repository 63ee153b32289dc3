"""Embedding grids: the value, its file, and the feature files of other labs."""
