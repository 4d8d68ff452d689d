"""`textattn serve`: the same answers as the command line, over HTTP, for those who may ask."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeOnce, Runner
from inprocess import run as textattn_here
from serving import TEXT, TEXTS, Answer, Running, running

import textattn

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("uvicorn", reason="needs the extra serve")
TOKEN = "a-token-of-many-letters"


def close(found: Any, expected: Any) -> None:
    """The same JSON; numbers to 1e-5, because texts are computed together with others."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            close(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            close(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-5)
    else:
        assert found == expected


def printed(command: str, run: Path, *options: str) -> list[Any]:
    done = textattn_here(command, "--json", "--model", str(run), *options, *TEXTS)
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


# Answers


@pytest.mark.parametrize(
    ("options", "request_"),
    [([], {}), (["--top-k", "2"], {"top_k": 2}), (["--min-score", "0.9"], {"min_score": 0.9})],
)
def test_predictions_are_those_of_the_command_line(
    server: Running, trained_run: Path, options: list[str], request_: dict[str, Any]
) -> None:
    expected = printed("predict", trained_run, *options)
    many = server.ask("/predict", {"texts": TEXTS} | request_)
    assert many.status == 200 and many.json()["model"] == "reviews"
    close(many.json()["answers"], expected)
    for text, answer in zip(TEXTS, expected, strict=True):
        close(server.ask("/predict", {"text": text} | request_).json()["answers"], [answer])


@pytest.mark.parametrize(
    ("options", "request_"),
    [
        ([], {}),
        (["--method", "attention"], {"method": "attention"}),
        (["--target", "neg"], {"target": "neg"}),
    ],
)
def test_explanations_are_those_of_the_command_line(
    server: Running, trained_run: Path, options: list[str], request_: dict[str, Any]
) -> None:
    expected = printed("explain", trained_run, *options)
    found = server.ask("/explain", {"texts": TEXTS} | request_).json()["answers"]
    close(found, expected)
    assert all("verdict" in answer for answer in found)


def test_an_explanation_may_have_the_scores_of_all_labels(server: Running) -> None:
    (answer,) = server.ask("/explain", {"text": TEXT, "top_k": 9}).json()["answers"]
    assert sum(entry["score"] for entry in answer["scores"]) == pytest.approx(1)
    total = answer["sum"]
    assert total["bias"] + sum(answer["weights"]) == pytest.approx(total["answer"], abs=1e-4)


def test_vectors_are_those_of_the_model(server: Running, trained_run: Path) -> None:
    expected = textattn.load(trained_run).embed(TEXTS)
    found = server.ask("/embed", {"texts": TEXTS}).json()["answers"]
    assert [answer["text"] for answer in found] == TEXTS
    close([answer["vector"] for answer in found], expected.tolist())


def test_the_server_has_no_torch(server: Running) -> None:
    server.ask("/explain", {"text": TEXT})
    maps = Path(f"/proc/{server.process.pid}/maps")
    if not maps.exists():
        pytest.skip("the system does not say what a process has loaded")
    assert "onnxruntime" in maps.read_text()
    assert "libtorch" not in maps.read_text()


def test_requests_that_come_together_are_answered_each_with_its_own(server: Running, trained_run: Path) -> None:
    texts = [f"{TEXTS[i % len(TEXTS)]} {'very ' * (i % 7)}good {i}" for i in range(60)]
    expected = textattn.load(trained_run).predict_proba(texts).max(axis=1)
    found: dict[int, Any] = {}

    def ask(i: int) -> None:
        found[i] = server.ask("/predict", {"text": texts[i]}).json()["answers"][0]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, text in enumerate(texts):
        assert found[i]["text"] == text
        assert found[i]["score"] == pytest.approx(expected[i], abs=1e-5)


