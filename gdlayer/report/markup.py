"""HTML by small templates. Text is escaped unless it is Markup, which only these functions make."""

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

_ENVIRONMENT = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)

_TABLE = _ENVIRONMENT.from_string(
    """\
<table class="{{ kind }}"><thead><tr>
{%- for heading in head %}<th>{{ heading }}</th>{% endfor -%}
</tr></thead><tbody>
{%- for row in rows -%}
{% if row | length > 1 -%}
<tr><th>{{ row[0] }}</th>{% for text in row[1:] %}<td>{{ text }}</td>{% endfor %}</tr>
{%- else -%}
<tr><th colspan="{{ head | length }}">{{ row[0] }}</th></tr>
{%- endif %}
{%- endfor -%}
</tbody></table>"""
)


def table(
    head: Sequence[str], body: Mapping[str, Sequence[str]] | Iterable[Sequence[str]], kind: str = "results"
) -> Markup:
    """A table.

    Parameters
    ----------
    head : headings of the columns, that of the rows' headings first
    body : {heading: one text per column}, or rows that begin with their heading; a row of a heading alone goes across
    kind : its class
    """
    rows = [(heading, *texts) for heading, texts in body.items()] if isinstance(body, Mapping) else list(body)
    return Markup(_TABLE.render(head=head, rows=rows, kind=kind))


def note(text: str) -> Markup:
    """A small paragraph under a table; nothing for no text."""
    return Markup("\n<p><small>{}</small></p>").format(text) if text else Markup()


def small(text: str) -> Markup:
    return Markup("<small>{}</small>").format(text)


def bold(text: str) -> Markup:
    return Markup("<b>{}</b>").format(text)


def superscript(text: str) -> Markup:
    """The text raised; nothing for no text."""
    return Markup("<sup>{}</sup>").format(text) if text else Markup()


def marked(text: str, kind: str) -> Markup:
    """The text with a class of its own."""
    return Markup('<span class="{}">{}</span>').format(kind, text)


def link(text: str, target: str) -> Markup:
    return Markup('<a href="{}">{}</a>').format(target, text)


def heading(text: str, name: str) -> Markup:
    """A heading of a section, as a place that links lead to."""
    return Markup('<h2 id="{}">{}</h2>').format(name, text)


def place(name: str, text: str) -> Markup:
    """The text as a place that links lead to."""
    return Markup('<b id="{}">{}</b>').format(name, text)


def download(text: str, name: str, content: str) -> Markup:
    """A link that saves the content, a CSV file, under that name; it carries the content itself."""
    address = f"data:text/csv;charset=utf-8,{quote(content, safe=',')}"
    return Markup('<a download="{}" href="{}">{}</a>').format(name, address, text)


def command(*words: str) -> Markup:
    """A command in a box, where the book has a button that copies it; lines break between words alone."""
    spans = Markup(" ").join(Markup("<span>{}</span>").format(word) for word in words)
    return Markup('<div class="highlight"><pre>{}</pre></div>').format(spans)


def lines(*texts: str) -> Markup:
    """The texts under one another, without those that are empty."""
    return Markup("<br>").join(text for text in texts if text)


def sentences(*texts: str) -> Markup:
    """The texts one after another, without those that are empty."""
    return Markup(" ").join(text for text in texts if text)


def items(*texts: str) -> Markup:
    """The texts parted by semicolons, without those that are empty."""
    return Markup("; ").join(text for text in texts if text)


def seeds(count: int) -> str:
    return f"{count} seed{'s' * (count != 1)}"


def paragraph(text: str) -> Markup:
    return Markup("<p>{}</p>").format(text)


def division(kind: str, *parts: str) -> Markup:
    """The parts in a box with a class."""
    return Markup('<div class="{}">{}</div>').format(kind, Markup().join(parts))


def folded(summary: str, part: str) -> Markup:
    """A part that opens when its summary is clicked."""
    return Markup("<details><summary>{}</summary>{}</details>").format(summary, part)


def bullets(texts: Iterable[str]) -> Markup:
    """A list."""
    return Markup("<ul>{}</ul>").format(Markup().join(Markup("<li>{}</li>").format(text) for text in texts))
