"""``python -m leafkit``: what launchers of many processes start."""

from leafkit.cli import entry

if __name__ == "__main__":
    entry()