def test_numbers_and_models_of_several_columns(number_run: Path, two_columns: Path) -> None:
    with running("--model", f"price={number_run}", "--model", f"pairs={two_columns}") as server:
        names = {model["name"]: model for model in server.ask("/models").json()["models"]}
        assert isinstance(names["price"]["decimals"], int) and names["pairs"]["decimals"] is None
        for command, path in (("predict", "/predict"), ("explain", "/explain")):
            found = server.ask(path, {"texts": TEXTS, "model": "price"}).json()["answers"]
            close(found, printed(command, number_run))
            assert found[0]["low"] < found[0]["score"] < found[0]["high"]
        for key, value in (("top_k", 3), ("min_score", 0.5)):
            answer = server.ask("/predict", {"texts": TEXTS, "model": "price", key: value})
            assert answer.status == 422 and f"{key} is about labels" in answer.message
        assert names["pairs"]["text_columns"] == ["title", "body"]
        expected = textattn.load(two_columns).predict([["good", "food"]])[0].score
        for text in (["good", "food"], {"title": "good", "body": "food"}, "good\tfood"):
            answer = server.ask("/predict", {"text": text, "model": "pairs"})
            assert answer.json()["answers"][0]["score"] == pytest.approx(expected, abs=1e-5)
        answer = server.ask("/predict", {"text": "good food", "model": "pairs"})
        assert answer.status == 422 and "expected 2 segments" in answer.message
        assert json.loads(answer.json()["error"]["hint"]) == {"text": {"title": "…", "body": "…"}}


@pytest.fixture(scope="module")
def two_columns(make_once: MakeOnce) -> Path:
    """A run that reads two text columns."""

    def make(folder: Path) -> None:
        lines = [f"{'good' if i % 2 else 'bad'},food {i % 5},{'pos' if i % 2 else 'neg'}\n" for i in range(120)]
        (folder / "data.csv").write_text("title,body,label\n" + "".join(lines), encoding="utf-8")
        settings = ["data.text=[title, body]", "recipe=plain", "training.epochs=1", "model.hidden_size=8"]
        settings += ["model.embedding_dim=8", "output.audit_examples=0", "output.plots=false", "output.report=false"]
        textattn.train(folder / "data.csv", [*settings, f"output.dir={folder / 'run'}"])

    return make_once("served_columns", make) / "run"


# State


def test_state_and_metrics(server: Running, trained_run: Path) -> None:
    assert server.ask("/health").json()["status"] == "ok"
    (model,) = server.ask("/models").json()["models"]
    assert (model["name"], model["labels"], model["path"]) == ("reviews", ["neg", "pos"], str(trained_run))
    assert len(model["examples"]) >= 2 and model["fingerprint"] == textattn.load(trained_run).fingerprint()
    before = figures(server)
    server.ask("/predict", {"texts": TEXTS})
    server.ask("/predict", {"text": ""})
    after = figures(server)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown('textattn_requests_total{endpoint="/predict",status="200"}') == 1
    assert grown('textattn_requests_total{endpoint="/predict",status="422"}') == 1
    assert grown('textattn_request_seconds_count{endpoint="/predict"}') == 2
    assert grown('textattn_batch_texts_sum{kind="predict"}') == len(TEXTS)
    labels = [name for name in after if name.startswith("textattn_answers_total")]
    assert sum(map(grown, labels)) == len(TEXTS)
    assert after["textattn_waiting_texts"] == 0


def test_metrics_say_whether_the_last_texts_have_drifted(trained_run: Path) -> None:
    from textattn.inference.evaluation import read_labelled

    usual = list(read_labelled(textattn.load(trained_run), None, "validation", {}).rows) * 10
    with running("--model", f"reviews={trained_run}") as server:

        def answer(texts: list[str]) -> dict[str, float]:
            for first in range(0, len(texts), 100):
                assert server.ask("/predict", {"texts": texts[first : first + 100]}).status == 200
            return {name: value for name, value in figures(server).items() if name.startswith("textattn_drift")}

        assert answer(usual[:200]) == {}
        found = answer(usual[200:1000])
        assert found['textattn_drift{model="reviews"}'] == 0
        assert found['textattn_drift_effect{figure="lengths",model="reviews"}'] < 0.2
        # A window of its own: what came before does not dilute it.
        found = answer(["Lorem ipsum dolor sit amet"] * 1000)
        assert found['textattn_drift{model="reviews"}'] == 1
        assert found['textattn_drift_effect{figure="unknown",model="reviews"}'] > 0.8


