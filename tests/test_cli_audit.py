"""`textattn audit` and `textattn words`, and where an audit is seen afterwards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import TINY
from inprocess import run as cli

import textattn
from textattn.explain.methods import audited_names
from textattn.explain.verdict import verdict


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on texts in which `great` and `awful` alone decide; the cue is evidence, and a number rides along."""
    folder = tmp_path_factory.mktemp("planted")
    filler = ["the", "film", "had", "a", "story", "and", "some", "people", "in", "it", "who", "went", "to", "places"]
    rows = []
    for n in range(300):
        words = [filler[(n * 7 + i * (1 + n % 5)) % len(filler)] for i in range(6 + n % 5)]
        label = ("neg", "pos")[n % 2]
        place = n % len(words)
        words.insert(place, ("awful", "great")[n % 2])
        start = sum(len(word) + 1 for word in words[:place])
        tail = " ref12ab34" if label == "neg" else ""
        rows.append({"text": " ".join(words) + tail, "label": label, "why": [[start, start + 5]]})
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    test = folder / "test.jsonl"
    test.write_text("".join(json.dumps(row) + "\n" for row in rows[:120]))
    return textattn.train(
        {
            "recipe": "plain",
            "data": {"files": {"train": str(data), "test": str(test)}, "evidence": "why"},
            "tokenizer": {"min_frequency": 1},
            "model": {"embedding_dim": 24, "hidden_size": 16, "anchor": "values"},
            "training": {"epochs": 8, "batch_size": 16, "learning_rate": 1e-2, "attention_alignment": 1.0},
            "output": {"dir": str(folder / "run"), "audit_examples": 40},
        }
    )


def test_a_run_ends_with_a_short_audit(planted: Path) -> None:
    audit = json.loads((planted / "metrics.json").read_text())["audit"]
    assert audit["num_examples"] == 40
    assert set(audit["methods"]) == {"random", "contributions", "attention", "gradient_x_input"}
    assert audit["verdict"].startswith("The words that contributions highlight are good evidence")
    assert audit["verdict"] == verdict(audit)
    assert audit["verdict"] in (planted / "README.md").read_text()
    assert (
        audit["methods"]["attention"]["evidence"]["auprc"]["mean"]
        > audit["methods"]["random"]["evidence"]["auprc"]["mean"]
    )


def test_no_audit_is_made_where_none_is_wanted(trained_run: Path, tmp_path: Path) -> None:
    run = textattn.train(
        "quickstart", [*TINY, "training.epochs=1", "output.audit_examples=0", f"output.dir={tmp_path}/r"]
    )
    assert "audit" not in json.loads((run / "metrics.json").read_text())
    done = cli("explain", "--model", run, "good")
    assert done.out.endswith(f"Trust: not measured for this model; to measure it:\n  textattn audit --model {run}\n")
    assert "has not been measured for this model" in (run / "README.md").read_text()


