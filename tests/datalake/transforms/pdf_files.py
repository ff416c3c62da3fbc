"""PDF files written by hand, so that each test knows every letter and its place."""

import zlib
from collections.abc import Iterable, Sequence

WIDTH, HEIGHT = 612, 792  # points: US letter
FONTS = {"F1": "Helvetica", "F2": "Courier", "F3": "Helvetica-Bold"}


def put(x: float, y: float, text: str, size: float = 10, font: str = "F1", mode: int = 0) -> str:
    """Operators that write ``text`` with its baseline ``y`` points above the lower edge."""
    return put_turned((1, 0, 0, 1, x, y), text, size, font, mode)


def put_turned(
    matrix: tuple[float, ...], text: str, size: float = 10, font: str = "F1", mode: int = 0
) -> str:
    escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    place = " ".join(f"{value:.3f}" for value in matrix)
    return f"BT {mode} Tr /{font} {size} Tf {place} Tm ({escaped}) Tj ET\n"


def put_lines(x: float, y: float, lines: Iterable[str], size: float = 10, step: float = 12) -> str:
    return "".join(put(x, y - step * n, line, size) for n, line in enumerate(lines))


def wrap(text: str, num_chars: int) -> list[str]:
    """Lines of at most ``num_chars`` characters."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > num_chars:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines


def pdf(
    contents: Sequence[str],
    *,
    page: str = "",  # further entries of every page
    resources: str = "",
    catalog: str = "",
    info: str = "",
    trailer: str = "",
    objects: Sequence[bytes] = (),  # numbered from 10
) -> bytes:
    """A file with a page for each stream of operators."""
    bodies: dict[int, bytes] = {}
    first = 10 + len(objects)
    kids = " ".join(f"{first + 2 * n} 0 R" for n in range(len(contents)))
    fonts = " ".join(f"/{name} {3 + n} 0 R" for n, name in enumerate(FONTS))
    bodies[1] = f"<< /Type /Catalog /Pages 2 0 R {catalog} >>".encode()
    bodies[2] = (
        f"<< /Type /Pages /Kids [{kids}] /Count {len(contents)} /MediaBox [0 0 {WIDTH} {HEIGHT}] "
        f"/Resources << /Font << {fonts} >> {resources} >> >>"
    ).encode()
    for number, base in enumerate(FONTS.values()):
        bodies[3 + number] = (
            f"<< /Type /Font /Subtype /Type1 /BaseFont /{base} /Encoding /WinAnsiEncoding >>"
        ).encode()
    bodies[6] = f"<< {info} >>".encode("latin-1")
    for number, body in enumerate(objects):
        bodies[10 + number] = body
    for number, content in enumerate(contents):
        at = first + 2 * number
        bodies[at] = f"<< /Type /Page /Parent 2 0 R /Contents {at + 1} 0 R {page} >>".encode()
        bodies[at + 1] = stream(content.encode("cp1252"))
    return _file(bodies, f"/Root 1 0 R /Info 6 0 R {trailer}")


def stream(payload: bytes, entries: str = "", deflate: bool = False) -> bytes:
    if deflate:
        payload, entries = zlib.compress(payload), f"{entries} /Filter /FlateDecode"
    return f"<< {entries} /Length {len(payload)} >>\nstream\n".encode() + payload + b"\nendstream"


def image() -> bytes:
    """An image of one grey pixel."""
    entries = "/Type /XObject /Subtype /Image /Width 1 /Height 1 /BitsPerComponent 8"
    return stream(b"\x80", f"{entries} /ColorSpace /DeviceGray")


def _file(bodies: dict[int, bytes], trailer: str) -> bytes:
    out = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    places = {}
    for number, body in sorted(bodies.items()):
        places[number] = len(out)
        out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    size = max(bodies) + 1
    start = len(out)
    out += f"xref\n0 {size}\n0000000000 65535 f \n".encode()
    for number in range(1, size):
        place = places.get(number)
        out += f"{place:010d} 00000 n \n".encode() if place else b"0000000000 00001 f \n"
    out += f"trailer\n<< /Size {size} {trailer} >>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(out)
