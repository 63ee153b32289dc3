"""What is learnt from: slides cut into plots, with what was computed of them once."""
