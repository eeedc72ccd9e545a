"""Models in the forms that other tools load."""

from leafkit.export.router import export_router

__all__ = ["export_router"]
