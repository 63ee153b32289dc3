"""Foreign checkpoints: read safely, renamed by table, run here unchanged, written back."""
