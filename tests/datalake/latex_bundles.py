"""Bundles of LaTeX sources as arXiv keeps them, and its tars of many, made in memory."""

import gzip
import io
import tarfile
from collections.abc import Mapping


def tar_of(files: Mapping[str, bytes]) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return held.getvalue()


def bundle(**files: str | bytes) -> bytes:
    """A gzipped tar; ``main_tex`` is ``main.tex``, two underscores make a folder."""
    named = {
        name.replace("__", "/").replace("_", "."): text.encode() if isinstance(text, str) else text
        for name, text in files.items()
    }
    return gzip.compress(tar_of(named), mtime=0)


def paper(body: str, preamble: str = "") -> str:
    return (
        f"\\documentclass{{article}}\n{preamble}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"
    )
