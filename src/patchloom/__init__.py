"""Patchloom: large images from grids of self-supervised embeddings, by latent diffusion in windows."""

__version__ = "0.1.0.dev0"
