"""HTML of tables."""

from collections.abc import Iterable, Mapping, Sequence


def table(
    head: Sequence[str], body: Mapping[str, Sequence[str]] | Iterable[Sequence[str]], kind: str = "results"
) -> str:
    """A table; every text is HTML.

    Parameters
    ----------
    head : headings of the columns, that of the rows' headings first
    body : {heading: one text a column}, or rows that begin with their heading; a row of a heading alone goes across
    kind : its class
    """
    rows = ((heading, *texts) for heading, texts in body.items()) if isinstance(body, Mapping) else body
    lines = "".join(
        f"<tr><th>{heading}</th>{''.join(f'<td>{text}</td>' for text in texts)}</tr>"
        if texts
        else f'<tr><th colspan="{len(head)}">{heading}</th></tr>'
        for heading, *texts in rows
    )
    first = "".join(f"<th>{heading}</th>" for heading in head)
    return f'<table class="{kind}"><thead><tr>{first}</tr></thead><tbody>{lines}</tbody></table>'


def note(text: str) -> str:
    """A small paragraph under a table; nothing for no text."""
    return f"\n<p><small>{text}</small></p>" if text else ""


def seeds(count: int) -> str:
    return f"{count} seed{'s' * (count != 1)}"
