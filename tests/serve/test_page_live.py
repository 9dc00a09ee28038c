"""The demo page from the real server, in a real Chromium: a photo in, bars out."""

import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.conftest import TrainedJob
from tests.serve.server_process import Server, serving

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH"
    ),
]


@pytest.fixture
def server(trained_job: TrainedJob, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("page") / "log"
    with serving(trained_job.model_dir, log) as server:
        yield server


def test_a_chosen_photo_is_answered_with_bars(server: Server, trained_job: TrainedJob) -> None:
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(server.url)
        expect(page.locator("#status")).to_have_text("Ready")
        page.locator("input[type=file]").set_input_files(trained_job.photos / "test/green/0.jpg")
        expect(page.locator(".bars li .label")).to_have_count(3)
        expect(page.locator(".bars li .label").first).to_have_text("green")
        expect(page.locator(".time")).to_have_text(re.compile(r"^\d+ ms$"))

        page.locator("input[type=file]").set_input_files(
            {"name": "notes.jpg", "mimeType": "image/jpeg", "buffer": b"no photo"}
        )
        expect(page.locator(".card .why").first).to_contain_text(
            "is not an image of a kind we read"
        )
        browser.close()
    refusals = [text for text in complaints if "400 (Bad Request)" in text]
    assert complaints == refusals
