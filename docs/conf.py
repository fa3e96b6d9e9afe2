"""How the documentation is built: ``make docs``. Pages that are made from the code are written before each build."""

import sys
from importlib import metadata
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))

project = "coldray"
author = "the authors of coldray"
release = metadata.version("coldray")
extensions = [
    "generated",
    "model_facts",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinxcontrib.autodoc_pydantic",
    "sphinx_copybutton",
    "sphinx-mathjax-offline",  # equations show without a network: MathJax lies beside the pages
]
exclude_patterns = ["_build", "examples", "**/generated"]

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks have their outputs with them; a test runs them

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
autodoc_pydantic_model_member_order = "bysource"
autodoc_pydantic_model_signature_prefix = "config"
autodoc_pydantic_field_list_validators = False
autodoc_pydantic_model_show_json = False
autodoc_pydantic_model_show_config_summary = False
autodoc_pydantic_model_show_field_summary = False
autodoc_pydantic_model_show_validator_members = False
autodoc_pydantic_model_show_validator_summary = False
autodoc_default_options = {"inherited-members": "BaseModel"}
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True

# make linkcheck: places of a service that runs at the reader's, and anchors that GitHub draws by script.
linkcheck_ignore = [r"https?://(127\.0\.0\.1|localhost)\b"]
linkcheck_anchors_ignore_for_url = [r"https://github\.com/"]
linkcheck_timeout = 20
linkcheck_retries = 2

html_theme = "furo"
html_title = f"coldray {release}"
html_static_path = ["static"]
html_css_files = ["tables.css"]
html_show_copyright = False


def _is_no_field(app: Any, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what a config computes from its fields: a file of settings cannot name it."""
    return True if what == "pydantic_model" and (isinstance(member, property) or callable(member)) else None


def _say_choices(app: Any, what: str, name: str, member: Any, options: Any, lines: list[str]) -> None:
    """Write below a field which words it takes; its signature has but the name of their type."""
    module, _, config = name.rpartition(".")[0].rpartition(".")
    if what == "pydantic_field":
        annotation = getattr(sys.modules[module], config).model_fields[name.rpartition(".")[2]].annotation
        words = [one for one in _words(annotation) if f"``{one}``" not in " ".join(lines)]
        lines += [f"One of {', '.join(f'``{one}``' for one in _words(annotation))}.", ""] if words else []


def _words(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(word) for word in get_args(annotation)]
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
    return [word for part in parts for word in _words(part)]


def setup(app: Any) -> None:
    """Have autodoc show of a config its fields alone, with their choices."""
    app.connect("autodoc-skip-member", _is_no_field)
    app.connect("autodoc-process-docstring", _say_choices)
