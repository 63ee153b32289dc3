"""A trained model as a folder, and what one does with it."""
