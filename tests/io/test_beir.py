from leafkit.io.beir import data_folders


def test_a_folder_of_folders_stands_for_those_that_hold_data(tmp_path):
    for name in (
        "b/corpus.jsonl",
        "a/deep/test.jsonl.gz",
        "c/qrels/test.tsv",
        "README.md",
        "d/notes.txt",
        ".git/x.jsonl",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert data_folders(tmp_path) == [tmp_path / "a/deep", tmp_path / "b", tmp_path / "c", tmp_path / "d"]
    for itself in ("b", "c", "d", "none"):  # whatever is wrong with them, reading them says so
        assert data_folders(tmp_path / itself) == [tmp_path / itself]
