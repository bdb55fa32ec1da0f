"""Jinja templates of pages and cards."""

from stillhouse.reporting.page.scales import byte_text, second_text


def rendered(template, *, escape=True, **values):
    """Return the text of a template with its values; unknown names are errors.

    Templates have ``byte_text`` and ``second_text``.

    Parameters
    ----------
    template : str
    escape : bool
        Whether the text is HTML, in which values are escaped.
    values
        By their names in the template, functions too.
    """
    import jinja2

    environment = jinja2.Environment(
        autoescape=escape, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(byte_text=byte_text, second_text=second_text)
    return environment.from_string(template).render(values)
