"""The OME-XML description of one RGB picture (OME schema 2016-06)."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from patchloom import provenance
from patchloom.geometry import Frame

_SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def ome_xml(name: str, frame: Frame, block: str) -> str:
    """Size, pixel size in micrometres (the schema's default unit) and the provenance block as a comment."""
    size = ""
    if frame.pixel_size is not None:
        micrometres = repr(frame.pixel_size.metres * 1e6)
        size = f' PhysicalSizeX="{micrometres}" PhysicalSizeY="{micrometres}"'
    name = name.encode("ascii", "xmlcharrefreplace").decode()
    label = quoteattr(name).replace("&amp;#", "&#")
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<OME xmlns="{_SCHEMA}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{_SCHEMA} {_SCHEMA}/ome.xsd" Creator={quoteattr(provenance.software())}>'
        f'<Image ID="Image:0" Name={label}>'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="{frame.width}" SizeY="{frame.height}" '
        f'SizeC="3" SizeZ="1" SizeT="1" Interleaved="true"{size}>'
        '<Channel ID="Channel:0:0" SamplesPerPixel="3"/><TiffData IFD="0" PlaneCount="1"/></Pixels>'
        '<AnnotationRef ID="Annotation:0"/></Image>'
        f'<StructuredAnnotations><CommentAnnotation ID="Annotation:0" Namespace="{provenance.OME_NAMESPACE}">'
        f"<Value>{escape(block)}</Value></CommentAnnotation></StructuredAnnotations></OME>"
    )
