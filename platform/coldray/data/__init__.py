"""Raw files → :class:`~coldray.data.dataset.Dataset` → :class:`~coldray.data.splits.items.Split`."""
