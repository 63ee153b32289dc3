"""Neural networks: layers and U-Nets."""
