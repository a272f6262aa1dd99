"""From atomic files to one split for every model, and the items' text."""