def figures(server: Running) -> dict[str, float]:
    text = server.ask("/metrics").body.decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def test_openapi_has_an_example_for_each_request(server: Running) -> None:
    description = server.ask("/openapi.json").json()
    for path in ("/predict", "/explain", "/embed"):
        operation = description["paths"][path]["post"]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        for example in schema["examples"]:
            assert server.ask(path, example).status == 200
        assert {"200", "400", "413", "422", "503"} <= set(operation["responses"])
    assert set(description["paths"]) >= {"/health", "/models", "/metrics", "/reload", "/report/{model}"}


def test_the_report_is_kept_apart_from_the_server(server: Running) -> None:
    answer = server.ask("/report/reviews")
    assert answer.status == 200 and b"<!doctype html>" in answer.body
    assert answer.headers["content-security-policy"].startswith("sandbox allow-scripts;")
    assert "no model is called 'other'" in server.ask("/report/other").message


# Errors


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/predict", b"{", 400, "the body is not JSON"),
        ("/predict", b"", 400, "the body is not JSON"),
        ("/predict", b"\xff", 400, "the body is not JSON"),
        ("/predict", b'{"text": ' + b"[" * 100_000, 400, "the body is not JSON"),
        ("/predict", [], 422, "must be a JSON object"),
        ("/predict", {}, 422, "either text or texts, got neither"),
        ("/predict", {"text": "a", "texts": ["a"]}, 422, "either text or texts, got both"),
        ("/predict", {"text": None}, 422, "text must be a text"),
        ("/predict", {"text": 5}, 422, "text must be a text"),
        ("/predict", {"text": " \n"}, 422, "text is empty; expected a text"),
        ("/predict", {"text": ["a", "b"]}, 422, "text is a list of 2"),
        ("/predict", {"text": {"title": "a"}}, 422, "text has no key 'text'"),
        ("/predict", {"texts": []}, 422, "at least one text"),
        ("/predict", {"texts": "a"}, 422, "texts must be a list"),
        ("/predict", {"texts": ["a", ""]}, 422, "texts[1] is empty"),
        ("/predict", {"texts": ["a", {}]}, 422, "texts[1] has no key 'text'"),
        ("/predict", {"texts": ["a"] * 65}, 422, "65 texts, but a request has at most 64"),
        ("/predict", {"text": "a" * 100_001}, 422, "100,001 characters"),
        ("/predict", {"text": "a", "topk": 3}, 422, "unknown key 'topk'"),
        ("/predict", {"text": "a", "top_k": 0}, 422, "top_k: input should be greater than or equal to 1, got 0"),
        ("/predict", {"text": "a", "top_k": "3"}, 422, "top_k"),
        ("/predict", {"text": "a", "min_score": 2}, 422, "min_score"),
        ("/predict", {"text": "a", "model": "other"}, 404, "no model is called 'other'; the models are: reviews"),
        ("/predict", b'{"text": "a", "model": "\\ud800"}', 400, "the body is not JSON"),
        ("/explain", {"text": "a", "method": "lime"}, 422, "method: must be contributions or attention"),
        ("/explain", {"text": "a", "target": "good"}, 422, "unknown label 'good'; labels are: neg, pos"),
        ("/explain", {"text": "a", "target": "pos", "against": "pos"}, 422, "against itself"),
        ("/explain", {"text": "a", "target": "pos", "method": "attention"}, 422, "attention is the same"),
        ("/nothing", {"text": "a"}, 404, "no such path: /nothing"),
        ("/page/../server.py", None, 404, "no such"),
        ("/page/index.html", None, 404, "no such file"),
        ("/predict", None, 405, "GET /predict"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(server: Running, path: str, body: Any, status: int, message: str) -> None:
    answer = server.ask(path, body)
    assert (answer.status, message in answer.message) == (status, True), answer.body
    assert server.ask("/predict", {"text": TEXT}).status == 200


def test_an_error_of_one_request_does_not_fail_the_others_of_its_batch(server: Running) -> None:
    """The answer to one text is the label it is to be explained against."""
    found: dict[str, Answer] = {}

    def ask(text: str) -> None:
        found[text] = server.ask("/explain", {"text": text, "against": "neg"})

    texts = ["Delicious food, friendly staff.", "Awful, rude and dirty. Never again."] * 10
    threads = [threading.Thread(target=ask, args=(f"{text} {i}",)) for i, text in enumerate(texts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = {answer.status for answer in found.values()}
    assert statuses == {200, 422}
    refused = [answer for answer in found.values() if answer.status == 422]
    assert all("cannot be explained against 'neg'" in answer.message for answer in refused)


# Access


def test_names_that_only_point_here_are_refused(server: Running) -> None:
    """DNS rebinding: a page has made its own name point to this machine."""
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "[", ""):
        assert server.ask("/predict", {"text": TEXT}, headers={"Host": host}).status == 403, host
    for host in ("localhost:9", "127.0.0.1", "[::1]:8000", "LOCALHOST"):
        assert server.ask("/predict", {"text": TEXT}, headers={"Host": host}).status == 200, host


def test_pages_of_other_hosts_may_not_ask(server: Running) -> None:
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        for path in ("/predict", "/reload"):
            answer = server.ask(path, {"text": TEXT}, headers={"Origin": origin})
            assert answer.status == 403 and "--cors" in answer.json()["error"]["hint"]
            assert "access-control-allow-origin" not in answer.headers
    assert server.ask("/predict", {"text": TEXT}, headers={"Origin": server.url}).status == 200


def test_token_and_cors(trained_run: Path) -> None:
    arguments = ("--host", "0.0.0.0", "--cors", "https://good.example")
    with running("--model", trained_run, *arguments, env={"TEXTATTN_TOKEN": TOKEN}) as server:
        right = {"Authorization": f"Bearer {TOKEN}"}
        for headers in (
            {},
            {"Authorization": TOKEN},
            {"Authorization": f"Bearer {TOKEN}x"},
            {"Authorization": "Bearer é"},
        ):
            for path in ("/models", "/metrics", "/openapi.json", "/report/reviews", "/nothing"):
                answer = server.ask(path, headers={k: v.encode("utf-8").decode("latin-1") for k, v in headers.items()})
                assert answer.status == 401 and "token" in answer.message, path
                assert answer.headers["www-authenticate"] == "Bearer"
        assert server.ask("/health").status == server.ask("/").status == 200
        assert server.ask("/predict", {"text": TEXT}, headers=right).status == 200
        # Names of other machines are right here.
        assert server.ask("/models", headers=right | {"Host": "models.example"}).status == 200
        page = {"Origin": "https://good.example"}
        answer = server.ask("/predict", {"text": TEXT}, headers=right | page)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "https://good.example")
        leave = page | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        assert server.ask("/predict", method="OPTIONS", headers=leave).status == 200
        assert server.ask("/predict", {"text": TEXT}, headers=right | {"Origin": "https://evil.example"}).status == 403


@pytest.mark.parametrize(
    ("arguments", "token", "message", "hint"),
    [
        (["--host", "0.0.0.0"], None, "TEXTATTN_TOKEN must be set", "export TEXTATTN_TOKEN="),
        (["--host", "0.0.0.0"], "short", "at least 16", "export TEXTATTN_TOKEN="),
        (["--host", "no.such.host.invalid"], TOKEN, "cannot listen on no.such.host.invalid", "--port"),
        (["--cors", "example.org"], None, "must be an origin", "--cors https://example.org"),
        (["--runtime", "torch"], None, "--runtime: must be onnx or int8", ""),
    ],
)
def test_a_server_that_cannot_start_says_why(
    textattn: Runner, trained_run: Path, arguments: list[str], token: str | None, message: str, hint: str
) -> None:
    done = textattn("serve", "--model", trained_run, "--port", "0", *arguments, env={"TEXTATTN_TOKEN": token})
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and hint in done.stderr


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, trained_run: Path) -> None:
    monkeypatch.setattr("textattn.cli.serve.PACKAGES", ("no_such_package",))
    done = textattn_here("serve", "--model", str(trained_run), "--port", "0")
    assert done.code == 2
    assert "needs the package no-such-package" in done.err and "pip install 'textattn[serve]'" in done.err


def test_a_port_in_use_and_two_models_of_one_name(server: Running, textattn: Runner, trained_run: Path) -> None:
    done = textattn("serve", "--model", trained_run, "--port", str(server.port))
    assert done.returncode == 2 and f"--port {server.port + 1}" in done.stderr
    done = textattn("serve", "--model", trained_run, "--model", trained_run, "--port", "0")
    assert done.returncode == 2
    assert f"--model run-1={trained_run} --model run-2={trained_run}" in done.stderr


# Several models, reload, stop


def test_models_by_name(trained_run: Path, self_attention: Path) -> None:
    with running("--model", f"first={trained_run}", "--model", f"second={self_attention}") as server:
        assert [model["name"] for model in server.ask("/models").json()["models"]] == ["first", "second"]
        for name, run in (("first", trained_run), ("second", self_attention), (None, trained_run)):
            expected = textattn.load(run).predict(TEXT)[0].score
            answer = server.ask("/predict", {"text": TEXT} | ({} if name is None else {"model": name})).json()
            assert answer["model"] == (name or "first")
            assert answer["answers"][0]["score"] == pytest.approx(expected, abs=1e-5)


def replace_model(run: Path, other: Path) -> None:
    for name in ("config.json", "model.onnx", "tokenizer.json", "tokenizer_config.json", "checksums.json"):
        shutil.copy(other / name, run / f"{name}.new")
        (run / f"{name}.new").replace(run / name)


def test_a_changed_model_is_picked_up_without_a_lost_request(own_run: Path, self_attention: Path) -> None:
    old, new = (textattn.load(run).predict(TEXT)[0].score for run in (own_run, self_attention))
    assert abs(old - new) > 1e-4
    with running("--model", own_run) as server:
        stop, answers = threading.Event(), []

        def keep_asking() -> None:
            while not stop.is_set():
                answers.append(server.ask("/predict", {"text": TEXT}))

        threads = [threading.Thread(target=keep_asking) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert server.ask("/reload", b"").json() == {"models": ["reviews"], "changed": []}
        replace_model(own_run, self_attention)
        assert server.ask("/reload", b"").json() == {"models": ["reviews"], "changed": ["reviews"]}
        after = server.ask("/predict", {"text": TEXT}).json()["answers"][0]["score"]
        # One that is damaged is not taken.
        (own_run / "model.onnx").write_bytes(b"damaged")
        answer = server.ask("/reload", b"")
        assert answer.status == 409 and "model.onnx" in answer.message and "stay as they were" in answer.message
        server.process.send_signal(signal.SIGHUP)
        server.waits_for("not reloaded")
        replace_model(own_run, self_attention)
        server.process.send_signal(signal.SIGHUP)
        server.waits_for("Reloaded: no model has changed")
        stop.set()
        for thread in threads:
            thread.join()
        assert after == pytest.approx(new, abs=1e-5)
        assert {answer.status for answer in answers} == {200}
        found = {round(answer.json()["answers"][0]["score"], 3) for answer in answers}
        assert found == {round(old, 3), round(new, 3)}


def test_what_was_asked_is_answered_before_the_server_stops(trained_run: Path) -> None:
    with running("--model", trained_run, "--max-texts", "10000", "--max-body", "64") as server:
        words = " ".join(TEXTS)
        slow = {"texts": [f"{words} {i} {words}" for i in range(6000)]}
        found: list[Answer] = []
        thread = threading.Thread(target=lambda: found.append(server.ask("/predict", slow)))
        thread.start()
        deadline = time.monotonic() + 20
        while figures(server)["textattn_waiting_texts"] == 0:
            assert time.monotonic() < deadline and thread.is_alive()
        assert server.stop() == 0
        thread.join()
        assert found[0].status == 200 and len(found[0].json()["answers"]) == 6000
        assert "Stopped" in "".join(server.lines)
        with pytest.raises(OSError, match="refused"):
            server.ask("/health")


def test_an_answer_that_takes_too_long_is_given_up(trained_run: Path) -> None:
    with running("--model", trained_run, "--timeout", "0.1", "--max-texts", "10000", "--max-body", "64") as server:
        words = " ".join(TEXTS) * 4
        answer = server.ask("/explain", {"texts": [f"{i} {words}" for i in range(6000)]})
        assert answer.status == 504 and "no answer within 0.1 seconds" in answer.message
        assert "--timeout" in answer.json()["error"]["hint"]
        assert server.ask("/predict", {"text": TEXT}).status == 200
