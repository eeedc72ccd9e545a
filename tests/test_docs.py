"""What the documents say of files, commands and formats is so."""

import re
from pathlib import Path

import numpy as np
import pytest

from leafkit.space import EmbeddingSpace, TeacherId
from leafkit.store import EmbeddingStore, Row

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_to_a_file_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert broken == []


def test_files_and_folders_that_architecture_names_exist():
    words = re.findall(r"`([\w./-]+)`", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    paths = [word for word in words if word.startswith(("leafkit/", "csrc/", "eval/"))]
    assert len(paths) > 8
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_command_and_option_in_the_readme_is_the_command_lines_own():
    typer = pytest.importorskip("typer", reason="typer is not installed (extra: train)")
    from leafkit.cli.main import app

    def options(command):
        return {name for parameter in command.params for name in parameter.opts}

    tree = typer.main.get_command(app)
    blocks = re.findall(r"```\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for line in "".join(blocks).splitlines() if line.startswith("leafkit ")]
    shown = set()
    for line in lines:
        words, command = line.split()[1:], tree
        while hasattr(command, "commands") and words and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        shown.add(command.name)
        assert not hasattr(command, "commands"), line
        assert {word for word in words if word.startswith("-")} <= options(command), line
    assert {"embed", "distill", "create", "search", "retrieval"} <= shown


def test_the_plain_reader_of_the_format_page_reads_a_store(tmp_path):
    page = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    names = {}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], names)
    vectors = np.eye(4, dtype=np.float32)
    store = EmbeddingStore.create(tmp_path / "store", EmbeddingSpace(TeacherId("t", "1"), 4, normalized=True))
    store.add([Row("a", "query", "1"), Row("b", "document", "2")], vectors[:2])
    store.add([Row("c", "document", "3")], vectors[2:3])
    read = list(names["read"](tmp_path / "store"))
    assert [row["text"] for row, _ in read] == ["a", "b", "c"]
    np.testing.assert_array_equal([vector for _, vector in read], vectors[:3])
    file = next((tmp_path / "store" / "blocks").glob("*/vectors.npy"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="expected"):
        list(names["read"](tmp_path / "store"))


def test_the_manifest_has_the_fields_of_the_format_page(tmp_path):
    import json

    page = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    EmbeddingStore.create(tmp_path / "store", EmbeddingSpace(TeacherId("t", "1"), 4, normalized=True))
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_bytes())
    for field in (*manifest, *manifest["space"], *manifest["user"]):
        assert f"`{field}`" in page
