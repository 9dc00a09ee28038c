"""The page at `GET /`, in a real Chromium, against a small HTTP server that keeps the contract."""

import io
import json
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, expect, sync_playwright

PAGE = Path(__file__).parents[2] / "serve" / "page" / "index.html"
CSP = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src blob: data:; connect-src 'self'"
)
MODEL = "9f2c41d07be3a5586c1e" + "0" * 44
PREDICTIONS = [
    ("n02085620-Chihuahua", 0.9312),
    ("007.American_foxhound", 0.0421),
    ("Pug", 0.0187),
    ("n02097047-miniature_schnauzer", 0.0051),
    ("Beagle", 0.0004),
    ("Basenji", 0.0003),
]


def find_chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


CHROMIUM = find_chromium()
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH"
    ),
]


def answer(predictions: list[tuple[str, float]]) -> tuple[int, dict[str, Any]]:
    listed = [
        {"label": label, "index": index, "probability": probability}
        for index, (label, probability) in enumerate(predictions)
    ]
    return 200, {"predictions": listed, "model": MODEL}


@dataclass
class Peer:
    """What the server answers, set by a test, and what it was asked."""

    url: str = ""
    ping: tuple[int, dict[str, Any]] = (200, {})
    invocation: tuple[int, dict[str, Any]] | None = field(
        default_factory=lambda: answer(PREDICTIONS)
    )  # None: the connection is closed without an answer
    may_answer: threading.Event = field(default_factory=threading.Event)
    photos: list[tuple[str, str, bytes]] = field(default_factory=list)  # content type, accept, body


def handler_for(peer: Peer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            if self.path == "/demo/":
                self.reply(200, "text/html; charset=utf-8", PAGE.read_bytes())
            elif self.path == "/demo/ping":
                self.reply_json(*peer.ping)
            else:
                self.reply_json(404, {"error": "Nothing is here.", "request_id": "r-404"})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            peer.photos.append((self.headers["Content-Type"], self.headers["Accept"], body))
            peer.may_answer.wait(10)
            if self.path != "/demo/invocations":
                self.reply_json(404, {"error": "Nothing is here.", "request_id": "r-404"})
            elif peer.invocation is not None:
                self.reply_json(*peer.invocation)

        def reply_json(self, status: int, content: dict[str, Any]) -> None:
            self.reply(status, "application/json", json.dumps(content).encode())

        def reply(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", CSP)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    peer.may_answer.set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(peer))
    # Below a path prefix, as behind a proxy: the page must not ask for anything above it.
    peer.url = f"http://127.0.0.1:{server.server_port}/demo/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield peer
    peer.may_answer.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def page(browser: Browser, peer: Peer) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 900, "height": 900})
    page = context.new_page()
    page.set_default_timeout(10_000)
    yield page
    context.close()


def photo(name: str = "rex.png", color: str = "peru") -> FilePayload:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), color).save(file, "PNG")
    return {"name": name, "mimeType": "image/png", "buffer": file.getvalue()}


def choose(page: Page, *photos: FilePayload) -> None:
    page.locator("input[type=file]").set_input_files(list(photos))


def hand_over(page: Page, event: str, payload: FilePayload) -> None:
    """Drops or pastes the photo: the same DataTransfer that the browser would make of it."""
    page.evaluate(
        """([event, name, type, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], name, { type }));
            const options = { bubbles: true, cancelable: true };
            document.querySelector("#drop").dispatchEvent(event === "paste"
                ? new ClipboardEvent("paste", { ...options, clipboardData: data })
                : new DragEvent(event, { ...options, dataTransfer: data }));
        }""",
        [event, payload["name"], payload["mimeType"], list(payload["buffer"])],
    )


def test_shows_the_top_five_as_bars_after_a_file_is_chosen(page: Page, peer: Peer) -> None:
    page.goto(peer.url)
    choose(page, photo())

    rows = page.locator(".bars li")
    expect(rows.locator(".label")).to_have_text(
        ["Chihuahua", "American foxhound", "Pug", "miniature schnauzer", "Beagle"]
    )
    expect(rows.locator(".share")).to_have_text(["93.1 %", "4.2 %", "1.9 %", "0.5 %", "< 0.1 %"])
    expect(rows.first.locator(".label")).to_have_attribute("title", "n02085620-Chihuahua")
    expect(page.locator(".time")).to_have_text(re.compile(r"^\d+ ms$"))
    expect(page.locator("footer")).to_have_text("Model 9f2c41d07be3")
    expect(page.locator("#said")).to_have_text("rex.png: Chihuahua, 93.1 %")
    assert (
        page.locator(".photo img").evaluate(
            "image => image.decode().then(() => image.naturalWidth)"
        )
        == 40
    )
    widths = page.locator(".bar").evaluate_all(
        "bars => bars.map(bar => parseFloat(bar.firstChild.style.width))"
    )
    assert widths == pytest.approx([93.12, 4.21, 1.87, 0.51, 0.04])


