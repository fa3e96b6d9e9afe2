"""Where bundles were read once: models that earlier versions registered hold code that imports it from here."""

from coldray.bundle.io import Bundle, History, load_bundle

__all__ = ["Bundle", "History", "load_bundle"]
