"""Datasets, losses and loops."""
