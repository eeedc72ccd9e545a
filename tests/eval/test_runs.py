from leafkit_eval.metrics import measure
from leafkit_eval.runs import RunFolder

RUN = {"q": {"a": 2.0, "b": 1.0}}


def report(folder, *stems):
    runs = RunFolder(folder)
    for stem in stems:
        runs.save(stem, RUN, measure({"q": {"a": 1}}, RUN))
        runs.save_packed(f"{stem}.64", RUN)
    runs.forget_others()


def names(folder):
    return {path.name for path in folder.iterdir()} - {"written.txt"}


def test_a_report_takes_away_what_the_one_before_wrote_and_nothing_else(tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    (folder / "mine.trec").write_text("a user's own")
    report(folder, "one", "two")
    written = {f"{stem}{end}" for stem in ("one", "two") for end in (".trec", ".tsv", ".64.trec.gz")}
    assert names(folder) == {"mine.trec", *written}
    report(folder, "two")
    assert names(folder) == {"mine.trec", *(name for name in written if name.startswith("two"))}
    (folder / "written.txt").write_text("../escaped\ntwo.trec\n")
    (tmp_path / "escaped").touch()
    report(folder, "one")
    assert (tmp_path / "escaped").exists()
