"""Writing large images: tiled pyramids and plain pictures."""
