"""Reports as HTML: one page that needs no other file and no network."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from coldray.reports.report import SYNTHETIC_LABEL, Report
from coldray.reports.style import CSS_PIXELS_PER_INCH, HALF_WIDTH, as_data_uri


def page(report: Report) -> str:
    """Return the report as one page; every text in it is escaped."""
    environment = Environment(
        loader=PackageLoader("coldray", "reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"as_data_uri": as_data_uri, "half": HALF_WIDTH, "pixels": CSS_PIXELS_PER_INCH}
    banner = SYNTHETIC_LABEL if report.synthetic else None
    return environment.get_template("page.html").render(report=report, synthetic=banner)