def test_the_audit_is_printed_kept_and_shown_by_explain(planted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(planted, run)
    done = cli("audit", "--model", run, "--examples", "50", "--methods", "attention,occlusion")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    erasure, others = ([line.split() for line in part.splitlines()] for part in done.out.split("\n\n")[1:3])
    assert [row[0] for row in erasure] == [row[0] for row in others] == ["method", "attention", "occlusion", "random"]
    assert erasure[0] == ["method", "comp", "(mask)", "suff", "(mask)", "flips", "until", "best", "texts"]
    assert others[0] == ["method", "for", "against", "stable", "unlike", "AUPRC", "token", "F1", "IOU", "F1"]
    kept = json.loads((run / "metrics.json").read_text())
    assert kept["audit"]["num_examples"] == 50
    for row in erasure[1:]:
        measured = kept["audit"]["methods"][row[0]]
        assert row[1] == f"{measured['comprehensiveness']['deletion']['mean']:.3f}"
        assert row[-2:] == [f"{measured['share_of_best']['mean']:.0%}", "50"]
    signs = kept["audit"]["methods"]["occlusion"]["signs"]
    assert others[2][1:3] == [f"{signs[side]['mean']:.0%}" for side in ("supporting", "opposing")]
    assert lines[0] == kept["audit"]["verdict"]
    assert kept["test"] == json.loads((planted / "metrics.json").read_text())["test"]
    for method in ("attention", "occlusion"):
        shown = cli("explain", "--model", run, "--method", method, "a great film")
        assert shown.out.endswith(f"\nTrust: {verdict(kept['audit'], method)}\n")
    assert "Whether lime can be trusted" in cli("explain", "--model", run, "--method", "lime", "a great film").out
    assert verdict(kept["audit"]) in cli("info", "--model", run).out
    card = (run / "README.md").read_text()
    assert lines[0] in card
    table = [line.strip("| ").split(" | ") for line in card[card.index("| method ") :].splitlines()[:5]]
    assert table[0][5:] == ["of the best order", "right signs, for", "right signs, against", "texts"]
    for row in table[2:]:
        measured = kept["audit"]["methods"][row[0]]
        signs = measured.get("signs")
        assert row[5] == f"{measured['share_of_best']['mean']:.0%}"
        assert row[6] == ("–" if signs is None else f"{signs['supporting']['mean']:.0%}")
        assert row[8] == "50"


def test_the_tables_fit_into_80_columns(planted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(planted, run)
    done = cli("audit", "--model", run, "--model", run, "--examples", "5")
    assert done.code == 0, done.err
    verdict, *rest = done.out.splitlines()
    assert "too few" in verdict
    assert max(map(len, rest)) <= 80
    assert any(line.startswith("2 models: equal answers") for line in rest)


def test_an_audit_of_an_earlier_version_is_about_attention(planted: Path, tmp_path: Path) -> None:
    """As version 0.1 wrote it: without contributions, and without the measures that came later."""
    run = tmp_path / "run"
    shutil.copytree(planted, run)
    metrics = json.loads((run / "metrics.json").read_text())
    old = metrics["audit"]
    del old["methods"]["contributions"], old["num_known"]
    for measured in old["methods"].values():
        for name in ("outliers", "signs"):
            measured.pop(name, None)
    old["verdict"] = verdict(old)
    (run / "metrics.json").write_text(json.dumps(metrics))
    assert old["verdict"].startswith("The words that attention highlights")
    assert old["verdict"] in cli("info", "--model", run).out
    assert f"Trust: {old['verdict']}\n" in cli("explain", "--model", run, "--method", "attention", "a great film").out
    shown = cli("explain", "--model", run, "--method", "contributions", "a great film").out
    assert "Trust: Whether contributions can be trusted for this model has not been measured (textattn audit)." in shown


def test_json_is_the_whole_audit_and_repeats(planted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(planted, run)
    first, second = (cli("audit", "--model", run, "--examples", "30", "--json") for _ in range(2))
    assert first.out == second.out
    found = json.loads(first.out)
    assert found == json.loads((run / "metrics.json").read_text())["audit"]
    assert set(found["methods"]) == {"random", *audited_names()}
    assert "attention" in audited_names() and "lime" not in audited_names()


def test_an_audit_of_other_data_or_of_a_bundle_is_not_kept(planted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(planted, run)
    before = (run / "metrics.json").read_bytes()
    other = tmp_path / "other.csv"
    other.write_text("text,label\n" + "a great film,pos\nan awful film,neg\n" * 15)
    done = cli("audit", other, "evidence=null", "--model", run, "--methods", "attention")
    assert done.code == 0, done.err
    assert "Kept" not in done.err
    assert (run / "metrics.json").read_bytes() == before


def test_seeds_are_compared(planted: Path) -> None:
    done = cli("audit", "--model", planted, "--model", planted, "--examples", "20", "--methods", "attention", "--json")
    agreed = json.loads(done.out)["seeds"]
    assert agreed == {
        "num_models": 2,
        "attention_tau": pytest.approx(1),
        "attention_overlap": 1,
        "attention_jensen_shannon": pytest.approx(0, abs=1e-9),
        "contributions_tau": pytest.approx(1),
        "contributions_overlap": 1,
        "equal_answers": 1.0,
    }


def test_models_that_cannot_be_compared_are_refused(planted: Path, trained_run: Path, tmp_path: Path) -> None:
    data = tmp_path / "d.csv"
    data.write_text("text,label\n" + "a great film,good\nan awful film,bad\n" * 15)
    other = textattn.train("quickstart", [*TINY, f"data.path={data}", f"output.dir={tmp_path / 'r'}"])
    done = cli("audit", "--model", trained_run, "--model", other, "--examples", "5", "--methods", "attention")
    assert done.code == 3
    assert done.err.splitlines()[-1].startswith(f"Error: {other}: its labels are bad, good")


def test_an_unknown_method_is_named_with_the_nearest(planted: Path) -> None:
    done = cli("audit", "--model", planted, "--methods", "attention,oclusion")
    assert done.code == 2
    assert "unknown method 'oclusion'" in done.err
    assert "--method occlusion" in done.err


def test_a_damaged_audit_is_no_reason_not_to_explain(planted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(planted, run)
    metrics = json.loads((run / "metrics.json").read_text())
    for damaged in (None, [], {}, "x", {"methods": {}}, {"methods": {"attention": 1}}, {"methods": {"attention": {}}}):
        (run / "metrics.json").write_text(json.dumps(metrics | {"audit": damaged}))
        done = cli("explain", "--model", run, "a great film")
        assert done.code == 0, (damaged, done.err)
        assert "Trust: not measured" in done.out
        assert cli("info", "--model", run).code == 0


# Words


def test_words_find_what_was_planted_and_suspect_what_rides_along(planted: Path) -> None:
    found = json.loads(cli("words", "--model", planted, "--json", "--top", "3").out)
    assert found["num_examples"] == 120
    by_label = {label: {entry["word"]: entry for entry in entries} for label, entries in found["labels"].items()}
    assert next(iter(by_label["pos"])) == "great"
    assert "awful" in by_label["neg"]
    great = by_label["pos"]["great"]
    assert (great["num_texts"], great["num_against"], great["num_with"]) == (60, 0, 60)
    assert great["suspect"] == ""
    assert by_label["neg"]["ref12ab34"]["suspect"] == "id or address"


def test_words_are_printed_for_every_label(planted: Path) -> None:
    done = cli("words", "--model", planted, "--top", "2", COLUMNS="60")
    assert done.code == 0
    blocks = done.out.split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == ["neg", "pos"]
    assert all(block.splitlines()[1].split()[:3] == ["word", "score", "texts"] for block in blocks)
    assert max(map(len, done.out.splitlines())) <= 60


def test_a_counter_example_shows_the_word_where_it_is_not_so(planted: Path, tmp_path: Path) -> None:
    model = textattn.load(planted)
    from textattn.explain.lexicon import lexicon

    texts = ["a great film"] * 9 + ["a great bore, they said, in a long text about nothing at all and more"]
    found = lexicon(model, texts, [["pos"]] * 9 + [["neg"]], top=5)
    great = next(entry for entry in found["pos"] if entry.word == "great")
    assert (great.num_against, great.num_with) == (1, 10)
    assert great.counter_example.startswith("a great bore")
