"""The play page in a real browser: headless Chromium, driven by Playwright."""

import os
import shutil
import time

import numpy as np
import pytest
from toy_scene import SIDE, ToySimulator, serving, toy_scene

from experiments.play import controls, downloads
from world_models.core.types import ActionSpec
from world_models.data.stored_episodes import Episodes

playwright = pytest.importorskip("playwright.sync_api", reason="the extra 'dev' brings Playwright")
BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(not BROWSER, reason="no Chromium here: install Debian's package or set CHROMIUM")
RED = "Array.from(document.getElementById('model').getContext('2d').getImageData(0, 0, 16, 16).data)"


@pytest.fixture(scope="module")
def address():
    with serving(toy_scene(ToySimulator), max_players=3) as (where, players):
        players.warm()
        yield where


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


@pytest.fixture
def page(browser, address):
    yield from opened(browser, address, viewport={"width": 1280, "height": 900})


def opened(browser, address, **options):
    """A page that has begun; fails at any error in it and at any request to another host."""
    context = browser.new_context(accept_downloads=True, **options)
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if is_error(message) else None)
    page.on("request", lambda request: wrong.append(request.url) if f"//{address}/" not in request.url else None)
    page.goto(f"http://{address}/")
    page.wait_for_selector("body[data-tick]")
    yield page
    context.close()
    assert wrong == []


def is_error(message):
    """Whether a line of the console is an error; an upload that the server turns down is logged as one as well."""
    return message.type == "error" and "422" not in message.text


def column(page):
    """Where the model's canvas is bright."""
    pixels = np.array(page.evaluate(RED), np.uint8).reshape(SIDE, SIDE, 4)
    return int(pixels[0, :, 0].argmax())


