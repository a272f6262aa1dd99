"""The page in a browser without a window: Debian's chromium and its driver, steered by selenium."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

for package in ("fastapi", "uvicorn", "prometheus_client", "selenium"):
    pytest.importorskip(package)

from fake_recommender import FakeRecommender, expected  # noqa: E402
from running import running  # noqa: E402
from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="needs chromium and chromedriver"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield made
    made.quit()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    with running({"first": FakeRecommender(), "second": FakeRecommender()}) as (_, port):
        browser.get(f"http://127.0.0.1:{port}/")
        wait(lambda: "first: Fake on none" in browser.find_element(By.ID, "about").text)
        yield browser
        assert [entry for entry in browser.get_log("browser") if "users/nobody" not in entry["message"]] == []
        browser.get("about:blank")


def wait(holds: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def texts(page: Any, selector: str) -> list[str]:
    """Read at once, because the page may replace what it shows at any time."""
    script = "return [...document.querySelectorAll(arguments[0])].map(one => one.innerText)"
    return list(page.execute_script(script, selector))


def press(page: Any, label: str) -> None:
    page.find_element(By.CSS_SELECTOR, f'button[aria-label="{label}"]').click()


def recommended(page: Any, history: list[str], lists: int = 2) -> Callable[[], bool]:
    wanted = [one.item for one in expected(history, 10)] * lists
    return lambda: texts(page, "#lists .facts > span:first-child") == wanted


def test_a_history_is_clicked_together_with_the_keyboard_alone(page: Any) -> None:
    words = page.find_element(By.ID, "words")
    words.send_keys("i1")
    wait(lambda: texts(page, "#find-status") == ["6 found"])
    words.send_keys(Keys.TAB)
    focused = page.switch_to.active_element
    assert focused.accessible_name == "Add Title of <b>i1</b>"  # titles are text, whatever they contain
    focused.send_keys(Keys.ENTER)
    wait(recommended(page, ["i1"]))
    press(page, "Add Title of <b>i12</b>")
    wait(recommended(page, ["i1", "i12"]))
    assert texts(page, "#history .facts") == ["i1", "i12"]
    assert "<a_1> <b_13>" in texts(page, "#lists .path") and texts(page, "#lists .both")
    assert texts(page, "#status") == ["After a history of 2 items"]
    remove = page.find_element(By.CSS_SELECTOR, "#history button")
    remove.send_keys(Keys.ENTER)
    wait(recommended(page, ["i12"]))
    assert page.switch_to.active_element.accessible_name == "Remove Title of <b>i12</b>"


def test_a_users_history_is_taken_and_an_unknown_user_told(page: Any) -> None:
    page.find_element(By.ID, "user").send_keys("nobody", Keys.ENTER)
    wait(lambda: texts(page, "#problem") == ["user 'nobody' is not in the data set."])
    page.find_element(By.ID, "user").clear()
    page.find_element(By.ID, "user").send_keys("u1", Keys.ENTER)
    wait(recommended(page, ["i3", "i4"]))
    assert not page.find_element(By.ID, "problem").is_displayed()


def test_why_a_wish_and_one_run_alone(page: Any) -> None:
    page.find_element(By.ID, "user").send_keys("u1", Keys.ENTER)
    wait(recommended(page, ["i3", "i4"]))
    press(page, "Why Title of <b>i8</b>?")
    wait(lambda: texts(page, ".why td:first-child") == ["<a_1>", "Title of <b>i3</b>", "Title of <b>i4</b>"])
    assert texts(page, ".why td:last-child")[0] == "red, saw (3 items: <i>Red</i> saw …)"
    press(page, "Why Title of <b>i8</b>?")
    wait(lambda: not texts(page, ".why"))
    page.find_element(By.ID, "query").send_keys("a red saw", Keys.ENTER)
    wait(lambda: texts(page, "#status") == ["For the wish “a red saw” and the history"])
    assert texts(page, "#lists .facts > span:first-child")[:2] == ["i0", "i1"]
    page.find_element(By.ID, "beside").click()
    wait(lambda: texts(page, "#lists h2") == ["first"])
    assert texts(page, "#lists .both") == []


def test_a_model_that_knows_users_alone_answers_for_a_loaded_user(browser: Any) -> None:
    with running({"bpr": FakeRecommender(reads_histories=False), "other": FakeRecommender()}) as (_, port):
        browser.get(f"http://127.0.0.1:{port}/")
        wait(lambda: "bpr: Fake" in browser.find_element(By.ID, "about").text)
        browser.find_element(By.ID, "user").send_keys("u1", Keys.ENTER)
        wait(recommended(browser, ["i3", "i4"]))
        assert len(texts(browser, 'button[aria-label^="Why"]')) == 10  # of the other run
        press(browser, "Remove Title of <b>i4</b>")
        wait(recommended(browser, ["i3"], lists=1))
        assert "Load a user's" in texts(browser, "#lists .warning")[0]
    with running({"bpr": FakeRecommender(reads_histories=False)}) as (_, port):
        browser.get(f"http://127.0.0.1:{port}/")
        wait(lambda: "interactions" in "".join(texts(browser, "#lists .facts")))
        assert not browser.find_element(By.ID, "words").is_displayed()
        browser.find_element(By.ID, "user").send_keys("u1", Keys.ENTER)
        wait(recommended(browser, ["i3", "i4"], lists=1))
        assert texts(browser, "#status") == ["For user u1"]
        assert texts(browser, "#lists button") == texts(browser, "#history button") == []


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_lies_beside_the_screen_and_everything_has_a_name(page: Any, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.find_element(By.ID, "words").send_keys("i1")
    page.find_element(By.ID, "user").send_keys("u1", Keys.ENTER)
    wait(recommended(page, ["i3", "i4"]))
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    controls = page.find_elements(By.CSS_SELECTOR, "button, input, select")
    assert len(controls) > 40 and all(one.accessible_name for one in controls if one.is_displayed())
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