def test_sends_the_bytes_of_the_file_as_they_are_with_its_type(page: Page, peer: Peer) -> None:
    page.goto(peer.url)
    sent = photo()
    unknown: FilePayload = {"name": "rex", "mimeType": "", "buffer": b"\x00\xff raw"}
    choose(page, sent)
    expect(page.locator(".time")).to_have_text(re.compile(r"ms$"))
    hand_over(page, "drop", unknown)
    expect(page.locator(".time").first).to_have_text(re.compile(r"ms$"))
    assert peer.photos == [
        ("image/png", "application/json", sent["buffer"]),
        ("application/octet-stream", "application/json", unknown["buffer"]),
    ]


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_takes_a_photo_that_is_dropped_or_pasted(page: Page, peer: Peer, event: str) -> None:
    page.goto(peer.url)
    if event == "drop":
        hand_over(page, "dragover", photo())
        expect(page.locator("#drop")).to_have_class("over")
    hand_over(page, event, photo("dropped.png"))
    expect(page.locator(".card .name")).to_have_text("dropped.png")
    expect(page.locator(".label").first).to_have_text("Chihuahua")
    expect(page.locator("#drop")).not_to_have_class("over")
    assert page.url == peer.url


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_opens_the_file_chooser_from_the_keyboard(page: Page, peer: Peer, key: str) -> None:
    # Choosers are intercepted from here on; asking only just before the key can be too late.
    page.on("filechooser", lambda chooser: None)
    page.goto(peer.url)
    page.keyboard.press("Tab")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press(key)
    chooser.value.set_files([photo()])
    expect(page.locator(".label").first).to_have_text("Chihuahua")


def test_sends_several_photos_one_after_the_other_and_puts_the_newest_on_top(
    page: Page, peer: Peer
) -> None:
    page.goto(peer.url)
    peer.may_answer.clear()
    choose(page, photo("one.png"), photo("two.png"), photo("three.png"))
    expect(page.locator(".card .name")).to_have_text(["three.png", "two.png", "one.png"])
    expect(page.locator(".time")).to_have_text(["waiting", "waiting", "looking…"])
    page.wait_for_timeout(200)
    assert len(peer.photos) == 1
    peer.may_answer.set()
    expect(page.locator(".time")).to_have_text([re.compile(r"ms$")] * 3)


def test_shows_the_sentence_of_the_server_for_an_error(page: Page, peer: Peer) -> None:
    sentence = "This is no photo: it holds text. <b>Send a JPEG.</b>"
    peer.invocation = 415, {"error": sentence, "request_id": "req-4711"}
    page.goto(peer.url)
    choose(page, photo())
    expect(page.locator(".card .why")).to_have_text(sentence)
    expect(page.locator(".card .request")).to_have_text("Request req-4711")
    expect(page.locator(".bars")).to_be_hidden()

    peer.invocation = answer(PREDICTIONS)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".label").first).to_have_text("Chihuahua")
    expect(page.locator(".note")).to_be_hidden()


def test_says_so_when_the_server_goes_away_and_goes_on_when_it_is_back(
    page: Page, peer: Peer
) -> None:
    page.goto(peer.url)
    expect(page.locator("#status")).to_have_text("Ready")
    peer.invocation = None
    peer.ping = 503, {"error": "The server restarts."}
    choose(page, photo("first.png"), photo("second.png"))
    expect(page.locator(".card .why").last).to_contain_text("The server did not answer")
    expect(page.locator("#status")).to_have_text("Loading the model… The server restarts.")
    expect(page.locator(".time").first).to_have_text("waiting")

    peer.invocation = answer(PREDICTIONS)
    peer.ping = 200, {}
    expect(page.locator("#status")).to_have_text("Ready")
    expect(page.locator(".time").first).to_have_text(re.compile(r"ms$"))


