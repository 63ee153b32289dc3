"""Features, distances, similarities and seams, each with what is needed to believe it."""
