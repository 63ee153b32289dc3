"""Small slides in the layouts of scanners' vendors, as far as OpenSlide tells them apart, written by tifffile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from tests.pyramids.pictures import picture

UInt8 = NDArray[np.uint8]
HEIGHT, WIDTH = 512, 768
TILE: dict[str, Any] = {
    "photometric": "rgb",
    "tile": (256, 256),
    "compression": "jpeg",
    "compressionargs": {"level": 95},
    "metadata": None,
}


def colours(height: int = HEIGHT, width: int = WIDTH) -> UInt8:
    """(height, width, 3), stained all over, so that every cell is tissue."""
    pixels: UInt8 = picture(height, width).transpose(1, 2, 0) // 2 + 40
    return np.ascontiguousarray(pixels)


def halved(pixels: UInt8) -> UInt8:
    """The next level of a pyramid: means of 2 x 2."""
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
    means: UInt8 = pixels.reshape(height, 2, width, 2, 3).mean(axis=(1, 3)).astype(np.uint8)
    return means


def aperio(path: Path, told: str) -> None:
    """A ScanScope .svs: level 0, a stripped thumbnail, level 1; `told` are the `KEY = VALUE` pairs behind the bar."""
    pixels = colours()
    head = f"Aperio Image Library v12.0.15\r\n{WIDTH}x{HEIGHT} [0,0 {WIDTH}x{HEIGHT}] (256x256) JPEG/RGB Q=95|{told}"
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, description=head, **TILE)
        file.write(halved(halved(pixels)), photometric="rgb", compression="jpeg", metadata=None, description=head)
        file.write(halved(pixels), description=head, **TILE)


def trestle(path: Path, told: str) -> None:
    """A MedMicro .tif: `KEY=VALUE;` pairs, one overlap of tiles a level; `told` begins with the um of a pixel."""
    pixels = colours()
    um, _, rest = told.partition(" ")
    head = f"Background Color=ffffff;OverlapsXY=0 0 0 0;{rest}"
    unit: dict[str, Any] = {"resolution": (float(um), float(um)), "resolutionunit": "NONE"}
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, software="MedScan 1.0", description=head, **unit, **TILE)
        file.write(halved(pixels), software="MedScan 1.0", description=head, subfiletype=1, **unit, **TILE)


def philips(path: Path, told: str) -> None:
    """A Philips .tiff: its sizes and pixel spacings (mm, down before across) in XML. `told` is the spacing."""
    pixels = colours()
    levels = "".join(_philips_level(k, told) for k in (0, 1))
    xml = (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        '<Attribute Name="PIM_DP_SCANNED_IMAGES" PMSVR="IDataObjectArray"><Array>'
        '<DataObject ObjectType="DPScannedImage">'
        '<Attribute Name="PIM_DP_IMAGE_TYPE" PMSVR="IString">WSI</Attribute>'
        f'<Attribute Name="DICOM_PIXEL_SPACING" PMSVR="IDoubleArray">{_spacing(told, 0)}</Attribute>'
        f'<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE" PMSVR="IDataObjectArray"><Array>{levels}</Array>'
        "</Attribute></DataObject></Array></Attribute></DataObject>"
    )
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, software="Philips DP v1.0", description=xml, **TILE)
        file.write(halved(pixels), software="Philips DP v1.0", subfiletype=1, **TILE)


def _philips_level(number: int, spacing: str) -> str:
    return (
        '<DataObject ObjectType="PixelDataRepresentation">'
        f'<Attribute Name="DICOM_PIXEL_SPACING" PMSVR="IDoubleArray">{_spacing(spacing, number)}</Attribute>'
        f'<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_NUMBER" PMSVR="IUInt16">{number}</Attribute></DataObject>'
    )


def _spacing(spacing: str, level: int) -> str:
    return " ".join(f"&quot;{float(part) * 2**level:.9f}&quot;" for part in spacing.split())


def leica(path: Path, told: str) -> None:
    """An .scn: BigTIFF, pictures on a slide, in nm; `told` is a pixel's. One of the slide's size is a macro."""
    pixels, nm = colours(), int(told)
    size, slide = (f'sizeX="{WIDTH * nm * times}" sizeY="{HEIGHT * nm * times}"' for times in (1, 2))
    xml = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01" uuid="urn:uuid:0">'
        f'<collection name="a" uuid="urn:uuid:1" {slide} barcode="">'
        '<image name="image_0" uuid="urn:uuid:2"><creationDate>2011-01-01</creationDate><device model="m" version="1"/>'
        f'<pixels sizeX="{WIDTH}" sizeY="{HEIGHT}"><dimension r="0" sizeX="{WIDTH}" sizeY="{HEIGHT}" ifd="0"/>'
        f'<dimension r="1" sizeX="{WIDTH // 2}" sizeY="{HEIGHT // 2}" ifd="1"/></pixels>'
        f'<view {size} offsetX="0" offsetY="0" spacingZ="0"/>'
        "<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings>"
        "<illuminationSettings><illuminationSource>brightfield</illuminationSource>"
        "<numericalAperture>0.4</numericalAperture></illuminationSettings></scanSettings></image></collection></scn>"
    )
    cm = 1e7 / nm  # pixels in a centimetre
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for level, part in enumerate((pixels, halved(pixels))):
            where: dict[str, Any] = {"resolution": (cm / 2**level, cm / 2**level), "resolutionunit": "CENTIMETER"}
            file.write(part, description=xml if level == 0 else None, **where, **TILE)


@dataclass(frozen=True, slots=True)
class Vendor:
    """A layout: what it says of itself, the format that OpenSlide sees, and the pixel size that follows, in um."""

    suffix: str
    write: Callable[[Path, str], None]
    told: str
    format: str
    pixel_um: float | None
    objective: float | None = None  # where the pixel size is a guess from it
    size: tuple[int, int] = (HEIGHT, WIDTH)


VENDORS = {
    "aperio": Vendor("svs", aperio, "AppMag = 20|MPP = 0.4990", "openslide:aperio", 0.499),
    "aperio, objective alone": Vendor("svs", aperio, "AppMag = 40", "openslide:aperio", 0.25, 40),
    "aperio, nothing told": Vendor("svs", aperio, "Title = a", "openslide:aperio", None),
    "trestle": Vendor("tif", trestle, "0.5 Objective Power=20;", "openslide:trestle", 0.5),
    "philips": Vendor("tiff", philips, "0.00025 0.00025", "openslide:philips", 0.25),
    "leica": Vendor("scn", leica, "500", "openslide:leica", 0.5, None, (2 * HEIGHT, 2 * WIDTH)),
}