def wait(page, expression, seconds=30):
    """Waits until an expression is true; Playwright's own way evaluates text in the page, which its policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(20)


def at(page, depth):
    wait(page, f"document.body.dataset.depth === '{depth}'")


def test_keys_move_the_model_as_they_should(page):
    assert page.title() == "Play: toy"
    assert column(page) == 0
    page.keyboard.down("2")  # right
    for depth in (1, 2, 3):
        page.keyboard.press(".")
        at(page, depth)
    assert column(page) == 3
    page.keyboard.up("2")
    page.keyboard.down("3")  # left
    page.keyboard.press(".")
    at(page, 4)
    assert column(page) == 2
    page.keyboard.up("3")
    page.keyboard.press("p")
    wait(page, "Number(document.body.dataset.depth) >= 20")
    assert column(page) == 2
    page.keyboard.press("p")
    page.wait_for_selector("body[data-playing=false]")
    assert float(page.inner_text("#fps")) > 0
    assert page.inner_text("#p50").endswith("ms")
    assert page.inner_text("#psnr").endswith("dB")
    assert page.locator("#chart path").count() == 1


def test_keys_that_are_held_together_are_the_action_that_combines_them(page):
    described = controls.describe(ActionSpec("discrete", 18), {"environment": "ALE/Boxing-v5"})
    names = [button["name"] for button in described["buttons"]]
    presses = [
        ["ArrowUp", 1],
        [" ", 1],
        ["ArrowLeft", 1],
        ["ArrowUp", 0],
        [" ", 0],
        ["ArrowRight", 1],
        ["ArrowLeft", 0],
    ]
    sent = page.evaluate(
        """async ([described, presses]) => {
            const { Controls } = await import("/static/controls.js"), sent = [];
            const made = new Controls(document.createElement("div"), described, (value) => sent.push(value));
            for (const [key, down] of presses) made.key({ key, target: document.body }, Boolean(down));
            made.release();
            return sent;
        }""",
        [described, presses],
    )
    expected = ["up", "up fire", "up left fire", "left fire", "left", "right", "coast"]
    assert [names[action] for action in sent] == expected  # left and right together are the newer of them


def test_the_mouse_holds_a_button_and_the_page_by_keyboard_alone_has_it_too(page):
    button = page.locator("#controls button").nth(1)
    button.hover()
    page.mouse.down()
    page.keyboard.press(".")
    at(page, 1)
    assert column(page) == 1
    assert button.get_attribute("aria-pressed") == "true"
    page.mouse.up()
    assert button.get_attribute("aria-pressed") == "false"
    page.locator("#play").focus()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent").startswith("action 1"):
            break
    page.keyboard.down("Enter")
    page.keyboard.press(".")
    at(page, 2)
    assert column(page) == 2
    page.keyboard.up("Enter")


def test_going_back_branches_and_futures(page):
    page.keyboard.down("2")
    for depth in (1, 2, 3, 4):
        page.keyboard.press(".")
        at(page, depth)
    page.keyboard.up("2")
    page.keyboard.press("Backspace")
    at(page, 3)
    page.keyboard.press("Backspace")
    at(page, 2)
    page.keyboard.press(".")
    at(page, 3)
    wait(page, "document.querySelectorAll('#branches li').length === 2")
    assert column(page) == 2
    page.locator("#branches button").first.click()
    at(page, 4)
    assert column(page) == 4
    page.fill("#set_horizon", "4")
    page.keyboard.press("Tab")
    page.locator("#futures").click()
    wait(page, "document.querySelectorAll('#future_list button').length === 8")
    page.locator("#future_list button").nth(1).click()
    at(page, 8)
    assert column(page) == 8
    page.locator("#starts button").nth(4).click()
    at(page, 0)
    wait(page, "document.querySelectorAll('#starts [aria-current=true]').length === 1")
    assert column(page) == 4


def test_recordings_are_downloaded_and_read_back(page, tmp_path):
    page.keyboard.press(".")
    at(page, 1)
    page.locator("#record").click()
    page.wait_for_selector("#record[aria-pressed=true]")
    page.keyboard.down("2")
    for depth in (2, 3, 4, 5):
        page.keyboard.press(".")
        at(page, depth)
    page.keyboard.up("2")
    with page.expect_download() as found:
        page.locator("#rlds").click()
    data = found.value.path().read_bytes()
    episodes = Episodes(str(downloads.read_back(data, tmp_path)), "train")
    assert episodes.lengths.tolist() == [5]
    assert episodes.read(0, 0, 5)["actions"][:4].tolist() == [1, 1, 1, 1]
    with page.expect_download() as found:
        page.locator("#mp4").click()
    assert found.value.suggested_filename == "play.mp4"


def test_an_upload_is_a_start_and_another_file_is_explained(page, tmp_path):
    from PIL import Image
    from toy_scene import frame_of

    Image.fromarray(frame_of(7)).save(tmp_path / "own.png")
    page.set_input_files("#upload", tmp_path / "own.png")
    wait(page, f"{RED}[28] === 255", 60)  # the red of column 7
    assert "trained on" in page.inner_text("#notice")
    (tmp_path / "no.png").write_text("no image")
    with page.expect_response("**/upload/*") as answer:
        page.set_input_files("#upload", tmp_path / "no.png")
    assert answer.value.status == 422
    wait(page, "document.getElementById('notice').textContent.includes('no image')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_axe_finds_nothing_serious(browser, address, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python brings axe-core")
    for page in opened(browser, address, viewport={"width": 360, "height": 740}, has_touch=True, color_scheme=scheme):
        page.locator("#controls button").nth(1).tap()
        page.locator("#futures").tap()
        wait(page, "document.querySelectorAll('#future_list button').length === 8")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        found = axe.Axe().run(page).response["violations"]
        assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []


def test_one_player_too_many_is_told_so(browser, address):
    pages = [browser.new_page() for _ in range(4)]
    for page in pages:
        page.goto(f"http://{address}/")
        page.wait_for_selector("body[data-tick], body[data-state=closed]")
    assert "all 3 places are taken" in pages[3].inner_text("#connection")
    for page in pages:
        page.close()