def test_waits_while_the_server_loads(page: Page, peer: Peer) -> None:
    peer.ping = 503, {"error": "The network is being compiled."}
    page.goto(peer.url)
    expect(page.locator("#status")).to_have_text(
        "Loading the model… The network is being compiled."
    )
    choose(page, photo())
    expect(page.locator(".time")).to_have_text("waiting")
    page.wait_for_timeout(300)
    assert peer.photos == []

    peer.ping = 200, {}
    expect(page.locator("#status")).to_have_text("Ready")
    expect(page.locator(".label").first).to_have_text("Chihuahua")


def test_a_label_with_html_in_it_stays_text(page: Page, peer: Peer) -> None:
    label = "<img src=x onerror='document.title=1'><b>bold</b>"
    peer.invocation = answer([(label, 1.0)])
    page.goto(peer.url)
    choose(page, photo())
    expect(page.locator(".label").first).to_have_text(label)
    assert page.locator(".bars img, .bars b").count() == 0
    assert page.title() == "Kennel"


@pytest.mark.parametrize(
    "content",
    [{}, {"predictions": []}, {"predictions": "x"}, {"predictions": [None]}, {"predictions": [{}]}],
)
def test_says_so_when_an_answer_is_not_as_agreed(
    page: Page, peer: Peer, content: dict[str, Any]
) -> None:
    peer.invocation = 200, content
    page.goto(peer.url)
    choose(page, photo())
    expect(page.locator(".card .why")).to_have_text("The server's answer could not be understood.")


def test_keeps_at_most_fifty_cards_and_frees_the_photos_of_the_others(
    page: Page, peer: Peer
) -> None:
    page.add_init_script(
        """window.held = new Set();
        const { createObjectURL, revokeObjectURL } = URL;
        URL.createObjectURL = (file) => {
            const url = createObjectURL(file);
            held.add(url);
            return url;
        };
        URL.revokeObjectURL = (url) => { held.delete(url); revokeObjectURL(url); };"""
    )
    page.goto(peer.url)
    choose(page, *(photo(f"{number}.png") for number in range(53)))
    expect(page.locator(".card")).to_have_count(50)
    expect(page.locator(".card .name").first).to_have_text("52.png")
    assert page.evaluate("held.size") == 50
    page.get_by_role("button", name="Remove 52.png").click()
    expect(page.get_by_role("button", name="Remove 51.png")).to_be_focused()
    assert page.evaluate("held.size") == 49
    expect(page.locator(".time")).to_have_text([re.compile(r"ms$")] * 49)


@pytest.mark.parametrize("width", [360, 900])
@pytest.mark.parametrize(
    "invocation",
    [
        answer([("A_very_long_label_" * 8, 0.5), *PREDICTIONS]),
        answer(PREDICTIONS[:2]),
        (413, {"error": "This photo is too large.", "request_id": "r-1"}),
    ],
    ids=["five labels", "two labels", "error"],
)
def test_nothing_moves_when_an_answer_comes_and_nothing_is_wider_than_the_screen(
    page: Page, peer: Peer, width: int, invocation: tuple[int, dict[str, Any]]
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    peer.invocation = invocation
    peer.ping = 503, {"error": "The network is being compiled for this processor. " * 5}
    page.goto(peer.url)
    choose(page, photo("a-very-long-file-name-" * 8 + ".png"))
    expect(page.locator("#status")).to_contain_text("Loading")
    expect(page.locator(".time")).to_have_text("waiting")
    places = "nodes => nodes.map(node => JSON.stringify(node.getBoundingClientRect()))"
    parts = page.locator("header, main, .card, .photo, .body, footer")
    before = parts.evaluate_all(places)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    peer.ping = 200, {}
    expect(page.locator("#said p")).to_have_count(1)
    expect(page.locator("#status")).to_have_text("Ready")
    assert parts.evaluate_all(places) == before
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_makes_no_request_to_any_other_origin_and_logs_no_console_error(
    page: Page, peer: Peer
) -> None:
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(peer.url)
    choose(page, photo())
    expect(page.locator(".label").first).to_have_text("Chihuahua")
    page.get_by_role("button", name="Remove rex.png").click()
    expect(page.locator(".card")).to_have_count(0)

    asked = {url for url in requests if not url.startswith(("blob:", "data:"))}
    assert asked == {peer.url, f"{peer.url}ping", f"{peer.url}invocations"}
    assert complaints == []
