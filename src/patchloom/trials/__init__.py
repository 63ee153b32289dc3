"""A pipeline on trial: what is measured of it and of what it made."""
