"""The endpoints, with a recommender whose every answer is known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")

from fake_recommender import ITEMS, FakeRecommender, expected  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

from recbole_lcrec.serving.app import make_app  # noqa: E402
from recbole_lcrec.serving.service import Service  # noqa: E402
from recbole_lcrec.serving.settings import LONGEST_HISTORY, read_settings  # noqa: E402

BASE = "http://127.0.0.1:8000"


def client_of(runs: dict[str, FakeRecommender], **options: Any) -> TestClient:
    app = make_app(Service(runs, read_settings({"serve_wait_ms": 0.0, **options})))  # type: ignore[arg-type]
    return TestClient(app, base_url=BASE, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with client_of({"first": FakeRecommender(), "second": FakeRecommender()}, serve_body_kb=16) as made:
        yield made


def listed(history: list[str], k: int) -> list[dict[str, Any]]:
    return [{"item": one.item, "title": one.title, "score": one.score} for one in expected(history, k)]


def test_recommends_for_every_history(client: TestClient) -> None:
    histories = [["i1", "i2"], ["i7"]]
    answer = client.post("/recommend", json={"histories": histories, "k": 3})
    assert answer.status_code == 200
    assert answer.json() == {"recommendations": [listed(history, 3) for history in histories]}
    skipping = client.post("/recommend", json={"histories": [["i1", "x"], []], "k": 3, "unknown": "skip"}).json()
    assert skipping == {"recommendations": [listed(["i1"], 3), listed([], 3)], "skipped": 1}
    with_paths = client.post("/recommend", json={"histories": [["i1"]], "k": 1, "paths": True, "run": "second"}).json()
    assert with_paths["recommendations"][0][0]["path"] == ["<a_1>", "<b_1>"]


def test_recommends_to_users_of_the_data_set() -> None:
    with client_of({"bpr": FakeRecommender(reads_histories=False), "sasrec": FakeRecommender()}) as client:
        for run in ("bpr", "sasrec"):
            answer = client.post("/recommend", json={"users": ["u1", "u1"], "k": 3, "run": run})
            assert (answer.status_code, answer.json()) == (200, {"recommendations": [listed(["i3", "i4"], 3)] * 2})
        refused = client.post("/recommend", json={"histories": [["i1"]]})
        assert refused.status_code == 422 and "no use for histories" in refused.json()["detail"]
        assert client.post("/recommend", json={"histories": [[]], "k": 2}).status_code == 200  # what is popular
        assert [run["histories"] for run in client.get("/health").json()["runs"]] == [False, True]


def test_the_other_endpoints_answer(client: TestClient) -> None:
    found = client.post("/search", json={"query": "a red saw", "k": 2, "history": ["i3"]}).json()
    assert [one["item"] for one in found["items"]] == ["i0", "i1"]
    assert client.post("/similar", json={"item": "i5", "k": 4}).json() == {"items": listed(["i5"], 4)}
    why = client.post("/explain", json={"history": ["i1"], "item": "i2"}).json()
    assert (why["item"], why["score"], why["influences"][0]["change"]) == ("i2", 0.25, -0.5)
    (step,) = why["steps"]
    assert step["meaning"]["words"] == ["red", "saw"] and step["alternative_log_prob"] is None  # was -inf
    assert client.get("/items", params={"q": "i3", "limit": 2}).json()["items"][1]["item"] == "i30"
    assert [one["item"] for one in client.get("/users/u1").json()["history"]] == ["i3", "i4"]
    health = client.get("/health").json()
    assert [run["name"] for run in health["runs"]] == ["first", "second"]
    assert health["settings"]["longest_history"] == LONGEST_HISTORY  # the page cuts a user's history to it


WRONG: list[tuple[str, Any, str]] = [
    ("/recommend", {"histories": [["i1"]], "k": "5"}, "recommend: k must be a whole number of at least 1, found '5'."),
    (
        "/recommend",
        {"histories": [["i1"]], "k": True},
        "recommend: k must be a whole number of at least 1, found True.",
    ),
    (
        "/recommend",
        {"histories": [["i1"]], "k": 101},
        "recommend: k must be at most 100 (option serve_k of the server)",
    ),
    ("/recommend", {"histories": ["i1"]}, "recommend: histories: expected lists of item tokens"),
    ("/recommend", {"histories": [["i1", None]]}, "found None (NoneType)"),
    ("/recommend", {"histories": [["i1"]] * 65}, "at most 64 in one request (option serve_histories of the server)"),
    ("/recommend", {"histories": [["i1"] * (LONGEST_HISTORY + 1)]}, "a history has 1,001 items; at most 1,000"),
    ("/recommend", {"histories": [["i1"], ["nothing"]]}, "1 item(s) of the histories are not known to the model"),
    (
        "/recommend",
        {"histories": [["i1"]], "unknown": "drop"},
        "recommend: unknown: expected error or skip, found 'drop'",
    ),
    (
        "/recommend",
        {"histories": [["i1"]], "run": "secnd"},
        "'secnd' is not served; expected first or second. Did you",
    ),
    ("/recommend", {"histories": [["i1"]], "run": ["first"]}, "['first'] is not served; expected first or second."),
    ("/recommend", {"histories": [["i1"]], "paths": "yes"}, "recommend: paths must be true or false, found 'yes'"),
    ("/recommend", {"history": [["i1"]]}, "unknown field 'history'. Did you mean 'histories'?"),
    ("/recommend", {}, "expected histories (of item tokens) or users (of the data set), found neither."),
    ("/recommend", {"histories": [["i1"]], "users": ["u1"]}, "found both."),
    ("/recommend", {"users": ["u1", "u2"]}, "user 'u2' is not in the data set"),
    ("/recommend", {"users": "u1"}, "recommend: users: expected a non-empty list of user tokens"),
    ("/recommend", {"users": ["u1"] * 65}, "at most 64 in one request (option serve_histories of the server)"),
    ("/recommend", {"users": ["u1"], "unknown": "skip"}, "unknown is about the items of histories"),
    ("/recommend", [1], "the body is not a JSON object that is sent"),
    ("/search", {"query": "  "}, "search: query must be text"),
    ("/search", {"query": "x" * 1001}, "search: query has 1,001 characters"),
    ("/similar", {"item": 7}, "similar_items: item must be an item token, found 7."),
    ("/explain", {"history": "i1", "item": "i2"}, "explain: history: expected a non-empty list of item tokens"),
]


@pytest.mark.parametrize(("path", "body", "words"), WRONG)
def test_wrong_input_is_told_in_words(client: TestClient, path: str, body: Any, words: str) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]


def test_wrong_addresses_and_rubbish_are_told_in_words(client: TestClient) -> None:
    rubbish = client.post("/recommend", content=b"\xff\x00{", headers={"content-type": "application/json"})
    assert (rubbish.status_code, rubbish.json()["detail"]) == (422, "the body is not valid JSON.")
    as_text = client.post("/recommend", content=b'{"histories": [["i1"]]}', headers={"content-type": "text/plain"})
    assert as_text.status_code == 422 and "content-type: application/json" in as_text.json()["detail"]
    assert client.get("/items", params={"q": "i", "limit": "1e3"}).status_code == 422
    assert client.get("/users/nobody").json() == {"detail": "user 'nobody' is not in the data set."}
    assert client.get("/nothing").json() == {"detail": "Not Found"}
    assert client.get("/recommend").status_code == 405


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_not_read_to_its_end(client: TestClient, chunked: bool) -> None:
    content = json.dumps({"histories": [["i1" * 20_000]]}).encode()
    sent: Any = (content[start : start + 4_000] for start in range(0, len(content), 4_000)) if chunked else content
    answer = client.post("/recommend", content=sent, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.json() == {"detail": "the body is larger than 16 KiB (option serve_body_kb of the server)."}


def test_a_mistake_of_ours_is_a_500_that_shows_nothing(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    answer = client.post("/search", json={"query": "break"})
    assert (answer.status_code, answer.json()) == (500, {"detail": "the server failed; its log says why."})
    assert client.post("/search", json={"query": "go on", "k": 1}).status_code == 200


def test_a_full_queue_is_a_503_with_a_time_to_come_back() -> None:
    with client_of({"run": FakeRecommender()}, serve_queue=1) as client:
        answer = client.post("/recommend", json={"histories": [["i1"], ["i2"]]})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_nothing_is_fetched_from_elsewhere_and_no_other_page_reaches_the_server(client: TestClient) -> None:
    for path in ("/", "/page.js", "/page.css", "/docs", "/health"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "access-control-allow-origin" not in client.get(path, headers={"origin": "http://evil"}).headers
        links = answer.text.replace("http://www.w3.org", "")
        assert "http://" not in links and "https://" not in links
    rebound = client.get("/health", headers={"host": "evil.example:8000"})
    assert rebound.status_code == 421 and "option serve_host" in rebound.json()["detail"]
    assert client.get("/health", headers={"host": "localhost:1"}).status_code == 200
    assert client.get("/health", headers={"host": "[::1]:8000"}).status_code == 200


def test_a_server_for_others_answers_to_any_name() -> None:
    with client_of({"run": FakeRecommender()}, serve_host="0.0.0.0") as client:
        assert client.get("/health", headers={"host": "shop.example"}).status_code == 200


def test_the_interface_is_described_for_programs_and_for_people(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    paths = {"/recommend", "/search", "/similar", "/explain", "/items", "/users/{user}", "/health", "/metrics"}
    assert set(described["paths"]) == paths
    body = described["components"]["schemas"]["RecommendBody"]
    assert {"histories", "users"} <= body["properties"].keys() and body["properties"]["k"]["default"] == 10
    page = client.get("/docs").text
    assert all(path in page for path in paths) and "RecommendBody" in page and "Item tokens (raw ids)" in page


def test_it_counts_what_it_does() -> None:
    with client_of({"run": FakeRecommender()}) as client:
        for _ in range(2):
            client.post("/recommend", json={"histories": [["i1"], ["i2"]]})
        client.post("/recommend", json={})
        client.get("/" + ITEMS[0])
        lines = client.get("/metrics").text.splitlines()
    assert 'recbole_lcrec_requests_total{endpoint="/recommend",status="200"} 2.0' in lines
    assert 'recbole_lcrec_requests_total{endpoint="/recommend",status="422"} 1.0' in lines
    assert 'recbole_lcrec_requests_total{endpoint="other",status="404"} 1.0' in lines
    assert "recbole_lcrec_batch_questions_sum 4.0" in lines and "recbole_lcrec_batch_questions_count 2.0" in lines
    assert "recbole_lcrec_waiting_questions 0.0" in lines
