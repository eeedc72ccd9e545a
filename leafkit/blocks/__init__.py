"""Immutable vector blocks under a manifest: the one on-disk format of stores and indexes."""

from leafkit.blocks.blocks import LOCK, Block, Blocks, writer_lock
from leafkit.blocks.manifest import BlockEntry, FileEntry, Manifest

__all__ = ["LOCK", "Block", "BlockEntry", "Blocks", "FileEntry", "Manifest", "writer_lock"]
