"""The mathematics: denoisers, noise levels, samplers, guidance. No slide, file or window."""
