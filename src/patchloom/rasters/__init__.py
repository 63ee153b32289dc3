"""Reading slides, GeoTIFFs and pictures of any size by region."""
