import json

import pytest

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (extra: train)")

from huggingface_hub import ModelCard

from leafkit.errors import InputError
from leafkit_eval import load_collection, write_report
from leafkit_eval.report import markdown_table, write_card
from leafkit_eval.retrieval import judge_retrieval


@pytest.fixture
def report(small, encoder, tmp_path):
    out = tmp_path / "report"
    student = encoder("s", blur=2.0)
    result = judge_retrieval(
        [load_collection(small)], teacher=encoder("t"), student=student, student_name="us/leaf", out=out
    )
    write_report(result, out)
    return out


def mteb_scores(folder, revision):
    folder.mkdir(exist_ok=True)
    task = {
        "name": "STS12",
        "type": "STS",
        "metric": "cosine_spearman",
        "split": "test",
        "score": 0.71,
        "failure": None,
    }
    failed = task | {"name": "STS13", "score": None, "failure": "offline"}
    summary = {
        "format": "leafkit.mteb", "revision": revision, "tasks": [task, failed],
        "means": {"STS": {"tasks": 1, "score": 0.71}},
    }  # fmt: skip
    (folder / "mteb.json").write_text(json.dumps(summary))
    return folder


def test_the_hub_reads_the_cards_metadata(report, tmp_path):
    mteb = mteb_scores(tmp_path / "mteb", "encoder-s")
    card = ModelCard.load(write_card(report, tmp_path / "README.md", mteb=mteb))
    results = json.loads((report / "report.json").read_bytes())["results"]
    symmetric = next(row["ndcg_at_10"] for row in results if row["mode"] == "symmetric")
    asymmetric = next(row["ndcg_at_10"] for row in results if row["mode"] == "asymmetric")
    found = {
        (result.dataset_name, result.dataset_split, result.metric_type, result.metric_name): result.metric_value
        for result in card.data.eval_results
    }
    assert found == {
        ("small", "test", "ndcg_at_10", "nDCG@10"): round(symmetric, 5),
        ("small", "test", "ndcg_at_10", "nDCG@10, documents by the teacher"): round(asymmetric, 5),
        ("STS12", "test", "cosine_spearman", None): 0.71,
    }
    assert (card.data.library_name, card.data.model_name) == ("sentence-transformers", "us/leaf")
    assert 'SentenceTransformer("us/leaf")' in card.text
    named = ModelCard.load(write_card(report, tmp_path / "README.md", name="them/other"))
    assert named.data.model_name == "them/other"
    assert "| STS13 | STS | cosine_spearman | – |" in card.text
    assert markdown_table(json.loads((report / "report.json").read_bytes())) in card.text + "\n"


def test_the_table_has_a_line_a_collection(report):
    lines = (report / "report.md").read_text().splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| small | ")
    assert "%" in lines[2]


def test_scores_of_another_leaf_are_refused(report, tmp_path):
    with pytest.raises(InputError, match="holds scores of encoder-x, the report is of encoder-s"):
        write_card(report, tmp_path / "README.md", mteb=mteb_scores(tmp_path / "mteb", "encoder-x"))
    with pytest.raises(InputError, match="is no report"):
        write_card(tmp_path / "nowhere", tmp_path / "README.md")
    assert not (tmp_path / "README.md").exists()
