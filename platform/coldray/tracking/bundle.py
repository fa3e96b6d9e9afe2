"""Where bundles were read once: models that earlier versions registered hold code that imports it from here."""

from coldray.bundle.io import load_bundle
from coldray.bundle.model import Bundle, History

__all__ = ["Bundle", "History", "load_bundle"]
