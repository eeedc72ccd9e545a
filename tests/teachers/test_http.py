"""A model behind an address: a real server in the test's own process, well-behaved and not."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import xxhash

from leafkit.errors import ModelError, TeacherError
from leafkit.space import Prompts
from leafkit.store import EmbeddingStore, Row, embed_texts
from leafkit.teachers import Teacher, http, open_endpoint

pytest.importorskip("openai", reason="openai is not installed (extra: http)")


def vector(text, seed=0, dim=8):
    return np.random.default_rng(xxhash.xxh32_intdigest(text.encode(), seed)).normal(size=dim)


class Server(ThreadingHTTPServer):
    """Answers as the model's name says; ``seed`` is its checkpoint."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.seed = [], 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model, texts = body["model"], body["input"]
        self.server.asked.append(body)
        if self.path != "/v1/embeddings" or model == "unknown":
            return self.answer(404, {"error": {"message": f"The model `{model}` does not exist"}})
        if model == "key" and self.headers["Authorization"] != "Bearer good":
            return self.answer(401, {"error": {"message": "Incorrect API key provided"}})
        if model == "busy" and len(self.server.asked) < 3:
            return self.answer(429, {"error": {"message": "slow down"}}, {"Retry-After": "0.01"})
        if model == "limit" and max(map(len, texts)) > 50:
            return self.answer(400, {"error": {"message": "maximum context length is 50"}})
        if model in ("413", "422") and len(texts) > 3:
            return self.answer(int(model), {"error": "batch size > maximum allowed batch size 3"})
        if model == "page":
            return self.answer(200, "<html>welcome</html>")
        rows = [
            {"object": "embedding", "index": place, "embedding": (3 * vector(text, self.server.seed)).tolist()}
            for place, text in enumerate(texts)
        ]
        if model == "shuffled":
            rows.reverse()
        if model == "short":
            del rows[1:]
        if model == "misnumbered":
            rows[-1]["index"] = 7
        if model == "empty":
            rows = [row | {"embedding": []} for row in rows]
        if model == "ragged" and len(rows) > 1:
            del rows[1]["embedding"][3:]
        if model == "nan-later" and len(rows) > 1:
            rows[-1]["embedding"][0] = None
        return self.answer(200, {"object": "list", "model": model, "data": rows, "usage": {}})

    def answer(self, status, body, headers=None):
        raw = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        kind = "text/html" if isinstance(body, str) else "application/json"
        for name, value in {"Content-Type": kind, "Content-Length": str(len(raw)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv(http.KEY, raising=False)
    monkeypatch.setattr(http, "RETRIES", 2)
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_vectors_of_unit_length_in_the_order_of_the_texts(server):
    for model in ("plain", "shuffled"):
        teacher = open_endpoint(f"{server.url}/#{model}", prompts=Prompts(query="find: "))
        assert isinstance(teacher, Teacher)
        assert (teacher.space.dim, teacher.space.max_tokens, teacher.space.origin) == (8, None, "http")
        got = teacher.encode(["a", "b", "c"], "query")
        expected = np.stack([vector(f"find: {text}") for text in "abc"])
        np.testing.assert_allclose(got, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)
        assert got.dtype == np.float32
        assert teacher.encode([], "document").shape == (0, 8)
    assert server.asked[-1]["input"] == ["find: a", "find: b", "find: c"]


def test_models_and_addresses_do_not_share_a_fingerprint(server):
    one, other = (open_endpoint(f"{server.url}#{model}") for model in ("one", "other"))
    assert one.fingerprint != other.fingerprint
    assert one.fingerprint == open_endpoint(f"{server.url}/#one").fingerprint


def test_a_busy_server_is_asked_again(server):
    assert open_endpoint(f"{server.url}#busy").space.dim == 8
    assert len(server.asked) == 3


def test_the_key_comes_from_the_environment(server, monkeypatch):
    with pytest.raises(TeacherError, match=r"key at .*Incorrect API key.*OPENAI_API_KEY"):
        open_endpoint(f"{server.url}#key")
    monkeypatch.setenv(http.KEY, "good")
    assert open_endpoint(f"{server.url}#key").space.dim == 8


def test_a_text_that_is_not_taken_is_named_and_the_others_are_asked_for_alone(server):
    teacher = open_endpoint(f"{server.url}#limit")
    assert teacher.encode(["a"] * 7, "document").shape == (7, 8)
    with pytest.raises(TeacherError, match=r"does not take the text 'long long.* \(100 characters\).*length is 50"):
        teacher.encode(["a", "b", "long " * 20, "c"], "document")


@pytest.mark.parametrize("model", ["413", "422"])
def test_batches_that_are_too_large_are_halved(server, model):
    teacher = open_endpoint(f"{server.url}#{model}")
    expected = open_endpoint(f"{server.url}#plain").encode([*"abcdefghijk"], "document")
    np.testing.assert_array_equal(teacher.encode([*"abcdefghijk"], "document"), expected)


def test_keys_do_not_go_into_addresses_which_reports_show(server):
    host = server.url.removeprefix("http://")
    for address in (f"http://user:secret@{host}#m", f"http://{host}?api_key=secret#m", "http://[::1#m", "http://#m"):
        with pytest.raises(ModelError) as caught:
            open_endpoint(address)
        assert "secret" not in str(caught.value)
    assert server.asked == []


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("unknown", r"does not exist.*Check the address"),
        ("short", r"shape \(1, 8\) for 2 texts"),
        ("ragged", "no list of vectors"),
        ("misnumbered", r"for the texts \[7\], expected each of 1 once"),
        ("empty", r"shape \(1, 0\) for 1 texts"),
        ("page", "no list of vectors"),
    ],
)
def test_answers_that_are_no_vectors(server, model, words):
    with pytest.raises(TeacherError, match=words):
        open_endpoint(f"{server.url}#{model}").encode(["a", "b"], "document")


def test_nobody_there_and_no_name(server, monkeypatch):
    server.shutdown()
    server.server_close()
    monkeypatch.setattr(http, "RETRIES", 0)
    with pytest.raises(TeacherError, match="that the server runs"):
        open_endpoint(f"{server.url}#any")
    with pytest.raises(ModelError, match="names no model"):
        open_endpoint(server.url)


def test_another_model_behind_the_same_address_gets_none_of_the_vectors_stored_before(server, tmp_path):
    rows = [Row(text, "document", text) for text in "abc"]
    teacher = open_endpoint(f"{server.url}#plain")
    store = EmbeddingStore.open_or_create(tmp_path / "store", teacher.space, made_by=teacher.fingerprint)
    assert embed_texts(teacher, rows, store).embedded == 3
    assert embed_texts(teacher, [*rows, Row("d", "document", "d")], store).known == 3
    server.seed = 1
    for texts in (rows, [Row("e", "document", "e")]):  # whether any text is known or none
        with pytest.raises(TeacherError, match="its model has changed"):
            embed_texts(open_endpoint(f"{server.url}#plain"), texts, store)
    assert len(EmbeddingStore.open(tmp_path / "store")) == 5  # and the word that tells


def test_a_number_that_is_null_is_named_with_its_text(server, tmp_path):
    teacher = open_endpoint(f"{server.url}#nan-later")
    store = EmbeddingStore.create(tmp_path / "store", teacher.space)
    with pytest.raises(TeacherError, match=r"row 1 .*'b'.*holds NaN"):
        embed_texts(teacher, [Row(text, "document", text) for text in "ab"], store)
    assert len(store) == 1  # the word that tells another model
