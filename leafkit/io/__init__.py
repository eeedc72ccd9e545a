"""Files at the edge: atomic writes, and readers of what users bring."""
