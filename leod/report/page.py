"""A web page in one file: no script, no resource from elsewhere, light or dark as the reader's system is."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from html import escape
from importlib import resources

import numpy as np
from PIL import Image

_PALETTE_COLOURS = 64


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        key: Its anchor.
        title: Its heading, plain text.
        body: Its content, HTML.
    """

    key: str
    title: str
    body: str


def page(title: str, header: str, sections: SequenceOf[Section]) -> str:
    """The whole page.

    Args:
        title: Title of the window, plain text.
        header: What stands above the sections, HTML.
        sections: The sections, listed in a table of contents.
    """
    style = resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    links = "".join(f'<a href="#{section.key}">{escape(section.title)}</a>' for section in sections)
    body = "".join(
        f'<section id="{section.key}"><h2>{escape(section.title)}</h2>\n{section.body}</section>\n'
        for section in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'<div class="layout">\n<nav aria-label="Contents"><p>Contents</p>{links}</nav>\n'
        f"<main>\n<header>{header}</header>\n{body}</main>\n</div>\n</body>\n</html>\n"
    )


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text, with a class of the style sheet."""
    return f'<p class="{kind}">{escape(text)}</p>\n' if kind else f"<p>{escape(text)}</p>\n"


def table(rows: Iterable[SequenceOf[str]], text_columns: int = 1) -> str:
    """A table of plain text.

    Args:
        rows: The rows, the first one the header. A row whose first cell is not empty begins a group.
        text_columns: So many first columns are words; the others are figures and stand to the right.
    """
    header, *body = [list(row) for row in rows]

    def cells(row: SequenceOf[str], tag: str) -> str:
        return "".join(
            f'<{tag} class="text">{escape(cell)}</{tag}>' if number < text_columns else f"<{tag}>{escape(cell)}</{tag}>"
            for number, cell in enumerate(row)
        )

    lines = []
    for number, row in enumerate(body):
        begins_group = number and row[0] and any(not other[0] for other in body)
        opening = '<tr class="group">' if begins_group else "<tr>"
        lines.append(f"{opening}{cells(row, 'td')}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr>{cells(header, "th")}</tr></thead>\n'
        f"<tbody>{chr(10).join(lines)}</tbody></table></div>\n"
    )


def definitions(entries: Iterable[tuple[str, str]]) -> str:
    """A list of terms with what they are, plain text."""
    return "<dl>" + "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in entries) + "</dl>\n"


def tiles(entries: Iterable[tuple[str, str]]) -> str:
    """Figures in large type, each with what it means; plain text."""
    inside = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in entries
    )
    return f'<div class="tiles">{inside}</div>\n'


def plot(svg: str, caption: str) -> str:
    """A drawing (an SVG element) with its caption in plain text."""
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>\n"


def details(summary: str, body: str) -> str:
    """Content that is unfolded on demand; ``summary`` is plain text, ``body`` HTML."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>\n"


def preformatted(text: str) -> str:
    """Text whose line breaks count."""
    return f"<pre>{escape(text)}</pre>\n"


def themed_picture(light: np.ndarray, dark: np.ndarray, description: str) -> str:
    """A picture that follows the reader's theme.

    Args:
        light: uint8 [H, W, 3], RGB.
        dark: The same for a dark background.
        description: What it shows, plain text.
    """
    height, width, _ = light.shape
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{_data_uri(dark)}">'
        f'<img src="{_data_uri(light)}" width="{width}" height="{height}" alt="{escape(description)}"></picture>'
    )


def _data_uri(picture: np.ndarray) -> str:
    buffer = io.BytesIO()
    # Few colours are used; a palette makes the file a third as large.
    Image.fromarray(picture).quantize(_PALETTE_COLOURS).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
