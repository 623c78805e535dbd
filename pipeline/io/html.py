"""HTML pages from Jinja2 templates, which lie in a folder `templates` beside the module that renders them.

`page.html.j2` in this room is the frame of pages without scripts, and `style.css` the stylesheet of all pages.
"""

from functools import cache
from importlib import resources
from typing import Any


def render_html(package: str, template: str, **values: Any) -> str:
    """Renders a template of a package, such as `render_html(__package__, "report.html.j2", title=...)`.

    Values are escaped. A template that names a value it is not given raises jinja2.UndefinedError.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined  # here: most commands write no HTML

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader(__package__)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(stylesheet=stylesheet(), **values)


@cache
def stylesheet() -> str:
    """The stylesheet that all pages share."""
    return (resources.files(__package__) / "templates" / "style.css").read_text(encoding="utf-8")
