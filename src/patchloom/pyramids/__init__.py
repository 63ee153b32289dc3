"""Pictures written from any field: pyramidal TIFF, OME-TIFF, cloud-optimised GeoTIFF, PNG."""

from patchloom.pyramids.image import write_image
from patchloom.pyramids.read import read_provenance

__all__ = ["read_provenance", "write_image"]
