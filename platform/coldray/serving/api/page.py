"""The page at ``/``: one document without anything from elsewhere, and the policy that holds a browser to that."""

import base64
import hashlib
import re
from importlib.resources import files

from fastapi import APIRouter, Response

router = APIRouter()
_PARTS = {"style": ("page.css",), "script": ("base.js", "history.js", "list.js", "items.js", "compare.js", "begin.js")}
"""Files of the folder ``web`` that become the one style and the one script of the page."""


def _document() -> str:
    folder = files("coldray.serving") / "web"
    document = folder.joinpath("page.html").read_text(encoding="utf-8")
    for element, names in _PARTS.items():
        content = "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)
        document = document.replace(f"<{element}></{element}>", f"<{element}>\n{content}</{element}>")
    return document


_HTML = _document()


def _hashes(element: str) -> str:
    """Return the hashes of the page's scripts or styles, which are all that may run or apply."""
    contents = re.findall(rf"<{element}>(.*?)</{element}>", _HTML, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents]
    return " ".join(f"'sha256-{digest}'" for digest in digests)


_POLICY = (
    f"default-src 'none'; script-src {_hashes('script')}; style-src {_hashes('style')}; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@router.get("/", include_in_schema=False)
async def page() -> Response:
    """Return the page."""
    return Response(_HTML, media_type="text/html", headers=_HEADERS)
